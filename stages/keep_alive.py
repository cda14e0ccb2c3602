"""Keep-alive of a stream: sends a ping when the stage that forwards the response is silent.

    state     the stage has an event to forward    `interval` after the silence began
    -------   ----------------------------------   ----------------------------------
    silent    busy                                 pinging
    busy      (one event at a time)                checks again an `interval` later
    pinging   waits until the ping is sent,        (one ping at a time)
              then busy

The stage is busy from `silent_since = None` until it sets a time. After the end of a response, or
a failure in the middle, it sets no time, so no ping follows. After a failure before the response
pings go on: an earlier stage may wait, and retry. Without silence the cost is two assignments for
events that are forwarded together, and a timer for each request.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio
from attrs import define

from pipeline.timers import Delayed, delayed


@define(eq=False)
class KeepAlive:
    """The keep-alive of one stream."""

    now: Callable[[], float] = time.monotonic
    silent_since: float | None = None
    ping_in_flight: anyio.Event | None = None
    """Wait for this event before `forward`: only one task at a time may call `forward`."""
    _task: Delayed | None = None

    def begin(self, interval: float, send: Callable[[], Awaitable[None]]) -> None:
        """Call `send` from now on, after each `interval` seconds of silence.

        `send` is no attribute: its owner also owns this object, and a reference cycle would need
        the garbage collector.
        """
        if self._task is None:
            self._task = delayed(interval, lambda: self._watch(interval, send))
            self.now = self._task.now
        if self.silent_since is None:
            self.silent_since = self.now()

    async def end(self) -> None:
        """Send no more pings. Raises the error of a ping that failed."""
        if self._task is not None:
            await self._task.stop()

    async def _watch(self, interval: float, send: Callable[[], Awaitable[None]]) -> None:
        while True:
            now = self.now()
            since = now if self.silent_since is None else self.silent_since
            if now < since + interval:
                await anyio.sleep(since + interval - now)
            else:
                await self._ping(send)

    async def _ping(self, send: Callable[[], Awaitable[None]]) -> None:
        self.ping_in_flight = anyio.Event()
        try:
            await send()
        finally:
            self.ping_in_flight.set()
            self.ping_in_flight = None
        self.silent_since = self.now()
