"""A worker asks the others for their parts of the page. Sockets and a coordinator, one process."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from attrs import define, field

from pipeline.task_groups import task_group
from proxy.coordinator import messages
from proxy.coordinator.connection import MAX_UNSENT, listen
from proxy.coordinator.coordinator import Coordinator
from proxy.coordinator.link import Link
from proxy.coordinator.page import SharedPage
from stages.exchange import Attempt, Degradation, Exchange, Target
from stages.messages_api.request import Message, MessagesRequest, TextBlock
from stages.page.other_workers import NOT_FOUND, Responses
from stages.page.parts import exchange_part, respond
from stages.page.recent import RecentExchanges
from tests.stages.page.exchanges import ended
from tests.waiting import until_async

LONG = 30.0
#: Seconds in which a part comes also on a busy machine, and that a test waits for a missing one.
SHORT = 0.2


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@define(eq=False)
class Machine:
    """A coordinator, and workers that are joined. Their parts are `"part PID EXCHANGE"`."""

    group: TaskGroup
    path: Path
    links: list[Link] = field(factory=list)

    async def worker(self, pid: int, seconds: float = LONG) -> SharedPage:
        link = await self.link(pid)
        page = SharedPage(link, 3, timeout=seconds)
        page.respond = lambda exchange, before: f'"part {pid} {exchange or before}"'.encode()
        link.members.append(page)
        return page

    async def link(self, pid: int) -> Link:
        """A worker that gets queries, and does not respond."""
        link = Link(self.path, timeout=LONG, pid=pid, is_stopped=lambda: True)
        self.group.start_soon(link.run)
        with anyio.fail_after(LONG):
            await link.wait_at_start()
        self.links.append(link)
        return link


@contextlib.asynccontextmanager
async def machine() -> AsyncIterator[Machine]:
    with tempfile.TemporaryDirectory() as folder, listen(Path(folder) / "socket") as listener:
        async with task_group() as group:
            group.start_soon(Coordinator().serve, listener)
            yield Machine(group, Path(folder) / "socket")
            group.cancel_scope.cancel()


@define(eq=False)
class OnMessage:
    """A member of a link that calls a function with each message."""

    on_message: Callable[[Any], None]
    waits: bool = False

    def on_joined(self) -> None: ...

    def on_lost(self) -> None: ...


async def test_all_other_workers_respond() -> None:
    async with machine() as made:
        one, _, _ = [await made.worker(pid) for pid in (1, 2, 3)]

        response = await one.ask(None, 7.5)

        assert (response.workers, response.responded, response.missing) == (3, 3, ())
        assert response.parts == {2: b'"part 2 7.5"', 3: b'"part 3 7.5"'}


async def test_queries_at_the_same_time_get_their_own_parts() -> None:
    async with machine() as made:
        one, two = await made.worker(1), await made.worker(2)
        results: dict[str, tuple[bytes, ...]] = {}

        async def ask(page: SharedPage, id: str) -> None:
            results[id] = tuple((await page.ask(id)).parts.values())

        async with task_group() as group:
            for n in range(20):
                group.start_soon(ask, one, f"req_{n}")
                group.start_soon(ask, two, f"req_{n + 20}")

        expected = {
            f"req_{n}": (f'"part {2 if n < 20 else 1} req_{n}"'.encode(),) for n in range(40)
        }
        assert results == expected


async def test_a_worker_that_does_not_respond_is_missing_after_the_timeout() -> None:
    async with machine() as made:
        one, _ = await made.worker(1, seconds=SHORT), await made.worker(2)
        await made.link(3)

        response = await one.ask(None)

        assert response == Responses(3, 2, (3,), {2: b'"part 2 None"'})


async def test_a_worker_that_does_not_respond_is_waited_for_only_once() -> None:
    async with machine() as made:
        one, _ = await made.worker(1, seconds=SHORT), await made.worker(2)
        three = await made.link(3)
        await one.ask(None)
        one.timeout = LONG

        with anyio.fail_after(LONG / 2):
            response = await one.ask(None)
            assert response == Responses(3, 2, (3,), {2: b'"part 2 None"'})
            three.members[:] = [answering := SharedPage(three, 3)]
            answering.respond = lambda *_: b"3"
            while response.missing:  # its part comes after a query that did not wait
                response = await one.ask(None)

        assert response.parts == {2: b'"part 2 None"', 3: b"3"}


async def test_a_silent_worker_is_waited_for_after_some_seconds() -> None:
    async with machine() as made:
        one, three = await made.worker(1, seconds=SHORT), await made.link(3)
        one.silence = 0.0
        await one.ask(None)
        one.timeout = LONG
        three.members[:] = [answering := SharedPage(three, 3)]
        answering.respond = lambda *_: b"3"

        assert (await one.ask(None)).parts == {3: b"3"}


async def test_an_exchange_is_there_with_the_first_part_that_has_it() -> None:
    async with machine() as made:
        one, two, _ = await made.worker(1), await made.worker(2), await made.link(3)

        with anyio.fail_after(LONG / 2):
            assert (await one.ask("req_1")).parts == {2: b'"part 2 req_1"'}

        two.respond = lambda *_: NOT_FOUND
        one.timeout = SHORT
        assert await one.ask("req_2") == Responses(3, 2, (3,))


async def test_a_worker_that_dies_while_it_is_asked_is_missing() -> None:
    async with machine() as made:
        one, two = await made.worker(1, seconds=SHORT), await made.link(2)
        two.members.append(OnMessage(lambda _: two.lose("dies")))

        assert await one.ask(None) == Responses(3, 1, (2,))


async def test_a_lost_coordinator_is_not_waited_for() -> None:
    async with machine() as made:
        one, two = await made.worker(1), await made.link(2)
        two.members.append(OnMessage(lambda _: one.link.lose("is lost")))

        with anyio.fail_after(LONG / 2):
            assert (await one.ask(None)).responded == 1
            assert await one.ask(None) == Responses(3, 1), "it is not connected"


async def test_a_part_that_is_too_large_is_missing_alone_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with machine() as made:
        one, two, _ = await made.worker(1, SHORT), await made.worker(2), await made.worker(3)
        two.respond = lambda *_: b'"%b"' % (b"x" * MAX_UNSENT)

        response = await one.ask(None)

        assert (response.missing, response.parts) == ((2,), {3: b'"part 3 None"'})
        assert two.link.is_joined
    assert [record.message for record in caplog.records] == [
        "this worker is missing on the page: ValueError: 5,242,882 bytes are too many"
    ]


async def test_parts_that_came_while_the_event_loop_was_busy_count() -> None:
    async with machine() as made:
        one, two = await made.worker(1, seconds=2 * SHORT), await made.worker(2)

        def respond_and_block(*_: object) -> bytes:
            end = time.monotonic() + 2.2 * SHORT
            while time.monotonic() < end:  # the worker that asks has the same event loop
                pass
            return b"1"

        two.respond = respond_and_block

        assert await one.ask(None) == Responses(3, 2, (), {2: b"1"})


async def test_a_query_that_is_cancelled_leaves_nothing() -> None:
    async with machine() as made:
        one, two = await made.worker(1), await made.link(2)
        asked = anyio.Event()
        two.members.append(OnMessage(lambda _: asked.set()))

        async with task_group() as group:
            group.start_soon(one.ask, None)  # for a browser that disconnects
            await asked.wait()
            group.cancel_scope.cancel()

        assert one._queries == {}
        two.members[:] = [answering := SharedPage(two, 2)]
        answering.respond = lambda *_: b"1"
        assert (await one.ask(None)).parts == {2: b"1"}


async def test_the_largest_exchange_and_its_texts_come_from_another_worker() -> None:
    name = text = ("\x01" * 39 + " ") * 100  # in JSON most characters are six bytes
    degradations = tuple(Degradation(name, "dropped", "x") for _ in range(400))
    attempts = [Attempt(Target("gpu", name, label=name), 1.0, error="overloaded")] * 20
    names: dict[str, Any] = dict.fromkeys(
        ("model", "session", "agent", "parent_agent", "client"), name
    )
    exchange = ended(degradations=degradations, attempts=attempts, **names)
    message = Message("user", (TextBlock(text),))
    recent = RecentExchanges(bodies=True)
    recent.begin(exchange)
    for set_request in exchange.on_request:
        set_request(MessagesRequest("m", (message,) * 10, 10, system=message.content))
    exchange.full_message = text
    for end in exchange.on_end:
        end(exchange)
    async with machine() as made:
        one, two = await made.worker(1), await made.worker(2)
        two.respond = partial(respond, recent, {})

        found, texts = exchange_part((await one.ask("req_1")).parts[2])

    assert found.id == "req_1"
    assert len(texts.request) == 3


async def test_a_worker_with_a_wrong_exchange_is_missing_and_logs_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recent = RecentExchanges()
    recent.begin(Exchange(id="req_1", session="\ud800"))  # as someone's own stage may do
    async with machine() as made:
        one, two = await made.worker(1, seconds=SHORT), await made.worker(2)
        two.respond = partial(respond, recent, {})

        assert await one.ask(None) == Responses(3, 1, (2,))
        assert two.link.is_joined
    assert [record.message[:38] for record in caplog.records] == [
        "this worker is missing on the page: Ty"
    ]


async def test_a_worker_sends_no_part_after_the_deadline() -> None:
    async with machine() as made:
        one, two = await made.link(1), await made.worker(2)
        asked: list[str | None] = []
        two.respond = lambda exchange, _: asked.append(exchange) or b"1"  # type: ignore[func-returns-value]
        now = time.monotonic()
        for id, deadline in (("late", now - 1), ("in time", now + LONG)):
            one.send(messages.PageQuery(one.number(), 1, deadline, id, None))

        await until_async(lambda: asked)

        assert asked == ["in time"]


async def test_large_parts_disconnect_no_worker_that_reads_slowly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with machine() as made:
        one, two = await made.link(1), await made.worker(2)
        two.respond = lambda *_: b'"%b"' % (b"x" * 200_000)
        numbers = [one.number() for _ in range(100)]
        parts: list[int] = []
        one.members.append(OnMessage(lambda message: parts.append(message.n)))
        for n in numbers:  # all of them before it reads
            one.send(messages.PageQuery(n, 1, time.monotonic() + LONG, None, None))

        one.send(messages.PageQuery(last := one.number(), 1, 0.0, None, None))
        await until_async(lambda: last in parts)

        assert one.is_joined
        assert two.link.is_joined
        assert caplog.records == []
