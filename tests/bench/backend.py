"""The fake backend: Chat Completions with canned answers, or paced by a clock.

    python -m tests.bench.backend PORT

The model's name, anywhere in the body, selects the response.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from functools import cache
from typing import cast

import httptools

from tests.bench.bodies import (
    BURST,
    CHUNKS,
    FIRST_CHUNK,
    MODELS,
    SHORT,
    TICK,
    chunk,
    completion,
    last_chunks,
)

#: Paced streams send at this number of moments in each tick, as real streams do not coincide.
SUB_TICKS = 10
_STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_END = b"0\r\n\r\n"


class FakeBackend(asyncio.Protocol):
    """One connection. `clock` paces its streams; without one there are only canned answers."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self.transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        body = b"".join(self._body)
        self._body.clear()
        model = next((each for each in MODELS if each.encode() in body), SHORT)
        if model in (SHORT, BURST):
            self.transport.write(_canned(model))
        elif self._clock:
            self.transport.write(_STREAM + _framed(chunk(FIRST_CHUNK)))
            self._clock.start(self)


class Clock:
    """Sends each open stream a chunk per tick, a part of the streams at each sub-tick."""

    def __init__(self) -> None:
        self._slots: list[dict[FakeBackend, int]] = [{} for _ in range(SUB_TICKS)]
        self._turn = itertools.cycle(self._slots)
        before, self._after = chunk({"content": "|"}).split(b"|")
        self._before = before

    def start(self, connection: FakeBackend) -> None:
        """Begin a stream of CHUNKS chunks."""
        next(self._turn)[connection] = CHUNKS

    async def run(self) -> None:
        """Tick for ever. A tick that comes late does not make the next ones late."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for slot in itertools.cycle(self._slots):
            due += TICK / SUB_TICKS
            await asyncio.sleep(max(0.0, due - loop.time()))
            for connection, left in list(slot.items()):
                self._tick(slot, connection, left)

    def _tick(self, slot: dict[FakeBackend, int], connection: FakeBackend, left: int) -> None:
        if connection.transport.is_closing():
            del slot[connection]
        elif left:
            slot[connection] = left - 1
            now = b"%019d " % time.monotonic_ns()
            connection.transport.write(_framed(self._before + now + self._after))
        else:
            del slot[connection]
            connection.transport.write(b"".join(map(_framed, last_chunks(CHUNKS))) + _END)


@cache
def _canned(model: str) -> bytes:
    if model == SHORT:
        body = completion()
        return _JSON % (len(body), body)
    texts = [chunk({"content": f" token{n}"}) for n in range(CHUNKS)]
    events = [chunk(FIRST_CHUNK), *texts, *last_chunks(CHUNKS)]
    return _STREAM + b"".join(map(_framed, events)) + _END


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def main(port: int) -> None:
    """Serve for ever."""
    clock = Clock()
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: FakeBackend(clock), "127.0.0.1", port, backlog=4096)
    await clock.run()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(int(sys.argv[1])))
