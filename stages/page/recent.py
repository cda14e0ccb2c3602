"""The section `ui`: the recent exchanges of this process, and what the page shows next to them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import define, field, validators

from pipeline import option
from pipeline.config.drawing import DrawnStage, drawn_stages
from pipeline.config.schema import Pipeline
from stages.events import HttpRequest
from stages.exchange import Exchange
from stages.page.packing import pack, unpack
from stages.page.ring import Ring

MB = 1_000_000
#: Exchanges in a second whose stages are measured, and that are kept. Each of both takes 5 % of the
#: time of a short response, and nobody reads more of them. Those that failed are always kept.
_MEASURED, _KEPT = 20, 50
_SECONDS = 60


@define(eq=False)
class RecentExchanges:
    """The section `ui`. Only the event loop's thread uses it."""

    max_bytes: int = option(
        15 * MB,
        help="most bytes of recent exchanges in the memory of a process; beyond, the oldest are "
        "dropped. One takes 1 to 5 KB",
        validator=validators.ge(0),
    )
    running: dict[str, Exchange] = field(factory=dict, init=False, repr=False)
    """The exchanges in flight, the oldest first."""
    pipelines: tuple[Pipeline, ...] = field(default=(), init=False, repr=False)
    """The pipelines of the config."""
    backend_errors: Callable[[], Mapping[str, str]] = field(default=dict, init=False, repr=False)
    """Returns why each backend is not ready; empty, if it is."""
    drawings: tuple[tuple[DrawnStage, ...], ...] = field(default=(), init=False, repr=False)
    """The stages of each pipeline."""
    _ring: Ring = field(init=False, repr=False)
    _second: int = field(default=0, init=False, repr=False)
    """The second in which the newest exchange began."""
    _begun: int = field(default=0, init=False, repr=False)
    _kept: int = field(default=0, init=False, repr=False)
    """Exchanges that began in it, and that were kept since."""
    _minute: deque[tuple[int, int]] = field(
        factory=lambda: deque(maxlen=_SECONDS), init=False, repr=False
    )
    """Earlier seconds, and how many exchanges began in each."""

    @_ring.default
    def _make_ring(self) -> Ring:
        return Ring(self.max_bytes)

    def begin(self, exchange: Exchange) -> None:
        """Record an exchange from its begin on, with the times of its stream."""
        exchange.stream_times = []
        self.running[exchange.id] = exchange
        exchange.on_end.append(self._end)
        second = int(exchange.received)
        if second != self._second:
            self._start_second(second)
        self._begun += 1

    def measures(self, exchange: Exchange) -> bool:
        """Whether to measure the stages of this exchange, which has just begun."""
        return self._begun <= _MEASURED

    def _start_second(self, second: int) -> None:
        self._minute.append((self._second, self._begun))
        self._second, self._begun, self._kept = second, 0, 0

    def _end(self, exchange: Exchange) -> None:
        self.running.pop(exchange.id, None)
        if self._kept < _KEPT or exchange.outcome != "complete" or exchange.repeats:
            self._kept += 1
            self._ring.add(exchange.id, pack(exchange))

    def begun_within_a_minute(self, now: float) -> int:
        """Return the number of exchanges that began in the last minute, also of those not kept."""
        seconds = (*self._minute, (self._second, self._begun))
        return sum(number for second, number in seconds if second > now - _SECONDS)

    def newest(self, limit: int, skip: int = 0) -> Iterator[Exchange]:
        """Yield at most `limit` exchanges that have ended, the newest first, after `skip`."""
        return map(unpack, self._ring.newest(limit, skip))

    def find(self, id: str) -> Exchange | None:
        """Return an exchange in flight or a recent one; None if it is not in memory."""
        if exchange := self.running.get(id):
            return exchange
        data = self._ring.find(id)
        return data and unpack(data)  # type: ignore[return-value]

    @property
    def counts(self) -> dict[str, Any]:
        """The number of exchanges in memory, of those dropped, and the bytes in use."""
        ring = self._ring
        return {"number": len(ring), "dropped": ring.dropped, "bytes": ring.used_bytes}

    def serve(
        self, pipelines: tuple[Pipeline, ...], backend_errors: Callable[[], Mapping[str, str]]
    ) -> None:
        """Show these pipelines. `backend_errors` returns why a backend is not ready."""
        self.pipelines, self.backend_errors = pipelines, backend_errors
        self.drawings = tuple(tuple(drawn_stages(each, HttpRequest)) for each in pipelines)
        self._ring.max_bytes = self.max_bytes

    def carry_over(self, running: RecentExchanges) -> None:
        """Keep the exchanges of `running`, and its counts."""
        self.running, self._ring, self._minute = running.running, running._ring, running._minute
