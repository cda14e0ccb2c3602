"""Work that starts later, on asyncio and on trio: a timer until then, a task from then on."""

from __future__ import annotations

import asyncio  # noqa: TID251 - anyio has no timers
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

import anyio
from attrs import define, field


class Delayed(Protocol):
    """Work that begins some time after it was ordered. Whoever ordered it has to stop it."""

    now: Callable[[], float]
    """The event loop's clock, in seconds."""

    async def stop(self) -> None:
        """Call it off, or cancel it and wait for its end. Raises what the work raised."""


def delayed(seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> Delayed:
    """Order `work` to begin `seconds` from now, beside the caller.

    Until then there is only a timer, for 1 us; a task group with a task in it costs 55. So it
    serves for what is rarely needed, and could be at each request.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _on_trio(seconds, work)
    made = _OnAsyncio(loop.time)
    made.timer = loop.call_later(seconds, made.begin, loop, work)
    return made


@define(eq=False)
class _OnAsyncio:
    now: Callable[[], float]
    timer: asyncio.TimerHandle = field(init=False)
    _task: asyncio.Task[None] | None = None

    def begin(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        self._task = loop.create_task(work())

    async def stop(self) -> None:
        self.timer.cancel()
        task, self._task = self._task, None  # its end holds frames, and they whoever ordered it
        if task is None:
            return
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait((task,))
        if not task.cancelled():
            task.result()


@define(eq=False)
class _OnTrio:
    now: Callable[[], float]
    scope: anyio.CancelScope = field(factory=anyio.CancelScope)
    over: anyio.Event = field(factory=anyio.Event)
    _raised: BaseException | None = None

    async def run(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        from outcome import Error, acapture

        with self.scope:
            await anyio.sleep(seconds)
            ended = await acapture(work)  # or it would end all of trio
            if isinstance(ended, Error) and isinstance(ended.error, Exception):
                self._raised = ended.error
            del ended  # its traceback holds frames, and they whoever ordered it
        self.over.set()

    async def stop(self) -> None:
        self.scope.cancel()
        with anyio.CancelScope(shield=True):
            await self.over.wait()
        if self._raised is not None:
            raise self._raised


def _on_trio(seconds: float, work: Callable[[], Awaitable[None]]) -> Delayed:
    import trio

    made = _OnTrio(trio.current_time)
    trio.lowlevel.spawn_system_task(made.run, seconds, work)
    return made
