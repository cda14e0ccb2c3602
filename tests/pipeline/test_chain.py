"""The order of opening and closing, events that skip stages, and errors that come back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from attrs import Factory, frozen

from pipeline import Send, Stage, StopForwarding
from pipeline.chain import AnyStage, Chain
from pipeline.task_groups import task_group
from tests.pipeline.support import (
    Begin,
    Cache,
    End,
    Failing,
    Finish,
    Middle,
    NarrowMiddle,
    SomeError,
    Start,
    T,
    Tap,
    Traced,
    run,
)


async def test_events_run_from_the_first_stage_to_the_sink() -> None:
    assert await run(Begin(), Finish(), event=Start("hello")) == [End("hello")]


async def test_an_empty_chain_hands_over_to_the_sink() -> None:
    assert await run(event=Start("hello")) == [Start("hello")]


async def test_stages_open_last_first_and_close_first_first() -> None:
    log: list[str] = []

    arrived = await run(Traced("one", log), Traced("two", log), Traced("three", log))

    assert log == [
        "open three",
        "open two",
        "open one",
        "one gets x",
        "two gets x",
        "three gets x",
        "two gets last of one",
        "three gets last of one",
        "left one",
        "three gets last of two",
        "left two",
        "left three",
    ]
    assert [event.text for event in arrived] == ["x", "last of one", "last of two", "last of three"]


async def test_every_stage_is_left_when_one_raises() -> None:
    log: list[str] = []

    with pytest.raises(SomeError):
        await run(Traced("one", log), Begin(), Traced("two", log), Failing(SomeError()))

    assert log[-2:] == ["left one", "left two"]


async def test_every_opened_stage_is_left_when_another_cannot_open() -> None:
    log: list[str] = []

    @frozen
    class Closed(Stage[T, T]):
        @asynccontextmanager
        async def open(self, forward: Send[T]) -> AsyncIterator[Send[T]]:
            raise SomeError
            yield forward

    with pytest.raises(SomeError):
        await run(Traced("one", log), Closed(), Traced("three", log))

    assert log == ["open three", "left three"]


@frozen
class Around(Stage[T, T]):
    """Writes down when forward is called, and when it has returned."""

    log: list[str]

    async def handle(self, event: T, forward: Send[T]) -> None:
        self.log.append("before")
        await forward(event)
        self.log.append("after")


@frozen
class Slow(Stage[T, T]):
    """Takes some turns of the event loop."""

    log: list[str]

    async def handle(self, event: T, forward: Send[T]) -> None:
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        await forward(event)
        await anyio.lowlevel.checkpoint()
        self.log.append("done")


async def test_forward_returns_when_later_stages_are_done() -> None:
    log: list[str] = []

    await run(Around(log), Begin(), Slow(log), Finish(), Slow(log))

    assert log == ["before", "done", "done", "after"]


async def test_a_cancel_scope_around_forward_covers_the_later_stages() -> None:
    @frozen
    class Limited(Stage[T, T]):
        async def handle(self, event: T, forward: Send[T]) -> None:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await forward(event)
            log.append("gave up")

    @frozen
    class Endless(Stage[T, T]):
        async def handle(self, event: T, forward: Send[T]) -> None:
            await anyio.sleep_forever()

    log: list[str] = []

    assert await run(Limited(), Begin(), Endless()) == []
    assert log == ["gave up"]


async def test_a_complete_response_skips_the_stages_that_make_one() -> None:
    log: list[str] = []
    chain: tuple[AnyStage, ...] = (
        Cache(("known",)),
        Begin(),
        Tap("between", log),
        Finish(),
        Tap("last", log),
    )

    hit = await run(*chain, event=Start("known"))
    assert (hit, log) == ([End("cached")], ["between End", "last End"])
    log.clear()
    miss = await run(*chain, event=Start("new"))
    assert (miss, log) == ([End("new")], ["between Middle", "last End"])


async def test_a_stage_for_a_subclass_ignores_other_events() -> None:
    @frozen
    class Shout(Stage[NarrowMiddle, NarrowMiddle]):
        async def handle(self, event: NarrowMiddle, forward: Send[NarrowMiddle]) -> None:
            await forward(NarrowMiddle(event.text.upper()))

    @frozen
    class Both(Stage[Start, Middle]):
        async def handle(self, event: Start, forward: Send[Middle]) -> None:
            await forward(Middle("quiet"))
            await forward(NarrowMiddle("loud"))

    assert await run(Both(), Shout(), Finish()) == [End("quiet"), End("LOUD")]


@pytest.mark.parametrize(
    ("stages", "filters"),
    [
        ((Begin(), Finish()), [None, None]),
        ((Begin(), Tap(), Finish()), [None, None, None]),
        ((Cache(), Begin(), Finish()), [None, (Start,), (Middle,)]),
    ],
    ids=["all-accepted", "transparent", "some-accepted"],
)
def test_events_are_only_sorted_where_some_pass_by(stages: Any, filters: list[Any]) -> None:
    assert [link.filter for link in Chain.of(stages, Start).links] == filters


async def test_an_error_of_a_stage_propagates_unchanged() -> None:
    error = SomeError("this one")

    with pytest.raises(SomeError) as caught:
        await run(Tap(), Begin(), Traced("t", []), Failing(error))

    assert caught.value is error


async def test_an_error_of_the_sink_propagates_unchanged() -> None:
    error = SomeError("this one")

    async def refuse(event: Any) -> None:
        raise error

    with pytest.raises(SomeError) as caught:
        await Chain.of((Begin(), Finish()), Start).run(Start(), refuse)

    assert caught.value is error


async def test_a_try_around_forward_sees_what_later_stages_raise() -> None:
    @frozen
    class Fallback(Stage[Middle, Middle | End]):
        async def handle(self, event: Middle, forward: Send[Middle | End]) -> None:
            try:
                await forward(event)
            except SomeError as error:
                await forward(End(f"instead of {error}"))

    arrived = await run(Begin(), Fallback(), Tap(), Failing(SomeError("nothing")))

    assert arrived == [End("instead of nothing")]


async def test_an_error_through_a_task_group_of_a_stage_stays_itself() -> None:
    @frozen
    class Accompanied(Stage[T, T]):
        async def handle(self, event: T, forward: Send[T]) -> None:
            async with task_group() as group:
                group.start_soon(anyio.sleep_forever)
                await forward(event)

    @frozen
    class Within(Stage[T, T]):
        async def handle(self, event: T, forward: Send[T]) -> None:
            async def work() -> None:
                await forward(event)

            async with task_group() as group:
                group.start_soon(work)

    error = SomeError("this one")

    with pytest.raises(SomeError) as caught:
        await run(Accompanied(), Within(), Begin(), Accompanied(), Failing(error))

    assert caught.value is error


async def test_two_requests_at_a_time_share_no_state() -> None:
    @frozen
    class Numbered(Stage[Start, End]):
        @asynccontextmanager
        async def open(self, forward: Send[End]) -> AsyncIterator[Send[Start]]:
            count = 0

            async def receive(event: Start) -> None:
                nonlocal count
                count += 1
                await anyio.lowlevel.checkpoint()
                await forward(End(f"{event.text}{count}"))

            yield receive

    chain = Chain.of((Numbered(),), Start)
    arrived: dict[str, list[str]] = {"a": [], "b": []}

    async def client(name: str) -> None:
        async def sink(event: End) -> None:
            arrived[name].append(event.text)

        async with chain.open(sink) as receive:
            for _ in range(3):
                await receive(Start(name))
                await anyio.lowlevel.checkpoint()

    async with task_group() as group:
        group.start_soon(client, "a")
        group.start_soon(client, "b")

    assert arrived == {"a": ["a1", "a2", "a3"], "b": ["b1", "b2", "b3"]}


async def test_an_open_stage_may_send_more_than_it_gets() -> None:
    @frozen
    class Counting(Stage[Start, Middle]):
        """Forwards on closing only."""

        seen: list[str] = Factory(list)

        @asynccontextmanager
        async def open(self, forward: Send[Middle]) -> AsyncIterator[Send[Start]]:
            texts: list[str] = []

            async def receive(event: Start) -> None:
                texts.append(event.text)

            yield receive
            for text in texts:
                await forward(Middle(text))
            await forward(Middle(f"{len(texts)} in all"))

    assert await run(Counting(), Finish()) == [End("x"), End("1 in all")]


async def test_a_stage_that_has_enough_keeps_no_other_from_its_end() -> None:
    @frozen
    class Once(Stage[Middle, Middle]):
        async def handle(self, event: Middle, forward: Send[Middle]) -> None:
            if event.text == "x":
                await forward(event)
            raise StopForwarding

    log: list[str] = []
    arrived = await run(Traced("one", log), Once(), Traced("two", log))
    assert [event.text for event in arrived] == ["x", "last of two"]
    assert log[-2:] == ["left one", "left two"]


async def test_a_stage_that_has_enough_at_the_end_hides_no_error() -> None:
    @frozen
    class Last(Stage[Middle, Middle]):
        @asynccontextmanager
        async def open(self, forward: Send[Middle]) -> AsyncIterator[Send[Middle]]:
            try:
                yield forward
            finally:
                await forward(Middle("last"))

    @frozen
    class Full(Stage[Middle, Middle]):
        async def handle(self, event: Middle, forward: Send[Middle]) -> None:
            if event.text == "last":
                raise StopForwarding
            raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        await run(Last(), Full(), event=Middle("x"))


@frozen
class Watcher:
    """Logs each event on each arrow, and when it is done."""

    log: list[str] = Factory(list)

    def watch(self, arrow: int, send: Send[Any]) -> Send[Any]:
        async def watched(event: Any) -> None:
            self.log.append(f"{arrow} {type(event).__name__}")
            await send(event)
            self.log.append(f"{arrow} done")

        return watched


async def forget(event: Any) -> None: ...


@pytest.mark.parametrize("way", ["run", "open"])
async def test_an_observer_sees_each_event_on_each_arrow(way: str) -> None:
    watcher = Watcher()
    chain = Chain.of((Begin(), Finish()), Start)

    if way == "run":
        await chain.run(Start(), forget, watcher)
    else:
        async with chain.open(forget, watcher) as receive:
            await receive(Start())

    assert watcher.log == ["0 Start", "1 Middle", "2 End", "2 done", "1 done", "0 done"]


async def test_an_observer_sees_an_event_that_passes_by_on_both_arrows() -> None:
    watcher = Watcher()

    await Chain.of((Cache(("x",)), Begin(), Finish()), Start).run(Start("x"), forget, watcher)

    assert [line for line in watcher.log if "done" not in line] == [
        "0 Start",
        "1 End",
        "2 End",
        "3 End",
    ]


async def test_an_observer_may_end_the_run() -> None:
    came: list[Any] = []

    @frozen
    class Stop:
        def watch(self, arrow: int, send: Send[Any]) -> Send[Any]:
            async def stop(event: Any) -> None:
                raise StopForwarding

            return stop if arrow == 1 else send

    async def sink(event: Any) -> None:
        came.append(event)

    await Chain.of((Begin(), Finish()), Start).run(Start(), sink, Stop())

    assert came == []
