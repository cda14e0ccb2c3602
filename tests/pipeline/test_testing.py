"""The tools for authors of stages: a good stage passes, each kind of broken one is caught."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from attrs import Factory, frozen

from pipeline import Send, Stage, StopForwarding
from pipeline.task_groups import task_group
from pipeline.testing import check_stage, run_stage
from tests.cases import for_each
from tests.pipeline.support import (
    Begin,
    Cache,
    End,
    Event,
    Failing,
    Finish,
    Middle,
    NarrowMiddle,
    SomeError,
    Start,
    T,
    Tap,
    Traced,
)


@frozen
class Splitting(Stage[Middle, Middle]):
    """Several for one, and one more at the end, with state for each request."""

    @asynccontextmanager
    async def open(self, forward: Send[Middle]) -> AsyncIterator[Send[Middle]]:
        count = 0

        async def receive(event: Middle) -> None:
            nonlocal count
            for word in event.text.split():
                count += 1
                await forward(NarrowMiddle(word))

        yield receive
        await forward(Middle(f"{count} words"))


@frozen
class Silent(Stage[Start, Middle]):
    """Keeps everything to itself."""

    async def handle(self, event: Start, forward: Send[Middle]) -> None:
        pass


@frozen
class Grouped(Stage[T, T]):
    """Forwards from a task of its own."""

    async def handle(self, event: T, forward: Send[T]) -> None:
        async def work() -> None:
            await forward(event)

        async with task_group() as group:
            group.start_soon(work)


@frozen
class Ending(Stage[object, End]):
    """Ends whatever comes."""

    async def handle(self, event: object, forward: Send[End]) -> None:
        await forward(End())


@frozen
class Undeclared(Stage[Start, Middle]):
    """Forwards an event that its signature lacks."""

    async def handle(self, event: Start, forward: Send[Any]) -> None:
        await forward(Middle())
        await forward(End("undeclared"))


@frozen
class Remembering(Stage[Start, Middle]):
    """Keeps state between requests."""

    seen: set[str] = Factory(set)

    async def handle(self, event: Start, forward: Send[Middle]) -> None:
        if event.text not in self.seen:
            self.seen.add(event.text)
            await forward(Middle(event.text))


@frozen
class Mixing(Stage[Start, Middle]):
    """Answers the request that was opened last."""

    ways: list[Any] = Factory(list)

    @asynccontextmanager
    async def open(self, forward: Send[Middle]) -> AsyncIterator[Send[Start]]:
        self.ways.append(forward)

        async def receive(event: Start) -> None:
            await self.ways[-1](Middle(event.text))

        try:
            yield receive
        finally:
            self.ways.remove(forward)


@frozen
class Swallowing(Stage[Start, Middle]):
    """Hides errors of later stages."""

    async def handle(self, event: Start, forward: Send[Middle]) -> None:
        try:
            await forward(Middle(event.text))
        except Exception:  # noqa: BLE001
            return


@frozen
class Rewording(Stage[Start, Middle]):
    """Turns errors of later stages into its own."""

    async def handle(self, event: Start, forward: Send[Middle]) -> None:
        try:
            await forward(Middle(event.text))
        except Exception as error:
            raise SomeError from error


@frozen
class Grouping(Stage[Start, Middle]):
    """Wraps errors of later stages in a group."""

    async def handle(self, event: Start, forward: Send[Middle]) -> None:
        async def work() -> None:
            await forward(Middle(event.text))

        async with anyio.create_task_group() as group:
            group.start_soon(work)


@frozen
class Keeping(Stage[T, T]):
    """Fits anywhere, but lets only events pass that it knows."""

    async def handle(self, event: T, forward: Send[T]) -> None:
        if isinstance(event, Event):
            await forward(event)


@frozen
class Once(Stage[Middle, Middle]):
    """Has enough with one."""

    async def handle(self, event: Middle, forward: Send[Middle]) -> None:
        await forward(event)
        raise StopForwarding


@for_each(
    ("stage", "event"),
    [
        (Begin(), Start("a")),
        (Finish(), NarrowMiddle("a")),
        (Tap(), Start("a")),
        (Cache(("a",)), Start("a")),
        (Cache(("a",)), Start("b")),
        (Splitting(), Middle("one two three")),
        (Splitting(), Middle("")),
        (Silent(), Start("a")),
        (Ending(), Start("a")),
        (Grouped(), Start("a")),
        (Traced("it", []), Start("a")),
        (Once(), Middle("a")),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_good_stage_passes(stage: Stage[Any, Any], event: Event) -> None:
    await check_stage(stage, [event, event])
    await check_stage(stage, [])


@for_each(
    ("make", "rule"),
    [
        (Undeclared, "Undeclared forwarded End.*'undeclared'.*, which is not in its"),
        (Remembering, "Remembering keeps state between requests: .*Middle.*, then \\[\\]"),
        (Mixing, "Mixing mixes up two requests that are open at a time"),
        (Swallowing, "Swallowing swallows or changes errors of later stages"),
        (Rewording, "Rewording swallows or changes errors of later stages"),
        (Grouping, "Grouping swallows or changes errors of later stages"),
        (Keeping, "Keeping does not let other events pass"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
async def test_a_broken_stage_is_caught(make: Callable[[], Stage[Any, Any]], rule: str) -> None:
    with pytest.raises(AssertionError, match=rule):
        await check_stage(make(), [Start("a")])


@pytest.mark.parametrize("use", [run_stage, check_stage])
async def test_a_stage_that_drops_the_result_of_forward_is_reported(use: Any) -> None:
    @frozen
    class Forgetting(Stage[Start, Middle]):
        def handle(self, event: Start, forward: Send[Middle]) -> Any:
            forward(Middle(event.text))

    rule = "Forgetting returned None: make it an `async def`, or end it with `return forward"
    with (
        pytest.warns(RuntimeWarning, match="was never awaited"),
        pytest.raises(AssertionError, match=rule),
    ):
        await use(Forgetting(), [Start("a")])


async def test_an_error_of_the_stage_itself_comes_out() -> None:
    error = SomeError("this one")

    for use in (run_stage, check_stage):
        with pytest.raises(SomeError) as caught:
            await use(Failing(error), [Middle("a")])
        assert caught.value is error


async def test_run_stage_gives_what_it_forwarded_also_on_closing() -> None:
    assert await run_stage(Splitting(), [Middle("a b"), Middle("c")]) == [
        NarrowMiddle("a"),
        NarrowMiddle("b"),
        NarrowMiddle("c"),
        Middle("3 words"),
    ]


async def test_run_stage_sends_no_more_once_the_stage_has_enough() -> None:
    assert await run_stage(Once(), [Middle("a"), Middle("b")]) == [Middle("a")]


async def test_run_stage_lets_pass_by_what_the_stage_does_not_accept() -> None:
    assert await run_stage(Finish(), [Start("a"), Middle("b"), End("c")]) == [
        Start("a"),
        End("b"),
        End("c"),
    ]


async def test_check_stage_takes_any_iterable_of_events() -> None:
    await check_stage(Begin(), (Start(text) for text in "ab"))


async def test_cancellation_is_not_taken_for_an_error() -> None:
    @frozen
    class Endless(Stage[Start, Middle]):
        async def handle(self, event: Start, forward: Send[Middle]) -> None:
            await anyio.sleep_forever()

    with anyio.move_on_after(0) as scope:
        await check_stage(Endless(), [Start()])

    assert scope.cancelled_caught
