"""Work that starts later."""

from __future__ import annotations

import weakref

import anyio
import anyio.lowlevel
import pytest

from pipeline.timers import delayed
from tests.pipeline.support import SomeError


async def test_delayed_work_begins_when_its_time_has_come() -> None:
    begun = anyio.Event()

    async def work() -> None:
        begun.set()
        await anyio.sleep_forever()

    ordered = delayed(0.01, work)
    before = ordered.now()
    with anyio.fail_after(30):
        await begun.wait()
    assert ordered.now() - before >= 0.009
    await ordered.stop()


async def test_delayed_work_that_is_stopped_early_never_begins() -> None:
    begun, later = [], anyio.Event()

    async def work() -> None:
        begun.append(True)

    async def work_later() -> None:
        later.set()

    ordered = delayed(0.001, work)
    after = delayed(0.002, work_later)
    await ordered.stop()
    with anyio.fail_after(30):
        await later.wait()
    await after.stop()
    assert not begun


async def test_delayed_work_is_over_when_it_is_stopped() -> None:
    begun, ended = anyio.Event(), []

    async def work() -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    ordered = delayed(0.001, work)
    await begun.wait()
    await ordered.stop()
    assert ended == [True]


async def test_delayed_work_stops_when_its_caller_is_cancelled() -> None:
    begun, ended = anyio.Event(), []

    async def work() -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    with anyio.CancelScope() as scope:
        ordered = delayed(0.001, work)
        try:
            await begun.wait()
            scope.cancel()
            await anyio.lowlevel.checkpoint()
        finally:
            await ordered.stop()
    assert ended == [True]


async def test_an_error_of_delayed_work_comes_out_when_it_is_stopped() -> None:
    begun = anyio.Event()

    async def work() -> None:
        begun.set()
        raise SomeError

    ordered = delayed(0.001, work)
    await begun.wait()
    with pytest.raises(SomeError):
        await ordered.stop()


async def test_of_delayed_work_that_is_over_nothing_is_kept_in_memory() -> None:
    class Owner:
        def __init__(self) -> None:
            self.begun = anyio.Event()
            self.ordered = delayed(0.001, self.work)

        async def work(self) -> None:
            self.begun.set()
            await anyio.sleep_forever()

    owner = Owner()
    await owner.begun.wait()
    await owner.ordered.stop()
    kept = weakref.ref(owner)
    del owner
    await anyio.lowlevel.checkpoint()
    assert kept() is None, "until the garbage collector runs"
