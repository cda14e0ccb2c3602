"""The body of a request, and the budget for the bodies of all requests in flight.

A gzip body is decompressed here and not in a stage, because bytes are counted here: memory holds
the decompressed bytes, and they must be counted before there are many of them.
"""

from __future__ import annotations

from io import BytesIO

from anyio.lowlevel import checkpoint
from attrs import define
from starlette.types import Receive

from proxy.gzip_decoder import GzipDecoder
from proxy.http.disconnect import RequestSignals
from stages.messages_api.errors import OverloadedError, RequestTooLargeError


class ClientDisconnectedError(Exception):
    """The client disconnected before its request was complete."""


@define
class BodyBudget:
    """The bytes of request bodies that this process may still buffer.

    A body counts from its first byte to the end of its request. Until then it is in memory, both
    raw and translated. A request beyond the budget is refused and does not wait: half-read bodies
    would wait for each other.
    """

    free_bytes: int


@define
class RequestBody:
    """The body of one request."""

    receive: Receive
    signals: RequestSignals
    budget: BodyBudget
    content_length: int = 0
    """Bytes that the client has announced."""
    gzip: bool = False
    """Whether the body is compressed. All limits apply to the decompressed bytes too."""
    _data: bytes | None = None
    _counted: int = 0
    """Bytes taken from the budget."""

    async def read(self, limit: int) -> bytes:
        """Return the whole body, decompressed.

        Raises RequestTooLargeError as soon as it is longer than `limit` bytes, OverloadedError
        beyond the budget, another ApiError if it does not arrive whole or is not valid gzip, and
        ClientDisconnectedError.
        """
        if self._data is not None:  # another stage has read it; no more messages would arrive
            self._check(len(self._data), limit)
            return self._data
        self._check(self.content_length, limit)
        data = BytesIO()  # a list of short parts would take many times the memory
        gzip = GzipDecoder() if self.gzip else None
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnectedError
            if self.signals.body_error:
                raise self.signals.body_error
            more = message.get("more_body", False)
            part = message.get("body", b"")
            if gzip is None:
                self._add(part, data, limit)
            else:
                await self._decompress(part, gzip, data, limit)
        if gzip is not None:
            gzip.end()
        self._data = data.getvalue()
        return self._data

    async def _decompress(self, part: bytes, gzip: GzipDecoder, data: BytesIO, limit: int) -> None:
        for decompressed in gzip.decompress(part):
            self._check(gzip.bytes_in, limit)  # many bytes may decompress to none
            self._add(decompressed, data, limit)
            await checkpoint()  # a few bytes may decompress to many parts

    def _add(self, part: bytes, data: BytesIO, limit: int) -> None:
        size = self._counted + data.write(part)
        self._check(size, limit)
        self.budget.free_bytes -= size - self._counted
        self._counted = size

    def release(self) -> None:
        """Return the body's bytes to the budget. Called at the end of the request."""
        self.budget.free_bytes += self._counted
        self._counted = 0

    def _check(self, size: int, limit: int) -> None:
        if size > limit:
            raise RequestTooLargeError(f"Request exceeds the maximum size of {limit} bytes")
        if size - self._counted > self.budget.free_bytes:
            raise OverloadedError(
                "the bodies of other requests use up the proxy's memory limit; "
                "try again in a moment",
                headers={"retry-after": _RETRY_AFTER},
            )


_RETRY_AFTER = "5"  # seconds, a guess: responses take from one second to some hundred
