"""Work that starts later, on asyncio and on trio: a timer until then, a task from then on."""

from __future__ import annotations

import asyncio  # noqa: TID251 - anyio has no timers
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

import anyio
from attrs import define, field


class Delayed(Protocol):
    """Work that starts after a delay. Its owner must stop it."""

    now: Callable[[], float]
    """The event loop's clock, in seconds."""

    async def stop(self) -> None:
        """Cancel the work and wait for its end. Raises what the work raised."""


def delayed(seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> Delayed:
    """Start `work` in `seconds` from now, concurrently with the caller.

    Until then there is only a timer, which costs 1 us. A task group with a task costs 55 us. So it
    suits work that each request may need and few do.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _on_trio(seconds, work)
    delayed_work = _OnAsyncio(loop.time)
    delayed_work.timer = loop.call_later(seconds, delayed_work.start, loop, work)
    return delayed_work


@define(eq=False)
class _OnAsyncio:
    now: Callable[[], float]
    timer: asyncio.TimerHandle = field(init=False)
    _task: asyncio.Task[None] | None = None

    def start(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        self._task = loop.create_task(work())

    async def stop(self) -> None:
        self.timer.cancel()
        task, self._task = self._task, None  # a finished task holds frames, and they hold the owner
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
            outcome = await acapture(work)  # an exception would end trio itself
            if isinstance(outcome, Error) and isinstance(outcome.error, Exception):
                self._raised = outcome.error
            del outcome  # its traceback holds frames, and they hold the owner
        self.over.set()

    async def stop(self) -> None:
        self.scope.cancel()
        with anyio.CancelScope(shield=True):
            await self.over.wait()
        if self._raised is not None:
            raise self._raised


def _on_trio(seconds: float, work: Callable[[], Awaitable[None]]) -> Delayed:
    import trio

    delayed_work = _OnTrio(trio.current_time)
    trio.lowlevel.spawn_system_task(delayed_work.run, seconds, work)
    return delayed_work
