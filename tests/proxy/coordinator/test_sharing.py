"""Workers and a coordinator over a real socket, in one process."""

from __future__ import annotations

import contextlib
import resource
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from attrs import define, field

from pipeline.task_groups import task_group
from proxy.coordinator.call_queue import SharedCallQueue
from proxy.coordinator.connection import listen
from proxy.coordinator.coordinator import Coordinator
from proxy.coordinator.limit_store import SharedLimitStore
from proxy.coordinator.link import Link
from stages.backends.call_queue import QueuedCall
from stages.limits.store import Admitted, Refused, Want
from tests.waiting import until_async

PLACE = Want("all", "concurrent_requests", "concurrency", "", 2)
DAY = Want("all", "requests_per_day", "budget", "day", 4)


@define(eq=False)
class Worker:
    """What a worker shares."""

    link: Link
    queue: SharedCallQueue = field(init=False)
    limits: SharedLimitStore = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.queue = SharedCallQueue("gpu", 2, self.link, workers=2)
        self.limits = SharedLimitStore(self.link, workers=2)
        self.link.members.append(self.limits)

    async def enter(self) -> QueuedCall:
        call = QueuedCall(("key", ""), short=True)
        assert await self.queue.enter(call, max_queued=10) is None
        return call

    @property
    def counts(self) -> tuple[int, int]:
        return self.queue.running, self.queue.waiting


@contextlib.asynccontextmanager
async def workers() -> AsyncIterator[tuple[Worker, Worker]]:
    """Two workers that are joined."""
    with tempfile.TemporaryDirectory() as folder, listen(Path(folder) / "socket") as listener:
        async with task_group() as group:
            group.start_soon(Coordinator().serve, listener)
            made = []
            for pid in (1, 2):
                # A busy machine delays the coordinator. The tests lose the link with `lose`.
                link = Link(Path(folder) / "socket", timeout=30, pid=pid, is_stopped=lambda: True)
                made.append(Worker(link))
                group.start_soon(link.run)
                with anyio.fail_after(30):
                    await link.wait_at_start()
            yield made[0], made[1]
            group.cancel_scope.cancel()


async def started(call: QueuedCall) -> None:
    with anyio.fail_after(30):
        await call.may_start.wait()


async def test_two_workers_share_two_slots() -> None:
    async with workers() as (one, two):
        first, second, third = await one.enter(), await one.enter(), await two.enter()
        assert (one.counts, two.counts) == ((2, 0), (0, 1))
        await one.queue.leave(first, 0.1)
        await started(third)
        assert (one.counts, two.counts) == ((1, 0), (1, 0))
        for worker in (one, two):  # a reload reaches all
            worker.queue.resize(3)
        await started(await two.enter())
        await one.queue.leave(second)


async def test_a_call_that_is_cancelled_passes_its_slot_on() -> None:
    async with workers() as (one, two):
        calls = [await one.enter() for _ in range(2)]
        waiting, last = await two.enter(), await two.enter()
        with anyio.CancelScope() as scope:
            scope.cancel()
            try:
                await anyio.lowlevel.checkpoint()
            finally:
                await two.queue.leave(waiting)
                await one.queue.leave(calls[0])
        await started(last)
        assert not waiting.may_start.is_set()


async def test_a_lost_coordinator_leaves_each_worker_its_part(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with workers() as (one, two):
        running = [await one.enter(), await one.enter()]
        waiting = [await two.enter(), await two.enter()]
        for worker in (one, two):
            worker.link.lose("does not respond")
            worker.link.lose("does not respond")
        assert (one.counts, two.counts) == ((2, 0), (1, 1)), "one of two slots for each"
        for worker in (one, two):
            with anyio.fail_after(30):
                await worker.link.joined.wait()
        await one.queue.leave(running[0])
        await two.queue.leave(waiting[0])
        await started(waiting[1])
        assert (one.counts, two.counts) == ((1, 0), (1, 0))
    lost = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(lost) == 2, "once for each"


async def test_running_calls_resume_before_waiting_ones_enter() -> None:
    async with workers() as (one, _):
        one.queue.resize(1)
        one.link.lose("does not respond")
        running = QueuedCall(("key", ""), short=True)
        assert await one.queue.enter(running, 10) is None
        long = QueuedCall(("key", ""), short=False)
        assert await one.queue.enter(long, 10) is None
        short = await one.enter()
        await one.queue.leave(running)
        assert (short.may_start.is_set(), long.may_start.is_set()) == (True, False)
        with anyio.fail_after(30):
            await one.link.joined.wait()
        await one.enter()  # its response comes after those for the others
        assert one.counts == (1, 2)


async def test_two_workers_share_limits_and_holds_survive_a_loss() -> None:
    async with workers() as (one, two):
        for hold in "ab":
            assert isinstance(await one.limits.admit(hold, (PLACE, DAY), (1, 1)), Admitted)
        refused = await two.limits.admit("c", (PLACE, DAY), (1, 1))
        assert isinstance(refused, Refused)
        one.link.lose("does not respond")
        await one.limits.settle("a", (1, 3))
        alone = await one.limits.admit("d", (DAY,), (2,))
        assert isinstance(alone, Admitted)
        assert alone.levels[0].remaining == 0, "half of 4"
        with anyio.fail_after(30):
            await one.link.wait_at_start()
        result = await two.limits.admit("e", (PLACE, DAY), (1, 0))
        assert isinstance(result, Admitted)
        assert [level.remaining for level in result.levels] == [0, 0], "b has 1, a used 3"


async def test_a_request_waits_for_a_place_of_another_worker() -> None:
    async with workers() as (one, two):
        for hold in "ab":
            await one.limits.admit(hold, (PLACE,), (1,))
        async with task_group() as group:
            results = []

            async def admit() -> None:
                results.append(await two.limits.admit("c", (PLACE,), (1,), wait=5))

            group.start_soon(admit)
            await anyio.sleep(0.01)
            await one.limits.settle("a", (1,))
        assert isinstance(results[0], Admitted)


@contextlib.contextmanager
def no_new_files() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_a_worker_without_free_files_goes_on_alone(tmp_path: Path) -> None:
    link = Link(tmp_path / "socket")
    with no_new_files(), anyio.move_on_after(0.05):
        await link.run()
    assert not link.is_joined


async def test_the_coordinator_accepts_workers_when_it_has_files_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        listen(Path(folder) / "socket") as listener,
        socket.socket(socket.AF_UNIX) as worker,
    ):
        worker.connect(f"{folder}/socket")
        async with task_group() as group:
            with no_new_files():
                group.start_soon(Coordinator().serve, listener)
                await until_async(lambda: "cannot accept a worker: Too many open" in caplog.text)
            worker.sendall(b'["Hello",7]\n')
            worker.setblocking(False)
            with anyio.fail_after(30):
                await anyio.wait_readable(worker)
            assert worker.recv(100) == b'["Welcome"]\n'
            group.cancel_scope.cancel()
