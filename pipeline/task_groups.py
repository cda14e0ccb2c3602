"""A task group that keeps the type of an error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """Open a task group that raises a single exception as itself, not as a group of one.

    This matters around `forward`: `except ApiError` would miss an ExceptionGroup. A lint rule
    forbids `anyio.create_task_group` elsewhere.
    """
    try:
        async with anyio.create_task_group() as group:  # noqa: TID251
            yield group
    except BaseExceptionGroup as error:
        single: BaseException = error
        while isinstance(single, BaseExceptionGroup) and len(single.exceptions) == 1:
            single = single.exceptions[0]
        if single is error:
            raise
        context = single.__context__
        try:
            raise single
        finally:
            single.__context__ = context  # without "during handling of" the group
            del single, context
