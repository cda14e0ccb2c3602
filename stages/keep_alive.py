"""When to ping a stream: the stage that forwards the answer says when it is silent.

    state     the stage has something to forward   `interval` after the silence began
    -------   ----------------------------------   ----------------------------------
    silent    busy                                 pinging
    busy      (it is busy with one thing)          looks again an `interval` later
    pinging   waits for the ping to be sent,       (one ping at a time)
              then busy

The stage is busy from `silent_since = None` until it sets a time, so that after an end, or a
failure in the middle of an answer, when it sets none, no ping follows. A failure before that is
no reason not to ping: an earlier stage may wait, and try again. Where nothing is silent, all this
costs is two assignments for what is forwarded together, and a timer for the request.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio
from attrs import define

from pipeline.task_groups import Delayed, delayed


@define(eq=False)
class KeepAlive:
    """The pings of one stream."""

    now: Callable[[], float] = time.monotonic
    silent_since: float | None = None
    on_its_way: anyio.Event | None = None
    """To be waited for before anything is forwarded: only one task at a time may do so."""
    _task: Delayed | None = None

    def begin(self, interval: float, send: Callable[[], Awaitable[None]]) -> None:
        """Ping from now on, with `send`, after each `interval` seconds of silence.

        `send` is not kept here: with its owner, that would be a cycle for the garbage collector.
        """
        if self._task is None:
            self._task = delayed(interval, lambda: self._watch(interval, send))
            self.now = self._task.now
        if self.silent_since is None:
            self.silent_since = self.now()

    async def end(self) -> None:
        """Ping no more. Raises what a ping that failed has raised."""
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
        self.on_its_way = anyio.Event()
        try:
            await send()
        finally:
            self.on_its_way.set()
            self.on_its_way = None
        self.silent_since = self.now()
