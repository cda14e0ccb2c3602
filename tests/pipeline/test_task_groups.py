"""A task group that keeps the type of an error, and work that begins later."""

from __future__ import annotations

import weakref
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from pipeline.task_groups import delayed, task_group
from tests.pipeline.support import SomeError


async def fail(error: BaseException) -> None:
    raise error


async def fail_in_a_group(error: BaseException) -> None:
    async with task_group() as group:
        group.start_soon(fail, error)


async def together(function: Any, *args: Any) -> None:
    """Run it beside a task that would never end."""
    async with task_group() as group:
        group.start_soon(function, *args)
        group.start_soon(anyio.sleep_forever)


async def fail_beside(function: Any, *args: Any, error: Exception) -> None:
    """Raise `error` in the body while the task runs."""
    async with task_group() as group:
        group.start_soon(function, *args)
        await anyio.lowlevel.checkpoint()
        raise error


async def fail_when_cancelled(error: BaseException) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        raise error


async def test_tasks_are_waited_for() -> None:
    done = []

    async def work() -> None:
        await anyio.lowlevel.checkpoint()
        done.append(True)

    async with task_group() as group:
        group.start_soon(work)
        group.start_soon(work)

    assert done == [True, True]


async def test_a_lone_error_of_a_task_is_not_a_group() -> None:
    error = SomeError("this one")

    with pytest.raises(SomeError) as caught:
        await together(fail, error)

    assert caught.value is error


async def test_a_lone_error_of_the_body_is_not_a_group() -> None:
    error = SomeError("this one")

    with pytest.raises(SomeError) as caught:
        await fail_beside(anyio.sleep_forever, error=error)

    assert caught.value is error


async def test_a_lone_error_comes_through_groups_in_groups() -> None:
    error = SomeError("this one")

    with pytest.raises(SomeError) as caught:
        async with task_group() as group:
            group.start_soon(fail_in_a_group, error)

    assert caught.value is error


async def test_a_group_of_one_raised_by_a_task_is_unpacked() -> None:
    error = SomeError("this one")
    nested = ExceptionGroup("outer", [ExceptionGroup("inner", [error])])

    with pytest.raises(SomeError) as caught:
        async with task_group() as group:
            group.start_soon(fail, nested)

    assert caught.value is error


async def test_several_errors_stay_a_group() -> None:
    first, second = SomeError("first"), ValueError("second")

    with pytest.raises(ExceptionGroup) as caught:
        await fail_beside(fail_when_cancelled, second, error=first)

    assert set(caught.value.exceptions) == {first, second}


async def test_a_group_of_several_alone_in_a_group_is_unpacked_to_the_several() -> None:
    first, second = SomeError("first"), ValueError("second")

    with pytest.raises(ExceptionGroup) as caught:
        async with task_group() as group:
            group.start_soon(fail, ExceptionGroup("both", [first, second]))

    assert caught.value.exceptions == (first, second)


async def test_the_cause_of_an_error_is_kept_and_the_group_is_not_added() -> None:
    cause, error = ValueError("cause"), SomeError("this one")

    async def fail_in_handling() -> None:
        try:
            raise cause
        except ValueError:
            raise error  # noqa: B904

    with pytest.raises(SomeError) as caught:
        async with task_group() as group:
            group.start_soon(fail_in_handling)

    assert caught.value.__context__ is cause


async def test_cancellation_is_not_an_error() -> None:
    async with task_group() as group:
        group.start_soon(anyio.sleep_forever)
        group.cancel_scope.cancel()

    with anyio.CancelScope() as scope:
        scope.cancel()
        async with task_group():
            await anyio.sleep_forever()

    assert scope.cancelled_caught


async def test_what_is_no_exception_comes_through_too() -> None:
    class Stop(BaseException):
        pass

    with pytest.raises(Stop):
        async with task_group() as group:
            group.start_soon(fail, Stop())


async def test_delayed_work_begins_when_its_time_has_come() -> None:
    begun = anyio.Event()

    async def work() -> None:
        begun.set()
        await anyio.sleep_forever()

    ordered = delayed(0.01, work)
    before = ordered.now()
    with anyio.fail_after(5):
        await begun.wait()
    assert ordered.now() - before >= 0.009
    await ordered.stop()


async def test_delayed_work_that_is_stopped_before_its_time_never_begins() -> None:
    begun, later = [], anyio.Event()

    async def work() -> None:
        begun.append(True)

    async def work_later() -> None:
        later.set()

    ordered = delayed(0.001, work)
    after = delayed(0.002, work_later)
    await ordered.stop()
    with anyio.fail_after(5):
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


async def test_delayed_work_is_stopped_by_a_caller_that_is_cancelled_too() -> None:
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
