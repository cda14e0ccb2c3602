"""The loads, one after the other, and what is seen of a target under each.

Figures that cannot be measured are left out, such as the CPU of an unknown process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from itertools import islice, repeat
from typing import Any, TypeVar

import uvloop
from attrs import frozen

from tests.bench import load
from tests.bench.bodies import BURST, EXPECTED, PACED, SHORT, TICK, grown, hello, renewed
from tests.bench.figures import STREAMS
from tests.bench.load import Repeated, paced
from tests.bench.processes import Target

T = TypeVar("T")

_CONNECTIONS = 16
#: Streams that are open while large requests come, and seconds between two of these.
_GAP_STREAMS, _APART = 50, 0.2

Bodies = Callable[[], Iterator[bytes]]

Load = Callable[[Target], dict[str, float]]
"""Puts a load on a target; gives figures by key."""


@frozen
class Loads:
    """All of them: seconds of each that is repeated, and of looking at open streams."""

    repeat_seconds: float
    paced_seconds: float

    def __iter__(self) -> Iterator[Load]:
        yield self._short
        yield self._burst
        for streams in STREAMS:
            yield partial(self._paced, streams)
        yield partial(self._large, "large_ms", lambda: grown(150_000))
        yield partial(self._large, "huge_ms", lambda: grown(1_500_000))
        yield partial(self._large, "new_ms", lambda: renewed(1_500_000))
        yield partial(self._gap, "gap_ms", None)
        yield partial(self._gap, "gap_new_ms", lambda: renewed(1_500_000))

    def _short(self, target: Target) -> dict[str, float]:
        done, cpu = self._repeated(target, repeat(hello(SHORT)), SHORT, _CONNECTIONS)
        each = {} if cpu is None else {"request_us": 1e6 * cpu / done.answers}
        return {"requests": done.answers / done.seconds, **each}

    def _burst(self, target: Target) -> dict[str, float]:
        done, cpu = self._repeated(target, repeat(hello(BURST)), BURST, _CONNECTIONS)
        each = {} if cpu is None else {"burst_ms": 1e3 * cpu / done.answers}
        return {"bursts": done.answers / done.seconds, **each}

    def _large(self, key: str, bodies: Bodies, target: Target) -> dict[str, float]:
        done, cpu = self._repeated(target, bodies(), SHORT, 1)
        return {} if cpu is None else {key: 1e3 * cpu / done.answers}

    def _gap(self, key: str, bodies: Bodies | None, target: Target) -> dict[str, float]:
        """The longest delay of a delta in streams, while requests with `bodies` come."""
        target.rest()
        sent = list(islice(bodies(), int(self.paced_seconds / _APART))) if bodies else []
        tasks: list[asyncio.Future[None]] = []

        async def send() -> None:
            for body in sent:
                await load.repeat(target.url, [body], EXPECTED[SHORT], 1, 0)
                await asyncio.sleep(_APART)

        def look() -> None:
            if not tasks:
                tasks.append(asyncio.ensure_future(send()))

        seen = run(paced(target.url, hello(PACED), _GAP_STREAMS, self.paced_seconds, look))
        return {key: max(seen.late) / 1e6}

    def _repeated(
        self, target: Target, bodies: Iterable[bytes], model: str, connections: int
    ) -> tuple[Repeated, float | None]:
        """What came of it, and the CPU it cost, in seconds."""
        target.rest()
        before = target.cpu()
        sent = load.repeat(target.url, bodies, EXPECTED[model], connections, self.repeat_seconds)
        done = run(sent)
        after = target.cpu()
        if done.failed or not done.answers:
            raise SystemExit(
                f"{target.name} ({target.url}): {done.failed} of {done.failed + done.answers} "
                f"answers were not right; does it lead `{model}` to the fake backend?"
            )
        target.answered += done.answers
        return done, None if before is None or after is None else after - before

    def _paced(self, streams: int, target: Target) -> dict[str, float]:
        target.rest()
        calm = target.memory()
        seen: list[tuple[float | None, float | None]] = []

        def look() -> None:
            seen.append((target.cpu(), target.memory()))

        done = run(paced(target.url, hello(PACED), streams, self.paced_seconds, look))
        target.answered += done.whole
        late = sorted(done.late) or [0]
        ideal = streams * done.seconds / TICK
        found = {
            f"p50_ms_{streams}": late[len(late) // 2] / 1e6,
            f"p99_ms_{streams}": late[len(late) * 99 // 100] / 1e6,
            f"sustained_{streams}": min(100.0, 100 * len(done.late) / ideal),
        }
        (before, _), (after, memory) = seen
        if before is not None and after is not None:
            found[f"delta_us_{streams}"] = 1e6 * (after - before) / len(late)
        if calm and memory and streams == max(STREAMS):
            found["stream_kb"] = (memory - calm) / 1e3 / streams
        return found


def run(load: Coroutine[Any, Any, T]) -> T:
    """Make a load, on an event loop of its own."""
    return uvloop.run(load)
