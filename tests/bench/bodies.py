"""What clients ask and what the fake backend answers, as bytes.

All that is measured gets the same requests: the floor passes them on unread, and the fake
backend looks for nothing in them but the model's name.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

KEY = "sk-bench"

SHORT = "bench-short"
"""The model that gives one short answer, which is no stream."""
BURST = "bench-burst"
"""The model that gives a stream of 200 chunks, all at once."""
PACED = "bench-paced"
"""The model that gives a stream of one chunk each 20 ms, each with the time it was sent at."""
MODELS = (SHORT, BURST, PACED)

CHUNKS = 200
TICK = 0.02
"""Seconds between two chunks of a paced stream."""

# ---- requests ----


def hello(model: str) -> bytes:
    """A small request."""
    messages = [{"role": "user", "content": "Hello, how are you?"}]
    asked = {"model": model, "max_tokens": 1024, "stream": model != SHORT}
    return json.dumps({**asked, "system": "You are helpful.", "messages": messages}).encode()


def conversation(size: int = 150_000) -> bytes:
    """A request as coding agents send it: 20 tools, and for each 150 KB 60 messages."""
    pairs = 30 * size // 150_000
    system = [{"type": "text", "text": _prose(12_000), "cache_control": {"type": "ephemeral"}}]
    whole = {"model": SHORT, "max_tokens": 32_000, "system": system, "tools": _tools()}
    budget = size - len(json.dumps(whole)) - 460 * pairs
    messages: list[dict[str, Any]] = [{"role": "user", "content": _prose(80)}]
    for n in range(pairs):
        messages += _turn(n, max(1, budget // pairs))
    return json.dumps({**whole, "messages": messages}).encode()


def grown(size: int) -> Iterator[bytes]:
    """A conversation of about `size` bytes. Each body has one turn that was never sent before.

    After some turns the conversation starts again, so that fast and slow targets get the same
    sizes.
    """
    begin = conversation(size - _TURNS * _TURN_BYTES // 2)
    yield begin
    numbers = itertools.count(10_000)
    while True:
        body = begin
        for number in itertools.islice(numbers, _TURNS):
            turn = json.dumps(_turn(number, 500))
            body = body.removesuffix(b"]}") + f", {turn[1:-1]}]}}".encode()
            yield body


#: Turns that `grown` adds before it starts again, and the bytes of each.
_TURNS, _TURN_BYTES = 20, 950


def renewed(size: int) -> Iterator[bytes]:
    """Conversations that have no message, tool or system prompt in common.

    Nor do those of another call: a target would know them again in its second round.
    """
    body = conversation(size)
    for number in _RENEWED:
        yield body.replace(_WORDS, b"of a fi%05d" % number)


_RENEWED = itertools.count()
_WORDS = b"of the file."


def _turn(number: int, result_size: int) -> list[dict[str, Any]]:
    """The assistant reads a file, and is given it."""
    path = f"/home/someone/project/module_{number}.py"
    call = {"type": "tool_use", "id": f"toolu_{number}", "name": f"tool_{number % 20}"}
    said = [{"type": "text", "text": _prose(80)}, {**call, "input": {"file_path": path}}]
    file = _prose(result_size * 20 // 21)  # its quotes and line ends take two bytes
    result = {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": file}
    return [{"role": "assistant", "content": said}, {"role": "user", "content": [result]}]


def _tools() -> list[dict[str, Any]]:
    properties = {
        "file_path": {"type": "string", "description": "The absolute path of the file"},
        "limit": {"type": "integer", "description": "How many lines to read"},
        "mode": {"type": "string", "enum": ["whole", "part"], "description": "How much"},
        "edits": {"type": "array", "items": {"type": "object", "additionalProperties": False}},
    }
    schema = {"type": "object", "properties": properties, "required": ["file_path"]}
    return [
        {"name": f"tool_{n}", "description": _prose(1_000), "input_schema": schema}
        for n in range(20)
    ]


def _prose(size: int) -> str:
    line = 'def parse(line: str) -> dict[str, int]:\n    """Reads a "line" of the file."""\n'
    return (line * (size // len(line) + 1))[:size]


# ---- answers ----


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    """A chunk of a Chat Completions stream, as a server-sent event."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _event({**_HEAD, "choices": [choice]})


def last_chunks(tokens: int) -> list[bytes]:
    """What ends a stream."""
    usage = {**_HEAD, "choices": [], "usage": _usage(tokens)}
    return [chunk({}, "stop"), _event(usage), b"data: [DONE]\n\n"]


def completion() -> bytes:
    """The unstreamed response."""
    message = {"role": "assistant", "content": "Hello! How can I help you today?"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    whole = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m"}
    return json.dumps({**whole, "choices": [choice], "usage": _usage(8)}).encode()


FIRST_CHUNK = {"role": "assistant", "content": ""}
EXPECTED = {SHORT: b"How can I help", BURST: b" token199"}
"""A part of each complete response."""

_HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": tokens + 10}


def _event(body: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(body, separators=(",", ":")).encode()
