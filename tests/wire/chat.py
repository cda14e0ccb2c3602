"""What a backend says, as bytes on the wire: Chat Completions, streamed and whole."""

from __future__ import annotations

import json
from typing import Any


def head(status: int = 200, content_type: str = "text/event-stream", **headers: str) -> bytes:
    """A status line and headers, for a chunked body. `_` in a name becomes `-`."""
    lines = [f"HTTP/1.1 {status} Whatever", "transfer-encoding: chunked"]
    if content_type:
        lines.append(f"content-type: {content_type}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def http_chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


END = b"0\r\n\r\n"


def whole(status: int, body: Any, content_type: str = "application/json", **headers: str) -> bytes:
    """An unstreamed response. A body other than bytes becomes JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head(status, content_type, **headers) + (http_chunk(data) if data else b"") + END


def sse(*events: Any) -> bytes:
    """Chat Completions chunks as server-sent events, in one piece of a chunked body."""
    return http_chunk(b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in events))


DONE = http_chunk(b"data: [DONE]\n\n")


def delta(finish: str | None = None, **members: Any) -> dict[str, Any]:
    """A Chat Completions chunk."""
    return {"choices": [{"index": 0, "delta": members, "finish_reason": finish}]}


def call_deltas(call: dict[str, Any], index: int) -> list[dict[str, Any]]:
    """The chunks of a tool call, whose arguments come in two parts."""
    function, middle = call["function"], len(call["function"]["arguments"]) // 2
    first = {**call, "index": index, "function": {**function}}
    first["function"]["arguments"] = function["arguments"][:middle]
    second = {"index": index, "function": {"arguments": function["arguments"][middle:]}}
    return [delta(tool_calls=[first]), delta(tool_calls=[second])]


def completion(text: str = "Hello there") -> dict[str, Any]:
    """A Chat Completions answer that is no stream."""
    message = {"role": "assistant", "content": text}
    return {
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3},
    }


def streamed(*texts: str) -> bytes:
    """A whole stream of these texts."""
    deltas = [delta(content=text) for text in texts]
    return head() + sse(*deltas, delta("stop")) + DONE + END


HELLO = sse(delta(role="assistant", content="Hello"))


def error_json(message: str, **members: object) -> dict[str, object]:
    """An error as most backends put it."""
    return {"error": {"message": message, **members}}
