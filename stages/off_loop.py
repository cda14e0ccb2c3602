"""Work on large bodies, off the event loop.

A body of 3 MB in small messages takes half a second to read, check and translate. In a thread the
event loop waits for it no longer than Python's switch interval (5 ms), or one call of C code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

T = TypeVar("T")
Args = TypeVarTuple("Args")

#: Bytes. What smaller bodies take the event loop can wait for: up to 20 ms for the densest.
LARGE_BODY = 100_000
_LIMITER: RunVar[CapacityLimiter] = RunVar("llm_proxy_large_bodies")


async def off_loop(function: Callable[[*Args], T], *args: *Args) -> T:
    """Call `function` in a thread. To be used for bodies of LARGE_BODY and more.

    One at a time: threads share Python's lock, and several would only hold more memory. They do
    not take the threads of others, as of a reload.
    """
    return await to_thread.run_sync(function, *args, limiter=_limiter())


def _limiter() -> CapacityLimiter:
    """That of this event loop."""
    try:
        return _LIMITER.get()
    except LookupError:
        limiter = CapacityLimiter(1)
        _LIMITER.set(limiter)
        return limiter
