"""The section `ui`: the recent exchanges of this process, and what the page shows next to them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from attrs import define, field, setters, validators

from pipeline import option
from pipeline.config.drawing import DrawnStage, drawn_stages
from pipeline.config.schema import Pipeline
from stages.events import HttpRequest
from stages.exchange import Exchange
from stages.page.other_workers import Ask, ask_nobody
from stages.page.overview import MOST
from stages.page.packing import pack, pack_row, sample, unpack
from stages.page.ring import Ring
from stages.page.texts import TextCollector, Texts

MB = 1_000_000
#: Exchanges in a second that are measured and kept. Both take a tenth of the time of a short
#: response, and nobody reads more of them. Those that failed are always kept.
_KEPT = 20
_SECONDS = 60
#: Exchanges in a second whose texts are kept: redaction takes up to 10 ms of each.
_WITH_TEXTS = 5


# Without NO_OP each assignment would run the validators: four calls, for each exchange.
@define(eq=False, on_setattr=setters.NO_OP)
class RecentExchanges:
    """The section `ui`. Only the event loop's thread uses it."""

    max_bytes: int = option(
        15 * MB,
        help="most bytes of recent exchanges in the memory of a process; beyond, the oldest are "
        "dropped. One takes 1 to 5 KB",
        validator=validators.ge(0),
    )
    bodies: bool = option(
        False,
        help="keep prompts and responses too, cut and redacted, and show them on the page. Whoever "
        "sees the page reads them. At most 5 exchanges in a second",
    )
    running: dict[str, Exchange] = field(factory=dict, init=False, repr=False)
    """The exchanges in flight, the oldest first."""
    pipelines: tuple[Pipeline, ...] = field(default=(), init=False, repr=False)
    """The pipelines of the config."""
    backend_errors: Callable[[], Mapping[str, str]] = field(default=dict, init=False, repr=False)
    """Returns why each backend is not ready; empty, if it is."""
    ask: Ask = field(default=ask_nobody, init=False, repr=False)
    """Asks the other workers: each has its own recent exchanges."""
    drawings: tuple[tuple[DrawnStage, ...], ...] = field(default=(), init=False, repr=False)
    """The stages of each pipeline."""
    _ring: Ring = field(init=False, repr=False)
    _samples: deque[Exchange] = field(factory=lambda: deque(maxlen=MOST), init=False, repr=False)
    _second: int = field(default=0, init=False, repr=False)
    """The second in which the newest exchange began."""
    _begun: int = field(default=0, init=False, repr=False)
    """Exchanges that began in it."""
    _end_second: int = field(default=0, init=False, repr=False)
    """The second in which the newest kept exchange ended."""
    _kept: int = field(default=0, init=False, repr=False)
    """Exchanges that ended in it and are kept."""
    _minute: deque[tuple[int, int]] = field(
        factory=lambda: deque(maxlen=_SECONDS), init=False, repr=False
    )
    """Earlier seconds, and how many exchanges began in each."""
    _collectors: dict[str, TextCollector] = field(factory=dict, init=False, repr=False)
    """Those of exchanges in flight whose texts are to be kept, by id."""

    @_ring.default
    def _make_ring(self) -> Ring:
        return Ring(self.max_bytes)

    def begin(self, exchange: Exchange) -> bool:
        """Record an exchange from its begin on. Return whether to measure its stages.

        The times of its stream are recorded if its stages are measured.
        """
        self.running[exchange.id] = exchange
        exchange.on_end.append(self._end)
        if not self._second <= exchange.received < self._second + 1:
            self._minute.append((self._second, self._begun))
            self._second, self._begun = int(exchange.received), 0
        self._begun += 1
        if self._begun > _KEPT:
            return False
        exchange.stream_times = []
        if self.bodies and self._begun <= _WITH_TEXTS:
            collector = TextCollector()
            exchange.on_request.append(collector.set_request)
            exchange.on_stream_event.append(collector.add)
            self._collectors[exchange.id] = collector
        return True

    def _end(self, exchange: Exchange) -> None:
        self.running.pop(exchange.id, None)
        collector = self._collectors.pop(exchange.id, None) if self._collectors else None
        ended = exchange.ended or 0
        if not self._end_second <= ended < self._end_second + 1:
            self._end_second, self._kept = int(ended), 0
        if self._kept < _KEPT or exchange.outcome != "complete" or exchange.repeats:
            self._kept += 1
            self._samples.appendleft(sample(exchange))
            data = pack(exchange)
            if collector and (texts := collector.texts(exchange.full_message)):
                data += b"\n" + texts.encoded()  # `data` is one line
            self._ring.add(exchange.id, data)

    def begun_within_a_minute(self, now: float) -> int:
        """Return the number of exchanges that began in the last minute, also of those not kept."""
        seconds = (*self._minute, (self._second, self._begun))
        return sum(number for second, number in seconds if second > now - _SECONDS)

    @property
    def samples(self) -> Collection[Exchange]:
        """The newest exchanges that have ended, the newest first: see `sample`."""
        return self._samples

    def newest(self, limit: int, before: float | None = None) -> Iterator[bytes]:
        """Yield at most `limit` exchanges, packed, the newest first, that ended `before`."""
        skip = 0 if before is None else self._ring.number_since(before, _ended)
        return map(_record, self._ring.newest(limit, skip))

    def find(self, id: str) -> Exchange | None:
        """Return an exchange in flight or a recent one; None if it is not in memory."""
        if exchange := self.running.get(id):
            return exchange
        data = self._ring.find(id)
        return None if data is None else unpack(_record(data))

    def texts(self, id: str) -> Texts | None:
        """Return the texts of a recent exchange; None if they are not in memory."""
        data = self._ring.find(id) if self.bodies else None
        texts = data.partition(b"\n")[2] if data else b""
        return Texts.decoded(texts) if texts else None

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
        if not self.bodies:  # a config before a reload may have kept texts
            self._collectors.clear()
            self._ring.replace(_record)

    def carry_over(self, running: RecentExchanges) -> None:
        """Keep the exchanges of `running`, and its counts."""
        self.running, self._ring, self._minute = running.running, running._ring, running._minute
        self._samples, self._collectors = running._samples, running._collectors


def _record(data: bytes) -> bytes:
    """Return an item of the ring without its texts."""
    return data.partition(b"\n")[0]


def _ended(data: bytes) -> float:
    return pack_row(_record(data))[0]
