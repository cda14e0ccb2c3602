"""The coordinator with fake workers: sockets without a process."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest
from anyio.abc import TaskGroup
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from pipeline.task_groups import task_group
from proxy.coordinator import messages
from proxy.coordinator.connection import MAX_LINE, MAX_UNSENT, Connection
from proxy.coordinator.coordinator import Coordinator
from proxy.coordinator.messages import FROM_COORDINATOR, FromCoordinator
from stages.backends.call_queue import Full
from stages.backends.fair_queue import FairQueue
from stages.backends.slots import Warmth
from stages.limits.store import Want

PLACE = Want("all", "concurrent_requests", "concurrency", "", 1)
DAY = Want("all", "requests_per_day", "budget", "day", 5)
pids = count(1000)


@define(eq=False)
class FakeWorker:
    """One end of a connection whose other end the coordinator has."""

    connection: Connection[FromCoordinator]
    messages: list[Any] = field(factory=list)

    @property
    def sock(self) -> socket.socket:
        return self.connection.sock

    async def send(self, *sent: Any) -> list[Any]:
        """Send messages. Return what has come until the coordinator has handled them."""
        for message in sent:
            self.connection.send(message)
        self.connection.send(messages.Ping(-1))
        await self.until(messages.Pong(-1))
        arrived, self.messages = self.messages, []
        return [message for message in arrived if message != messages.Pong(-1)]

    async def until(self, message: Any) -> None:
        """Wait for a message."""
        with anyio.fail_after(30):
            while message not in self.messages:
                await anyio.wait_readable(self.sock)
                self.messages += self.connection.received()

    async def is_disconnected(self) -> bool:
        with anyio.move_on_after(30):
            while not self.connection.closed:
                await self.connection.wait()
                self.messages += self.connection.received()
            return True
        return False


@define
class Machine:
    """A coordinator, and the workers that a test connects."""

    group: TaskGroup
    coordinator: Coordinator = field(factory=Coordinator)

    async def worker(self, pid: int | None = None) -> FakeWorker:
        ours, its = socket.socketpair()
        its.setblocking(False)
        ours.setblocking(False)
        self.group.start_soon(self.coordinator.attend, its)
        worker = FakeWorker(Connection(ours, FROM_COORDINATOR))
        self.group.start_soon(self._open, worker)
        worker.connection.send(messages.Hello(pid or next(pids)))
        return worker

    async def _open(self, worker: FakeWorker) -> None:
        with contextlib.suppress(OSError):
            async with worker.connection.open():
                await anyio.sleep_forever()


@contextlib.asynccontextmanager
async def machine() -> AsyncIterator[Machine]:
    async with task_group() as group:
        yield Machine(group)
        group.cancel_scope.cancel()


def enter(call: int, key: str = "key", slots: int = 1, **options: Any) -> messages.Enter:
    names = key, options.pop("session", "")
    options = {"short": True, "max_queued": 100, **options}
    return messages.Enter(call, "gpu", slots, call, names, **options)


async def test_the_calls_of_two_workers_share_a_slot() -> None:
    async with machine() as made:
        one, two = await made.worker(), await made.worker()
        assert await one.send(enter(1)) == [
            messages.Welcome(),
            messages.EnterResult(1, True, None, 5),
        ]
        (_, waiting) = await two.send(enter(1))
        assert (waiting.started, waiting.full) == (False, None)
        assert (await two.send(enter(2, max_queued=1)))[0].full == Full(1, 10)
        await one.send(messages.Leave(1, 0.5))
        assert await two.send() == [messages.Start(1)]


def warm(session: str) -> dict[str, Any]:
    return {"session": session, "warmth": Warmth(session, "", 9, 1e9)}


@contextlib.asynccontextmanager
async def reserved_slot(hold: float) -> AsyncIterator[tuple[FakeWorker, FakeWorker]]:
    """A slot that waits for conversation a of the first worker, and a call of the second one."""
    coordinator = Coordinator(clock=count(0, 100).__next__)  # 100 s between any two events
    async with task_group() as group:
        made = Machine(group, coordinator)
        one, two = await made.worker(), await made.worker()
        await one.send(enter(1, **warm("a")))
        await two.send(enter(1, **warm("b")))
        await one.send(messages.Leave(1, 0.5, hold))
        yield one, two
        group.cancel_scope.cancel()


async def test_a_slot_waits_for_the_next_call_of_its_conversation() -> None:
    async with reserved_slot(hold=60) as (one, two):
        assert (await one.send(enter(2, **warm("a"))))[0].started
        await one.send(messages.Leave(2, 0.5))
        assert await two.send() == [messages.Start(1)]


async def test_a_hold_ends_after_its_seconds() -> None:
    async with reserved_slot(hold=0.01) as (_, two):
        await two.until(messages.Start(1))


async def test_a_call_of_another_conversation_ends_a_hold() -> None:
    async with reserved_slot(hold=60) as (one, two):
        assert not (await one.send(enter(2, **warm("c"))))[0].started
        assert await two.send() == [messages.Start(1)]


async def test_a_call_ends_a_hold_also_if_the_queue_is_full() -> None:
    async with reserved_slot(hold=60) as (one, two):
        assert (await one.send(enter(2, **warm("c"), max_queued=1)))[0].full is None
        assert await two.send() == [messages.Start(1)]


async def test_a_worker_that_dies_ends_its_holds() -> None:
    async with reserved_slot(hold=60) as (one, two):
        one.connection.close()
        await two.until(messages.Start(1))


async def test_a_reload_changes_the_slots() -> None:
    async with machine() as made:
        one, two = await made.worker(), await made.worker()
        await one.send(enter(1))
        await two.send(enter(1))
        await one.send(messages.Resize("gpu", 2))
        assert await two.send() == [messages.Start(1)]


async def test_a_worker_that_dies_frees_its_calls_and_holds() -> None:
    async with machine() as made:
        one, two = await made.worker(), await made.worker()
        await one.send(enter(1), enter(2), messages.Admit(3, "hold", (PLACE, DAY), (1, 4), 0))
        await two.send(enter(1), messages.Admit(2, "other", (PLACE, DAY), (1, 1), 5))
        one.connection.close()
        await two.until(messages.Start(1))
        start, admitted = sorted(await two.send(), key=lambda each: type(each).__name__)[::-1]
        assert start == messages.Start(1)
        assert admitted.refused_by is None
        assert [level.remaining for level in admitted.levels] == [0, 4], "the budget is free, too"


async def test_a_worker_that_connects_again_keeps_its_calls_and_holds() -> None:
    async with machine() as made:
        one, two = await made.worker(77), await made.worker()
        await one.send(enter(1), messages.Admit(3, "hold", (PLACE, DAY), (1, 4), 0))
        one.connection.close()
        again = await made.worker(77)
        resumed = messages.Resume("gpu", 1, 1)
        assert await again.send(resumed, messages.Renew("hold")) == [messages.Welcome()]
        assert not (await two.send(enter(1)))[-1].started
        (refused,) = await two.send(messages.Admit(9, "x", (PLACE, DAY), (1, 2), 0))
        assert refused.refused_by == 1
        await again.send(messages.Settle("hold", (1, 3)))
        (admitted,) = await two.send(messages.Admit(10, "x", (PLACE, DAY), (1, 2), 0))
        assert admitted.refused_by is None


async def test_a_request_that_stops_waiting_holds_nothing() -> None:
    async with machine() as made:
        one, two = await made.worker(), await made.worker()
        await one.send(messages.Admit(1, "first", (PLACE,), (1,), 0))
        await two.send(messages.Admit(1, "waits", (PLACE,), (1,), 60))
        await two.send(messages.Settle("waits", (0,)))
        await one.send(messages.Settle("first", (1,)))
        (admitted,) = await one.send(messages.Admit(2, "next", (PLACE,), (1,), 0))
        assert admitted.refused_by is None


async def test_openings_reach_the_others_and_workers_that_come_later() -> None:
    async with machine() as made:
        one, two = await made.worker(), await made.worker()
        await one.send()
        await two.send()
        opened, probing = (messages.BreakerChange("t", each) for each in ("opened", "probing"))
        assert await one.send(opened) == []
        assert await two.send() == [opened]
        await one.send(probing)
        later = await made.worker()
        changes = await later.send()
        assert [each.change for each in changes[1:]] == ["opened", "probing"]
        one.connection.close()
        await later.until(messages.BreakerChange("t", "released"))
        await two.send(messages.BreakerChange("t", "closed"))
        assert await (await made.worker()).send() == [messages.Welcome()]


WANT = '["Admit",1,"h",[{"account":"a","limit":"l","kind":"%s","period":"%s","maximum":%s}],[%s],0]'
LONG = b'["Hello",' + b" " * (MAX_LINE + 2)


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"garbage\n",
        b'["Hello"]\n',
        b'["Resize","gpu",0]\n',
        b'["Admit",1,"h",[],[1.0],0]\n',
        (WANT % ("rate", "", 1, 1)).encode() + b"\n",
        (WANT % ("budget", "minute", 1, 1)).encode() + b"\n",
        (WANT % ("rate", "day", 0, 1)).encode() + b"\n",
        (WANT % ("rate", "day", 1, -1)).encode() + b"\n",
        b'["Hello",1]\n["Hello",1]\n["Hello",1]\n',
        b'["Settle","hold",[]]\n',
        b'["Resume","gpu",1,1]\n',
        b'["Welcome"]\n',
        b"\xff\xfe\n",
        LONG,
    ],
    ids=lambda data: data[:20].decode(errors="replace"),
)
async def test_a_worker_that_sends_no_message_is_disconnected_alone(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with machine() as made:
        other, broken = await made.worker(), await made.worker()
        await broken.send(enter(1), messages.Admit(2, "hold", (PLACE,), (1,), 0))
        await other.send(enter(1))
        while data:
            await anyio.lowlevel.checkpoint()
            with contextlib.suppress(BlockingIOError):
                data = data[broken.sock.send(data) :]
        assert await broken.is_disconnected()
        assert messages.Start(1) in await other.send()
    assert [record.message[:7] for record in caplog.records] == ["worker "]


async def test_half_a_message_at_the_end_is_dropped() -> None:
    async with machine() as made:
        other, broken = await made.worker(), await made.worker()
        await broken.send(enter(1))
        await other.send(enter(1))
        broken.sock.send(b'["Resize","gpu"')
        broken.connection.close()
        await other.until(messages.Start(1))


async def test_a_worker_that_does_not_read_stops_no_other() -> None:
    async with machine() as made:
        other, deaf = await made.worker(), await made.worker()
        await deaf.send(enter(1))
        await other.send(enter(1))
        pings = b'["Ping",123456789]\n' * 1000
        sent = 0
        with anyio.fail_after(20):
            while sent < 4 * MAX_UNSENT:
                await anyio.lowlevel.checkpoint()
                try:
                    sent += deaf.sock.send(pings)
                except BlockingIOError:
                    continue
                except OSError:
                    break  # it is disconnected
        await other.until(messages.Start(1))


async def test_messages_of_the_page_disconnect_no_worker_that_reads_slowly() -> None:
    part = messages.PagePart(1, 2, 1, msgspec.Raw(b'"%b"' % (b"x" * 200_000)))
    query = messages.PageQuery(1, 2, 0.0, "x" * 200_000, None)
    async with machine() as made:
        slow, other = await made.worker(1), await made.worker(2)
        await slow.send()
        for message in (part, query) * 20:
            await other.send(message)
        received = await slow.send()
    assert 1 <= len(received) < 40
    assert {type(message) for message in received} <= {messages.PagePart, messages.PageQuery}


async def test_the_parts_of_many_workers_wait_for_one_that_reads_slowly() -> None:
    part = messages.PagePart(1, 2, 1, msgspec.Raw(b'"%b"' % (b"x" * 100_000)))
    async with machine() as made:
        slow, other = await made.worker(1), await made.worker(2)
        await slow.send()
        for _ in range(2 * 15):
            await other.send(part)
        assert await slow.send() == [part] * 30


async def test_a_query_reaches_the_others_and_a_part_the_worker_that_asked() -> None:
    query = messages.PageQuery(7, 1, 0.0, "req_1", None)
    part = messages.PagePart(7, 2, 1, msgspec.Raw(b"[1]"))
    async with machine() as made:
        one, two, three = [await made.worker(pid) for pid in (1, 2, 3)]
        for worker in (one, two, three):
            await worker.send()
        (workers,) = await one.send(query)
        assert sorted(workers.pids) == [2, 3]
        assert await two.send(part) == [query]
        assert await three.send() == [query]
        assert await one.send() == [part]


NAMES = st.tuples(st.sampled_from("abc"), st.sampled_from("xy"))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.integers(0, 2), NAMES, st.booleans()),
        st.tuples(st.just("leave"), st.integers(0, 99)),
    ),
    max_size=40,
)


@given(slots=st.integers(1, 3), steps=STEPS)
def test_calls_of_three_workers_start_in_the_order_of_one_process(
    slots: int, steps: list[Any]
) -> None:
    anyio.run(_compare, slots, steps)


async def _compare(slots: int, steps: list[Any]) -> None:
    """Do the same with the coordinator and with one FairQueue."""
    model: FairQueue[tuple[int, int]] = FairQueue(slots)
    present: list[tuple[int, int]] = []
    async with machine() as made:
        workers = [await made.worker() for _ in range(3)]
        for worker in workers:
            await worker.send()
        for number, step in enumerate(steps):
            expected: list[tuple[int, int]] = []
            started: list[tuple[int, int]] = []
            if step[0] == "enter":
                _, index, names, short = step
                call = index, number
                present.append(call)
                if model.enter(call, names, short):
                    expected.append(call)
                sent: Any = enter(number, names[0], slots, session=names[1], short=short)
            elif present:
                call = present.pop(step[1] % len(present))
                index = call[0]
                expected += model.leave(call)
                sent = messages.Leave(call[1])
            else:
                continue
            for message in await workers[index].send(sent):
                if isinstance(message, messages.Start) or message.started:
                    call_number = message.call if isinstance(message, messages.Start) else number
                    started.append((index, call_number))
            for other in {0, 1, 2} - {index}:
                started += [(other, start.call) for start in await workers[other].send()]
            assert sorted(started) == sorted(expected)
