"""The body of a request, and how much of all bodies may be in memory.

A body in gzip is unpacked here and not in a stage, because here is where bytes are counted: its
unpacked bytes are what is in memory, and they are counted before there are many of them.
"""

from __future__ import annotations

from anyio.lowlevel import checkpoint
from attrs import define
from starlette.types import Receive

from proxy.gunzip import Gunzip
from proxy.http.disconnect import RequestSignals
from stages.messages_api.errors import OverloadedError, RequestTooLargeError


class ClientDisconnectedError(Exception):
    """The client left before its request was whole."""


@define
class BodyBudget:
    """How many bytes of bodies this process still takes.

    A body has its place from its first byte to the end of its request: until then it is in memory,
    as it came and translated. Who finds no place is refused and does not wait: bodies that are
    half there would wait for each other.
    """

    free: int


@define
class RequestBody:
    """The request's body."""

    receive: Receive
    departure: RequestSignals
    room: BodyBudget
    declared: int = 0
    """Bytes that the client has announced."""
    gzip: bool = False
    """Whether it arrives in gzip. All limits are for the unpacked bytes too."""
    _data: bytes | None = None
    _held: int = 0

    async def read(self, limit: int) -> bytes:
        """All of it, unpacked. Raises RequestTooLargeError as soon as it is over `limit` bytes.

        Raises another ApiError when there is no room or it does not come whole, or is not the gzip
        that it should be, and ClientDisconnectedError.
        """
        if self._data is not None:  # another stage has read it; nothing more would come
            self._check(len(self._data), limit)
            return self._data
        self._check(self.declared, limit)
        data = bytearray()  # a list of pieces of few bytes would take many times as much
        packed = Gunzip() if self.gzip else None
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnectedError
            if self.departure.error:
                raise self.departure.error
            more = message.get("more_body", False)
            part = message.get("body", b"")
            if packed is None:
                self._add(part, data, limit)
            else:
                await self._unpack(part, packed, data, limit)
        if packed is not None:
            packed.end()
        self._data = bytes(data)
        return self._data

    async def _unpack(self, part: bytes, packed: Gunzip, data: bytearray, limit: int) -> None:
        for piece in packed.unpack(part):
            self._check(packed.taken, limit)  # it may have much that unpacks to nothing
            self._add(piece, data, limit)
            await checkpoint()  # a few bytes can be many pieces

    def _add(self, part: bytes, data: bytearray, limit: int) -> None:
        data += part
        self._check(len(data), limit)
        self.room.free -= len(data) - self._held
        self._held = len(data)

    def release(self) -> None:
        """Give its place to others. To be called at the end of the request."""
        self.departure.error = None  # raised, it holds the frame of `read`, which holds all of this
        self.room.free += self._held
        self._held = 0

    def _check(self, size: int, limit: int) -> None:
        if size > limit:
            raise RequestTooLargeError(f"Request exceeds the maximum size of {limit} bytes")
        if size - self._held > self.room.free:
            raise OverloadedError(
                "the requests under way leave no room for this one's body; try again in a moment",
                headers={"retry-after": _RETRY_AFTER},
            )


_RETRY_AFTER = "5"  # seconds, as good a guess as any: answers take from one to some hundred
