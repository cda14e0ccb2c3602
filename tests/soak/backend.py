"""The backend of a soak: it answers, or fails as the prompt says."""

from __future__ import annotations

import asyncio
import json
import re


def _event(content: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"choices": [choice]}).encode()


def _answer(data: bytes, kind: str = "text/event-stream", status: int = 200, cut: int = 0) -> bytes:
    """A response whose last `cut` bytes are missing."""
    length = len(data) + cut
    top = f"HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
    return top.encode() + data


_TEXT = b"".join(_event(f"word {n} ") for n in range(8))
_MESSAGE = {"role": "assistant", "content": "Hello"}
_WHOLE = json.dumps({"choices": [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}]})
STREAM = _answer(_TEXT + _event("", "stop") + b"data: [DONE]\n\n")
WHOLE = _answer(_WHOLE.encode(), "application/json")
#: The bytes that replace a response, and whether the connection is closed after them.
FAULTS: dict[str, tuple[bytes, bool]] = {
    "closed": (b"", True),
    "half-a-head": (b"HTTP/1.1 200 OK\r\ncont", True),
    "no-http": (b"\0\1\2\r\n\r\n", True),
    "cut": (_answer(_TEXT, cut=99), True),
    "html": (_answer(b"<html>", "text/html"), False),
    "broken-json": (_answer(b"data: {\n\n"), False),
    "early-end": (_answer(_TEXT), False),
    "error-event": (_answer(_TEXT + b'data: {"error": {"message": "No"}}\n\n'), False),
    "error-400": (_answer(b'{"error": {"message": "No"}}', "application/json", 400), False),
    "error-429": (_answer(b"", "text/plain", 429), False),
    "error-500": (_answer(b"x" * 5000, "text/plain", 500), True),
    "silent": (_answer(_TEXT, cut=99), False),
}
_ASKED = re.compile(rb"fault=([\w-]+)")


class Backend(asyncio.Protocol):
    """One connection. The prompt names the fault."""

    def __init__(self) -> None:
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        top, end, body = self.data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", top, re.IGNORECASE)
        if not end or not length or len(body) < int(length[1]):
            return
        self.data = b""
        if fault := _ASKED.search(body):
            said, closes = FAULTS[fault[1].decode()]
            self.transport.write(said)
            if closes:
                self.transport.close()
        else:
            self.transport.write(STREAM if b'"stream":true' in body else WHOLE)
