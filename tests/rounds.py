"""Counts rounds of the event loop: whether it goes on while something else works."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.lowlevel
from attrs import define

from pipeline.task_groups import task_group


@define
class Rounds:
    """The number of rounds."""

    rounds: int = 0

    async def count(self) -> None:
        while True:
            await anyio.lowlevel.checkpoint()
            self.rounds += 1


@asynccontextmanager
async def turning() -> AsyncIterator[Rounds]:
    """Counts them until it is left. Work on the event loop itself adds two or three."""
    counted = Rounds()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # a thread may end within the usual 5 ms, and no round comes then
    async with task_group() as group:
        group.start_soon(counted.count)
        try:
            yield counted
        finally:
            sys.setswitchinterval(interval)
        group.cancel_scope.cancel()
