"""HTTP/1.1 as uvicorn speaks it with httptools, which also tells when a client leaves.

Four of its faults are mended:

- A client that offers HTTP/2 (`Upgrade: h2c`: Java's HttpClient, `curl --http2`) lost its body:
  the parser stops behind the head and waits for the other protocol. The offer is taken out.
  It has to come whole in the packet that begins the request, as these clients send it.
- Bytes that are no HTTP were answered with plain text instead of the API's error.
- Of pipelined requests only the last one was told that the client had left.
- It stops reading while much of a body waits to be taken, and goes on only when the application
  asks for more. With the last of a body nobody does; then nobody would see the client leave.

Pinned to uvicorn's attribute `cycle` and its cycles; tests on sockets tell if they change.
"""

from __future__ import annotations

import re

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from proxy.edge import DEPARTURE, Departure
from stages.wire.errors import InvalidRequestError
from stages.wire.ids import new_request_id
from stages.wire.json import encode

_UPGRADE = re.compile(rb"\r\nupgrade(?=[ \t]*:)", re.IGNORECASE)

# Of one connection. Beyond, it is not read any further until one of them is answered.
_MAX_WAITING = 8


class HttpProtocol(HttpToolsProtocol):
    """One connection of a client."""

    _cycles: tuple[RequestResponseCycle, ...] = ()
    """Requests that are not answered yet."""

    def data_received(self, data: bytes) -> None:
        if self.cycle is None or self.cycle.response_complete:  # a request begins
            head, end, rest = data.partition(b"\r\n\r\n")
            if _UPGRADE.search(head):  # of the same length: it may be the rest of a refused body
                data = _UPGRADE.sub(b"\r\nrefused", head) + end + rest
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][DEPARTURE] = Departure()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._cycles = (*self._unanswered(), self.cycle)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if len(self.pipeline) < _MAX_WAITING:
            self.flow.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for cycle in self._unanswered():
            cycle.disconnected = True
            cycle.message_event.set()
            cycle.scope["state"][DEPARTURE].happens()

    def _unanswered(self) -> list[RequestResponseCycle]:
        return [cycle for cycle in self._cycles if not cycle.response_complete]

    def send_400_response(self, msg: str) -> None:
        request_id = new_request_id()
        body = encode(InvalidRequestError(msg).body(request_id))
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nrequest-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
