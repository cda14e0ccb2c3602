"""A task group that keeps the type of an error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """A task group that raises a lone exception as itself, not as a group of one.

    Around `forward` this matters: `except ApiError` would miss an ExceptionGroup. It is the
    only place that may call `anyio.create_task_group`; a lint rule says so.
    """
    try:
        async with anyio.create_task_group() as group:  # noqa: TID251
            yield group
    except BaseExceptionGroup as error:
        alone: BaseException = error
        while isinstance(alone, BaseExceptionGroup) and len(alone.exceptions) == 1:
            alone = alone.exceptions[0]
        if alone is error:
            raise
        context = alone.__context__
        try:
            raise alone
        finally:
            alone.__context__ = context  # "during handling of" the group would say nothing new
            del alone, context
