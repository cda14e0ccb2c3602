"""A task group that keeps the type of an error."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from pipeline.task_groups import task_group
from tests.pipeline.support import SomeError


async def fail(error: BaseException) -> None:
    raise error


async def fail_in_a_group(error: BaseException) -> None:
    async with task_group() as group:
        group.start_soon(fail, error)


async def together(function: Any, *args: Any) -> None:
    """Run it next to a task that would never end."""
    async with task_group() as group:
        group.start_soon(function, *args)
        group.start_soon(anyio.sleep_forever)


async def fail_next_to_it(function: Any, *args: Any, error: Exception) -> None:
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
        await fail_next_to_it(anyio.sleep_forever, error=error)

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
        await fail_next_to_it(fail_when_cancelled, second, error=first)

    assert set(caught.value.exceptions) == {first, second}


async def test_nested_groups_with_one_member_are_unpacked() -> None:
    first, second = SomeError("first"), ValueError("second")

    with pytest.raises(ExceptionGroup) as caught:
        async with task_group() as group:
            group.start_soon(fail, ExceptionGroup("both", [first, second]))

    assert caught.value.exceptions == (first, second)


async def test_the_cause_of_an_error_is_kept_without_the_group() -> None:
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


async def test_a_base_exception_propagates_too() -> None:
    class Stop(BaseException):
        pass

    with pytest.raises(Stop):
        async with task_group() as group:
            group.start_soon(fail, Stop())
