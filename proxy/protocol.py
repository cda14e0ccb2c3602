"""HTTP/1.1 as uvicorn speaks it with httptools, with two faults mended.

- A client that offers HTTP/2 (`Upgrade: h2c`: Java's HttpClient, `curl --http2`) lost its body:
  the parser stops behind the head and waits for the other protocol. The offer is taken out.
  It has to come whole in the packet that begins the request, as these clients send it.
- Bytes that are no HTTP were answered with plain text instead of the API's error.

Pinned to uvicorn's attribute `cycle`; tests on sockets tell if it changes.
"""

from __future__ import annotations

import re

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from stages.wire.errors import InvalidRequestError
from stages.wire.ids import new_request_id
from stages.wire.json import encode

_UPGRADE = re.compile(rb"\r\nupgrade(?=[ \t]*:)", re.IGNORECASE)


class HttpProtocol(HttpToolsProtocol):
    """One connection of a client."""

    def data_received(self, data: bytes) -> None:
        if self.cycle is None or self.cycle.response_complete:  # a request begins
            head, end, rest = data.partition(b"\r\n\r\n")
            if _UPGRADE.search(head):
                data = _UPGRADE.sub(b"\r\nx-refused-upgrade", head) + end + rest
        super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        request_id = new_request_id()
        body = encode(InvalidRequestError(msg).body(request_id))
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nrequest-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
