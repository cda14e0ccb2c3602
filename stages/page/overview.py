"""What the page shows of pipelines and backends. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

import msgspec
from attrs import frozen

from pipeline.config.drawing import DrawnStage
from pipeline.config.schema import Pipeline
from stages.backends.backend import Backend
from stages.backends.config import ModelEntry
from stages.backends.session import strip_credentials
from stages.exchange import Exchange
from stages.routing.breaker import State

#: Seconds over which rates are computed, and exchanges over which latencies are, at most.
WINDOW, MOST = 60.0, 100


@frozen
class Window:
    """Exchanges of the last minute: a sample of the `total` that began in it."""

    exchanges: Sequence[Exchange]
    total: int

    @classmethod
    def of(cls, newest: Iterable[Exchange], now: float, total: int) -> Window:
        """Choose those of `newest` that ended in the last minute."""
        return cls([each for each in newest if now - _end(each) <= WINDOW], total)

    @property
    def rate(self) -> float:
        """The requests in a second for which each exchange of the sample counts."""
        number = len(self.exchanges)
        return max(self.total, number) / max(number, 1) / WINDOW


def _end(exchange: Exchange) -> float:
    return exchange.ended or exchange.received


class Figures(msgspec.Struct, array_like=True):
    """What one worker counts of a pipeline, a stage or a backend. Those of workers can be added."""

    times: list[tuple[float, list[float]]] = []
    """Seconds of the requests in each worker's sample, after the requests in a second for which
    each of them counts: a busy worker has a sample as large as that of another one."""
    rate: float = 0.0
    """All requests in a second, not only those of the sample."""
    running: int = 0
    waiting: int = 0
    failed: int = 0
    """Requests or calls in the sample that failed."""
    last_failure: tuple[float, str] = (0.0, "")
    """When the last of them failed, and its error."""
    prompt_tokens: float = 0.0
    """Tokens in a second, and those that came from a cache."""
    cached_tokens: float = 0.0

    def add_failure(self, at: float, error: str) -> None:
        """Count a failure."""
        self.failed += 1
        self.last_failure = max(self.last_failure, (at, error))

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            [*self.times, *other.times],
            self.rate + other.rate,
            self.running + other.running,
            self.waiting + other.waiting,
            self.failed + other.failed,
            max(self.last_failure, other.last_failure),
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
        )


_NONE = Figures()


def pipeline_figures(window: Window, running: Iterable[Exchange]) -> dict[str, Figures]:
    """Count the pipelines: the time of a request is that until its end."""
    figures: dict[str, Figures] = defaultdict(Figures)
    times: dict[str, list[float]] = defaultdict(list)
    rate = window.rate
    for exchange in window.exchanges:
        own = figures[exchange.pipeline]
        times[exchange.pipeline].append(_end(exchange) - exchange.received)
        own.rate += rate
        if exchange.error:
            own.add_failure(_end(exchange), exchange.error)
    for exchange in running:
        figures[exchange.pipeline].running += 1
    for pipeline, values in times.items():
        figures[pipeline].times.append((rate, values))
    return figures


def stage_figures(window: Window, pipelines: Mapping[str, Figures]) -> dict[str, Figures]:
    """Count the stages, by `stage_key`: the time is that until the stage forwards its first event.

    Not every exchange has times of stages. The rate of a stage is estimated from those that have.
    """
    measured = [exchange for exchange in window.exchanges if exchange.stages]
    numbers = Counter(exchange.pipeline for exchange in measured)
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for exchange in measured:
        for run in exchange.stages:
            if (until := run.forwarded or run.ended) is not None:
                times[exchange.pipeline, run.stage].append(until - run.began)
    rates = {name: pipelines[name].rate / number for name, number in numbers.items()}
    return {
        stage_key(name, stage): Figures([(rates[name], values[:MOST])], rates[name] * len(values))
        for (name, stage), values in times.items()
    }


def stage_key(pipeline: str, stage: str) -> str:
    """Return the key of a stage: names of stages have no slash."""
    return f"{pipeline}/{stage}"


def backend_figures(backends: Mapping[str, Backend], window: Window) -> dict[str, Figures]:
    """Count the backends: the time is that until the first token."""
    figures: dict[str, Figures] = defaultdict(Figures)
    times: dict[str, list[float]] = defaultdict(list)
    rate = window.rate
    for name, backend in backends.items():
        if queue := backend.queue:
            figures[name].running, figures[name].waiting = queue.running, queue.waiting
    for exchange in window.exchanges:
        for attempt in exchange.attempts:
            if attempt.error:
                failed = figures[attempt.target.backend]
                failed.add_failure(attempt.ended or attempt.sent, attempt.error)
        if exchange.target:
            own, usage = figures[exchange.target.backend], exchange.usage
            own.rate += rate
            if exchange.first_token:
                times[exchange.target.backend].append(exchange.first_token - exchange.received)
            if usage and not usage.estimated:
                own.prompt_tokens += rate * usage.prompt_tokens
                own.cached_tokens += rate * usage.cache_read_input_tokens
    for name, values in times.items():
        figures[name].times.append((rate, values))
    return figures


@frozen
class Latency:
    """A number of requests in the sample, and their times in seconds; None without a request.

    `rate` counts all requests in a second, not only those of the sample.
    """

    number: int = 0
    rate: float = 0.0
    median: float | None = None
    p95: float | None = None

    @classmethod
    def of(cls, figures: Figures) -> Latency:
        """Compute it from the times of all workers."""
        times = [time for _, each in figures.times for time in each]
        if not times:
            return cls()
        weights = [weight for weight, each in figures.times for _ in each]
        order = sorted(range(len(times)), key=times.__getitem__)
        sums = [*accumulate(map(weights.__getitem__, order))]
        median, p95 = (
            times[order[min(bisect_right(sums, share * sums[-1]), len(times) - 1)]]
            for share in (0.5, 0.95)
        )
        return cls(len(times), figures.rate, median, p95)


@frozen
class StageView:
    """A box of the drawing. `time`: until the stage forwarded its first event."""

    drawn: DrawnStage
    time: Latency


@frozen
class PipelineView:
    """A pipeline with its boxes. `errors` is the number of its requests that failed."""

    name: str
    routes: tuple[str, ...]
    time: Latency
    running: int
    errors: int
    stages: tuple[StageView, ...]


def pipeline_views(
    pipelines: Sequence[Pipeline],
    drawings: Sequence[Sequence[DrawnStage]],
    figures: Mapping[str, Figures],
    stages: Mapping[str, Figures],
) -> Iterator[PipelineView]:
    """Yield the pipelines in the order of the config. `drawings` has their stages."""
    for pipeline, drawing in zip(pipelines, drawings, strict=True):
        own = figures.get(pipeline.name, _NONE)
        of_stages = (stages.get(stage_key(pipeline.name, each.name), _NONE) for each in drawing)
        yield PipelineView(
            pipeline.name,
            pipeline.routes,
            Latency.of(own),
            own.running,
            own.failed,
            tuple(
                StageView(drawn, Latency.of(stage))
                for drawn, stage in zip(drawing, of_stages, strict=True)
            ),
        )


@frozen
class BackendView:
    """A backend. `error` says why it is not ready; None: no model refers to it.

    `slots` is None if the number of calls is not limited.
    """

    name: str
    url: str
    error: str | None
    breakers: tuple[tuple[str, State], ...]
    slots: int | None
    running: int
    waiting: int
    first_token: Latency
    cached: float | None
    """The share of the prompts' tokens that came from a cache."""
    failed: int = 0
    """Number of calls in the sample that failed."""
    last_error: str = ""
    """The ErrorKind of the latest of them."""

    @property
    def free(self) -> int:
        """Number of free slots."""
        return max((self.slots or 0) - self.running, 0)


def backend_views(
    backends: Mapping[str, Backend],
    models: Mapping[str, ModelEntry],
    errors: Mapping[str, str],
    states: Mapping[str, State],
    figures: Mapping[str, Figures],
) -> Iterator[BackendView]:
    """Yield the backends in the order of the config."""
    labels = {t.label: t.backend for entry in models.values() for t in entry.targets}
    for name, backend in backends.items():
        own = figures.get(name, _NONE)
        yield BackendView(
            name,
            strip_credentials(backend.profile.base_url),
            errors.get(name),
            tuple((k, state) for k, state in states.items() if labels.get(k) == name),
            backend.queue.slots if backend.queue else None,
            own.running,
            own.waiting,
            Latency.of(own),
            own.cached_tokens / own.prompt_tokens if own.prompt_tokens else None,
            own.failed,
            own.last_failure[1],
        )
