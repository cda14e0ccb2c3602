"""The server's side of an ASGI app."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import Factory, define

from proxy.http.disconnect import HEADER_LINES, REQUEST_SIGNALS, RequestSignals


def part(data: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    """A piece of the body as a server gives it."""
    return {"type": "http.request", "body": data, "more_body": more}


DISCONNECT = {"type": "http.disconnect"}


@define(eq=False)
class Server:
    """The other side of an ASGI app. After `messages` nothing more comes."""

    messages: list[dict[str, Any]] = Factory(lambda: [part()])
    sent: list[dict[str, Any]] = Factory(list)
    signals: RequestSignals = Factory(RequestSignals)

    async def receive(self) -> dict[str, Any]:
        message = self.messages.pop(0)
        if message is DISCONNECT:
            self.signals.disconnect()
        return message

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        start = self.sent[0]
        headers = [(name.decode(), value.decode("latin-1")) for name, value in start["headers"]]
        lines = start.get(HEADER_LINES, b"").decode().splitlines()
        return dict([*headers, *(line.split(": ", 1) for line in lines)])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    def scope(self, headers: Sequence[tuple[str, str]] = (), **changes: Any) -> dict[str, Any]:
        """The scope of a request."""
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        usual = {"type": "http", "method": "POST", "path": "/v1/messages", "query_string": b""}
        return {**usual, "headers": raw, "state": {REQUEST_SIGNALS: self.signals}, **changes}
