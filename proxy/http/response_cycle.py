"""A response with prepared header lines.

uvicorn checks each header with two regular expressions, which costs 0.7 us. The stage `limit` adds
up to twelve headers, which it makes of numbers.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from attrs import define
from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from proxy.http.disconnect import HEADER_LINES


class ResponseCycle(RequestResponseCycle):
    """One request and its response, whose head may have HEADER_LINES."""

    def send(self, message: Message) -> Coroutine[Any, Any, None]:  # type: ignore[override]
        """Send a message of the response."""
        lines = message.get(HEADER_LINES)
        # If the start of a response is cancelled before it is written, an error starts it again.
        if lines and not isinstance(self.transport, _HeadTransport):
            transport = _HeadTransport(self, self.transport, lines)
            self.transport = transport  # type: ignore[assignment]
        return super().send(message)  # type: ignore[arg-type]


@define(eq=False)
class _HeadTransport:
    """Adds `lines` to the head of a response, which is one write. Then it removes itself."""

    cycle: RequestResponseCycle
    transport: Any
    lines: bytes

    def write(self, data: bytes) -> None:
        self.cycle.transport = self.transport
        status_end = data.index(b"\r\n") + 2
        self.transport.write(b"".join((data[:status_end], self.lines, data[status_end:])))

    def close(self) -> None:
        self.transport.close()
