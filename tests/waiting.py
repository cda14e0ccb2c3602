"""Waits for what happens after a response: log lines, metrics, recorded rows, spans, free slots.

The proxy does these in its own threads after it has sent the response. A test that reads them as
soon as it has the response fails on a busy machine, or cannot fail if it asserts an absence.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import anyio
import pytest

#: Seconds that no wait takes unless the condition never holds.
LIMIT = 30.0

T = TypeVar("T")


def until(
    condition: Callable[[], T], failure: str = "it is not in the log", within: float = LIMIT
) -> T:
    """Wait until `condition` returns a true value, at most `within` seconds. Return the value.

    `failure` is the message if it never does.
    """
    end = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < end, failure
        threading.Event().wait(0.02)
    return value


async def until_async(condition: Callable[[], object], within: float = LIMIT) -> None:
    """Wait for `condition` and let other tasks run meanwhile, at most `within` seconds."""
    with anyio.fail_after(within):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.005)


def logged(caplog: pytest.LogCaptureFixture, *words: str) -> str:
    """Wait for a line of the log that has all these words. Return the first such line."""

    def line() -> str:
        lines = (line for line in caplog.messages if all(word in line for word in words))
        return next(lines, "")

    return until(line, f"no line of the log has {words}")
