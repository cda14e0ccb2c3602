"""The transport as the last answer of a connection is written to it.

uvicorn closes the connection behind it at once. While the client still sends the body of a request
that is refused, the system would answer that with a reset, which can take the answer from the
client. So the end is told to it, and it is the client who closes (or HttpProtocol gives it up).

And uvicorn sends answers in chunks to clients of HTTP/1.0, who do not know them: theirs end where
the connection does (RFC 9112, 6.1 and 6.3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from attrs import define

_CHUNKED = b"transfer-encoding: chunked\r\n"


@define(eq=False)
class ClosingTransport:
    """What uvicorn's cycle needs of a transport.

    `knows_chunks` is whether the client does; `refuse_rest` is asked at the end, and tells whether
    there is a rest that the client is sending.
    """

    transport: asyncio.Transport
    knows_chunks: bool
    refuse_rest: Callable[[], bool]
    _in_chunks: bool = False

    def is_closing(self) -> bool:
        """As the transport's."""
        return self.transport.is_closing()

    def write(self, data: bytes) -> None:
        """Write a head or a piece of a body, of which there is one chunk at most."""
        if self._in_chunks:
            size, _, rest = data.partition(b"\r\n")
            data = rest[: int(size or b"0", 16)]
        elif not self.knows_chunks and _CHUNKED in data:
            self._in_chunks = True
            data = data.replace(_CHUNKED, b"")
        self.transport.write(data)

    def close(self) -> None:
        """Close it, or let the client do so."""
        if self.refuse_rest():
            self.transport.write_eof()
        else:
            self.transport.close()
