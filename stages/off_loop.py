"""Process large bodies in a thread, off the event loop.

A body of 3 MB in small messages takes half a second to parse, validate and translate. If a thread
does this, the event loop waits for at most Python's switch interval (5 ms), or one call of C code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

T = TypeVar("T")
Args = TypeVarTuple("Args")

#: Bytes. Smaller bodies are processed on the event loop: the densest ones take up to 20 ms.
LARGE_BODY = 100_000
_LIMITER: RunVar[CapacityLimiter] = RunVar("llm_proxy_large_bodies")


async def off_loop(function: Callable[[*Args], T], *args: *Args) -> T:
    """Call `function` in a thread. Use this for bodies of LARGE_BODY bytes and more.

    One thread runs at a time: threads share Python's lock, and several would only need more memory.
    The limiter is separate from AnyIO's default one, which a reload uses, for instance.
    """
    return await to_thread.run_sync(function, *args, limiter=_limiter())


def _limiter() -> CapacityLimiter:
    """The limiter of this event loop."""
    try:
        return _LIMITER.get()
    except LookupError:
        limiter = CapacityLimiter(1)
        _LIMITER.set(limiter)
        return limiter
