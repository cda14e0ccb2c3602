"""RedisCallQueue with a real server: several processes, loss, and return."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from attrs import define, validators

from pipeline.task_groups import task_group
from proxy.store_sharing import StoreSharing
from stages.backends.call_queue import Full, QueuedCall
from stages.backends.redis_call_queue import RedisCallQueue
from stages.shared_store.connection import Connection
from stages.shared_store.script_sender import StoreLostError
from stages.shared_store.section import Store
from tests.redis_server import RedisServer, Resp, needs_server, running_redis
from tests.redis_server import empty_redis as empty_redis
from tests.redis_server import redis_server as redis_server
from tests.waiting import until_async

# coredis leaves streams open when it cannot connect.
pytestmark = [
    needs_server,
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
]
#: Nothing here takes so long, in seconds, unless it hangs.
LIMIT = 20.0
RUNNING = "llm-proxy:{queue:gpu}:running"


@define(eq=False)
class Process:
    """A process with a queue in the store."""

    sharing: StoreSharing
    queue: RedisCallQueue

    @property
    def connection(self) -> Connection:
        return self.sharing.connection

    @property
    def counts(self) -> tuple[int, int]:
        return self.queue.running, self.queue.waiting

    async def enter(self, key: str = "key", max_queued: int = 10) -> QueuedCall:
        call = QueuedCall((key, ""), short=True)
        assert await self.queue.enter(call, max_queued) is None
        return call

    async def notice_loss(self) -> None:
        with contextlib.suppress(StoreLostError):
            await self.connection._beat()


async def until_joined(*processes: Process) -> None:
    """Wait until calls go through the store again."""
    await until_async(lambda: all(process.connection.is_up for process in processes))
    await until_async(lambda: not any(process.queue._alone for process in processes))


@contextlib.asynccontextmanager
async def processes(
    server: RedisServer, number: int = 2, slots: int = 1, **options: Any
) -> AsyncIterator[list[Process]]:
    """Processes with a queue; those with a short `timeout` are to lose the store."""
    opened = []
    async with task_group() as group:
        for _ in range(number):
            with validators.disabled():  # a lease that ends soon
                section = Store(server.url, **{"timeout": 5.0, **options})
            connection = Connection(server.url, section.timeout, reconnect_after=0.1)
            sharing = StoreSharing(section, connection)
            opened.append(Process(sharing, sharing.queue("gpu", slots)))
            await group.start(connection.run)
            assert connection.is_up, connection.error
        for process in opened:
            await process.connection._beat()
        yield opened
        group.cancel_scope.cancel()


async def started(call: QueuedCall) -> None:
    with anyio.fail_after(LIMIT):
        await call.may_start.wait()


def lost_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if line.startswith("store ")]


async def test_two_processes_share_slots(server: RedisServer) -> None:
    async with processes(server, slots=2) as (one, two):
        first, second, third = await one.enter(), await one.enter(), await two.enter()
        assert (one.counts, two.counts) == ((2, 0), (0, 1))
        await one.queue.leave(first, 0.1)
        await started(third)
        assert (one.counts, two.counts) == ((1, 0), (1, 0))
        await one.queue.leave(second)
        await two.queue.leave(third)
        await two.queue.leave(third)
        with Resp(server.port) as client:
            assert client.call("SCARD", RUNNING) == 0


async def test_keys_take_turns_among_processes(server: RedisServer) -> None:
    async with processes(server) as (one, two):
        running = await one.enter()
        calls = {
            "a1": (one, await one.enter("a")),
            "a2": (two, await two.enter("a")),
            "a3": (one, await one.enter("a")),
            "b1": (two, await two.enter("b")),
            "b2": (one, await one.enter("b")),
        }
        order = []
        await one.queue.leave(running)
        while calls:
            await until_async(lambda: any(call.may_start.is_set() for _, call in calls.values()))
            [name] = (name for name, (_, call) in calls.items() if call.may_start.is_set())
            order.append(name)
            process, call = calls.pop(name)
            await process.queue.leave(call)
    assert order == ["a1", "b1", "a2", "b2", "a3"]


async def test_a_full_queue_counts_the_calls_of_all_processes(server: RedisServer) -> None:
    async with processes(server) as (one, two):
        calls = [(process, await process.enter()) for process in (one, one, two)]
        full = await two.queue.enter(QueuedCall(("key", ""), short=True), max_queued=2)
        assert full == Full(waiting=2, retry_after=15)
        assert two.queue.retry_after() == 15
        assert two.counts == (0, 1)
        for process, call in reversed(calls):
            await process.queue.leave(call)


async def test_a_call_that_is_cancelled_passes_its_slot_on(server: RedisServer) -> None:
    async with processes(server) as (one, two):
        running, waiting, last = await one.enter(), await two.enter(), await two.enter()
        for process, call in ((two, waiting), (one, running)):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await process.queue.leave(call)
        await started(last)
        assert not waiting.may_start.is_set()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await one.enter()
        assert one.counts == (0, 1), "`enter` ends before `leave` begins"


async def test_a_resize_starts_calls_that_wait(server: RedisServer) -> None:
    async with processes(server, lease=0.3) as (one, two):
        await one.enter()
        waiting = await one.enter()
        two.queue.resize(2)
        one.queue.resize(2)
        await started(waiting)


async def test_a_lost_message_delays_a_call_until_its_renewal(server: RedisServer) -> None:
    async with processes(server, lease=0.3) as (one, two):
        running, waiting = await one.enter(), await two.enter()
        two.connection.members.clear()  # it gets no message
        await one.queue.leave(running)
        await started(waiting)


async def test_calls_of_a_process_that_died_leave_after_the_lease(server: RedisServer) -> None:
    async with processes(server, 1, lease=0.3) as (other,):
        async with processes(server, 1, lease=0.3) as (dying,):
            await dying.enter()
            await dying.enter()
        call = await other.enter()
        assert not call.may_start.is_set()
        await started(call)
        assert other.counts == (1, 0)


async def test_a_running_call_keeps_its_slot_longer_than_a_lease(server: RedisServer) -> None:
    async with processes(server, lease=0.3) as (one, two):
        await one.enter()
        waiting = await two.enter()
        await anyio.sleep(0.8)
        assert not waiting.may_start.is_set()


@pytest.mark.parametrize(
    ("on_loss", "counts"), [("local", (2, 2)), ("allow", (4, 0)), ("refuse", (1, 0))]
)
async def test_a_frozen_store_decides_as_configured(
    on_loss: Any, counts: tuple[int, int], server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llm_proxy")
    async with processes(server, slots=4, timeout=0.2, on_loss=on_loss) as (one, two):
        for _ in range(3):
            await one.enter()
        await two.enter()
        calls = [await two.enter() for _ in range(2)]
        with server.frozen():
            await one.notice_loss()
            await until_async(lambda: two.connection.is_lost)  # its calls wait
            calls.append(await two.enter())
            assert two.counts == counts
            assert [call.store_is_lost for call in calls] == [on_loss == "refuse"] * 3
        await until_joined(one, two)
        assert one.counts == (3, 0)
        assert two.counts == counts, "calls that run go on, others wait"
    assert len(lost_lines(caplog)) == 4, "each process logs both changes once"


async def test_a_store_that_restarted_empty_counts_the_running_calls() -> None:
    with running_redis() as own:
        async with processes(own, timeout=0.2, lease=1.0) as (one, two):
            running, waiting, ends = await one.enter(), await two.enter(), await two.enter()
            own.stop()
            await started(waiting)  # each process alone has one slot
            await two.queue.leave(ends)
            own.start()
            await until_async(lambda: one.connection.is_up and two.connection.is_up)
            call = await one.enter()
            await until_joined(one, two)
            with Resp(own.port) as client:
                assert client.call("SCARD", RUNNING) == 2
            await one.queue.leave(running)
            assert not call.may_start.is_set(), "the other call still runs"
            await two.queue.leave(waiting)
            await started(call)


async def test_without_a_server_each_process_has_its_part() -> None:
    connection = Connection("redis://127.0.0.1:1/0", 0.2)
    sharing = StoreSharing(Store("redis://127.0.0.1:1/0"), connection)
    process = Process(sharing, sharing.queue("gpu", 1))
    async with task_group() as group:
        await group.start(connection.run)
        first, second = await process.enter(), await process.enter()
        assert process.counts == (1, 1)
        await process.queue.leave(first)
        assert second.may_start.is_set()
        later = sharing.queue("cpu", 1)
        assert await later.enter(QueuedCall(("key", ""), short=True), 10) is None
        assert later.running == 1
        group.cancel_scope.cancel()


async def test_a_message_that_is_not_utf_8_is_ignored(server: RedisServer) -> None:
    async with processes(server, 1) as (one,):
        one.sharing.on_message(one.sharing.channels[0], b"\xff")
