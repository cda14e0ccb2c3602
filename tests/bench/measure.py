"""One round of one target: each of its figures, by key. What cannot be told is left out."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop
from attrs import frozen

from tests.bench.bodies import BURST, EXPECTED, PACED, SHORT, TICK, conversation, hello
from tests.bench.figures import STREAMS
from tests.bench.load import Repeated, paced, repeat
from tests.bench.processes import Target

T = TypeVar("T")

_CONNECTIONS = 16


@frozen
class Measurement:
    """What a round takes: seconds of each load that is repeated, and of looking at streams."""

    repeat_seconds: float
    paced_seconds: float

    def round(self, target: Target) -> dict[str, float]:
        """Put one load after the other on `target`."""
        found: dict[str, float] = {}
        memory = target.memory()
        if memory is not None and not target.answered:  # it has been asked once, to be ready
            found["rest_mb"] = memory / 1e6
        short, cpu = self._repeated(target, hello(SHORT), SHORT, _CONNECTIONS)
        found["requests"] = short.answers / short.seconds
        if cpu is not None:
            found["request_us"] = 1e6 * cpu / short.answers
        burst, cpu = self._repeated(target, hello(BURST), BURST, _CONNECTIONS)
        found["bursts"] = burst.answers / burst.seconds
        if cpu is not None:
            found["burst_ms"] = 1e3 * cpu / burst.answers
        calm = target.memory()
        for n in STREAMS:
            found |= self._paced(target, n, calm)
        for key, size in (("large_ms", 150_000), ("huge_ms", 1_500_000)):
            large, cpu = self._repeated(target, conversation(size), SHORT, 1)
            if cpu is not None:
                found[key] = 1e3 * cpu / large.answers
        return found

    def _repeated(
        self, target: Target, body: bytes, model: str, connections: int
    ) -> tuple[Repeated, float | None]:
        """What came of it, and the CPU it cost, in seconds."""
        target.rest()
        before = target.cpu()
        load = repeat(target.url, body, EXPECTED[model], connections, self.repeat_seconds)
        done = run(load)
        after = target.cpu()
        if done.failed or not done.answers:
            raise SystemExit(
                f"{target.name} ({target.url}): {done.failed} of {done.failed + done.answers} "
                f"answers were not right; does it lead `{model}` to the fake backend?"
            )
        target.answered += done.answers
        return done, None if before is None or after is None else after - before

    def _paced(self, target: Target, streams: int, calm: float | None) -> dict[str, float]:
        target.rest()
        cpu: list[float | None] = []
        memory: list[float | None] = []

        def look(begins: bool) -> None:
            cpu.append(target.cpu())
            memory.append(target.memory())

        seen = run(paced(target.url, hello(PACED), streams, self.paced_seconds, look))
        target.answered += seen.whole
        late = sorted(seen.late) or [0]
        ideal = streams * seen.seconds / TICK
        found = {
            f"p50_ms_{streams}": late[len(late) // 2] / 1e6,
            f"p99_ms_{streams}": late[len(late) * 99 // 100] / 1e6,
            f"sustained_{streams}": min(100.0, 100 * len(seen.late) / ideal),
        }
        if cpu[0] is not None and cpu[1] is not None:
            found[f"delta_us_{streams}"] = 1e6 * (cpu[1] - cpu[0]) / len(late)
        if calm is not None and memory[1] is not None and streams == max(STREAMS):
            found["stream_kb"] = (memory[1] - calm) / 1e3 / streams
        return found


def run(load: Coroutine[Any, Any, T]) -> T:
    """Make a load, on an event loop of its own."""
    return uvloop.run(load)
