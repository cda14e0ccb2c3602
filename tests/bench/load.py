"""The client that makes the load, on one thread and few microseconds per answer."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from typing import cast
from urllib.parse import urlsplit

import httptools
from attrs import define, field, frozen

from tests.bench.bodies import KEY

_SENT_AT = re.compile(rb"(\d{19}) ")
_DIGITS = 19
#: Seconds between two clients that open a stream.
_APART = 0.002
#: Seconds that streams are let run before they are looked at.
_SETTLING = 0.4


def post(url: str, body: bytes) -> bytes:
    """A request to a Messages API, as bytes."""
    head = {
        "host": urlsplit(url).netloc,
        "x-api-key": KEY,
        "authorization": f"Bearer {KEY}",
        "anthropic-version": "2023-06-01",
        "content-type": "application/json",
        "content-length": str(len(body)),
    }
    lines = ["POST /v1/messages HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Caller(asyncio.Protocol):
    """One connection. It reports each part of a body, each complete response, and its loss."""

    def __init__(self, body: Callable[[bytes], None], answered: Callable[[Caller, int], None]):
        self.on_body = body
        self._answered = answered
        self._parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._answered(self, self._parser.get_status_code())

    def connection_lost(self, error: Exception | None) -> None:
        self._answered(self, 0)

    @classmethod
    async def connect(
        cls, url: str, body: Callable[[bytes], None], answered: Callable[[Caller, int], None]
    ) -> Caller:
        """A new connection to where `url` says."""
        parts = urlsplit(url)
        loop = asyncio.get_running_loop()
        address = (parts.hostname or "", parts.port or 80)
        _, made = await loop.create_connection(lambda: cls(body, answered), *address)
        return made


@frozen
class Repeated:
    """The responses to repeated requests within `seconds`."""

    answers: int
    failed: int
    seconds: float


async def repeat(
    url: str, bodies: Iterable[bytes], expected: bytes, connections: int, seconds: float
) -> Repeated:
    """Send requests on each of the connections, the next one after each response."""
    requests = iter(bodies)
    answers, failed, open_ = 0, 0, set[Caller]()
    pieces: dict[Caller, list[bytes]] = {}
    over = asyncio.Event()

    def answered(caller: Caller, status: int) -> None:
        nonlocal answers, failed
        if caller not in open_:
            return
        whole = b"".join(pieces[caller])
        pieces[caller].clear()
        right = status == 200 and expected in whole
        answers, failed = answers + right, failed + (not right)
        if status and time.monotonic() < end:
            caller.transport.write(post(url, next(requests)))
        else:
            open_.discard(caller)
            if not open_:
                over.set()

    for _ in range(connections):
        parts: list[bytes] = []
        caller = await Caller.connect(url, parts.append, answered)
        pieces[caller] = parts
    open_ |= pieces.keys()
    begin = time.monotonic()
    end = begin + seconds
    for caller in pieces:
        caller.transport.write(post(url, next(requests)))
    await asyncio.wait_for(over.wait(), seconds + 60)
    took = time.monotonic() - begin
    for caller in pieces:
        caller.transport.close()
    return Repeated(answers, failed, took)


@define
class Stream:
    """What arrives of one paced stream: how late each of its deltas is, in nanoseconds."""

    late: list[int]
    tail: bytes = b""
    over: asyncio.Event = field(factory=asyncio.Event)
    whole: bool = False

    def more(self, data: bytes) -> None:
        """A piece of the body."""
        now = time.monotonic_ns()
        data = self.tail + data
        end = 0
        for found in _SENT_AT.finditer(data):
            self.late.append(now - int(found[1]))
            end = found.end()
        self.tail = data[max(end, len(data) - _DIGITS) :]

    def answered(self, caller: Caller, status: int) -> None:
        """The response is complete, or the connection is lost."""
        self.whole = self.whole or status == 200
        self.over.set()


@frozen
class Paced:
    """What was seen of many streams in a time in which all were open; `late` in nanoseconds."""

    late: list[int]
    seconds: float
    whole: int


async def paced(
    url: str, body: bytes, streams: int, seconds: float, look: Callable[[], None]
) -> Paced:
    """Open `streams` streams, watch them for `seconds`, and wait for their end.

    `look` is called at the begin and at the end of the watch.
    """
    request = post(url, body)
    late: list[int] = []
    opened: list[tuple[Caller, Stream]] = []
    for _ in range(streams):
        stream = Stream(late)
        caller = await Caller.connect(url, stream.more, stream.answered)
        caller.transport.write(request)
        opened.append((caller, stream))
        await asyncio.sleep(_APART)
    await asyncio.sleep(_SETTLING)
    look()
    begin, first = time.monotonic(), len(late)
    await asyncio.sleep(seconds)
    look()
    seen, took = late[first:], time.monotonic() - begin
    for _, stream in opened:
        try:
            await asyncio.wait_for(stream.over.wait(), 30)
        except TimeoutError:
            break  # too slow by far; the rest would be, too
    for caller, _ in opened:
        caller.transport.abort()
    return Paced(seen, took, sum(stream.whole for _, stream in opened))
