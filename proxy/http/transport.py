"""A transport wrapper for the last response on a connection, and a measure of unread output.

uvicorn closes the connection right after the last response. If the client is still sending the
body of a refused request, the system then answers with a reset, which can destroy the response.
ClosingTransport sends the end of the stream instead, and the client closes (or HttpProtocol aborts
the connection after a timeout).

uvicorn also sends chunked responses to HTTP/1.0 clients, which do not know chunks. To them the
connection's end is the response's end (RFC 9112, 6.1 and 6.3).
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable
from http import HTTPStatus

from attrs import define

from stages.messages_api.errors import ApiError
from stages.wire.json_codec import encode

_CHUNKED = b"transfer-encoding: chunked\r\n"


@define(eq=False)
class ClosingTransport:
    """The methods of a transport that uvicorn's cycle calls.

    `accepts_chunked`: whether the client does. `discard_unread_body` is called at the end: it
    returns whether the client is still sending, and makes the protocol ignore what follows.
    """

    transport: asyncio.Transport
    accepts_chunked: bool
    discard_unread_body: Callable[[], bool]
    _removing_chunks: bool = False

    def is_closing(self) -> bool:
        """Return the transport's state."""
        return self.transport.is_closing()

    def write(self, data: bytes) -> None:
        """Write a head or a part of a body, which is at most one chunk."""
        if self._removing_chunks:
            size, _, chunk = data.partition(b"\r\n")
            data = chunk[: int(size or b"0", 16)]
        elif not self.accepts_chunked and _CHUNKED in data:
            self._removing_chunks = True
            data = data.replace(_CHUNKED, b"")
        self.transport.write(data)

    def close(self) -> None:
        """Close the connection, or let the client close it if it is still sending."""
        if self.discard_unread_body():
            self.transport.write_eof()
        else:
            self.transport.close()


def error_response(error: ApiError, request_id: str) -> bytes:
    """Return a whole HTTP response that closes the connection."""
    body = encode(error.body(request_id))
    head = (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\nrequest-id: {request_id}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


def unacknowledged_bytes(transport: asyncio.Transport) -> int:
    """Count the bytes in the write buffer, and on Linux those in the system's send buffer.

    The write buffer alone does not show that a slow client reads: the system takes more only when
    a third of its own buffer is free, which takes minutes for some megabytes.
    """
    unsent = transport.get_write_buffer_size()
    try:
        descriptor = transport.get_extra_info("socket").fileno()
        (queued,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))
    except (OSError, ValueError):  # closed, or another system
        queued = 0
    return unsent + int(queued)
