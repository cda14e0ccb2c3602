"""What the page shows of pipelines and backends. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby

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

    def rate(self, part: float) -> float:
        """Return the requests in a second for a part of the sample."""
        return part * max(self.total, len(self.exchanges)) / WINDOW


def _end(exchange: Exchange) -> float:
    return exchange.ended or exchange.received


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
    def of(cls, values: Collection[float], rate: float) -> Latency:
        """Compute it from the seconds of each request."""
        if not values:
            return cls()
        ordered = sorted(values)
        p95 = ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)]
        return cls(len(values), rate, statistics.median(ordered), p95)


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
    window: Window,
    running: Collection[Exchange],
) -> Iterator[PipelineView]:
    """Yield the pipelines in the order of the config. `drawings` has their stages.

    Not every exchange has times of stages. The rate of a stage is estimated from those that have.
    """
    for pipeline, drawing in zip(pipelines, drawings, strict=True):
        own = [each for each in window.exchanges if each.pipeline == pipeline.name]
        rate = window.rate(len(own) / len(window.exchanges)) if own else 0.0
        yield PipelineView(
            pipeline.name,
            pipeline.routes,
            Latency.of([_end(each) - each.received for each in own], rate),
            sum(each.pipeline == pipeline.name for each in running),
            sum(bool(each.error) for each in own),
            tuple(_stage_views(drawing, [each for each in own if each.stages], rate)),
        )


def _stage_views(
    drawing: Sequence[DrawnStage], measured: Sequence[Exchange], rate: float
) -> Iterator[StageView]:
    times: dict[str, list[float]] = {}
    for run in (run for exchange in measured for run in exchange.stages):
        if (until := run.forwarded or run.ended) is not None:
            times.setdefault(run.stage, []).append(until - run.began)
    for drawn in drawing:
        own = times.get(drawn.name, [])
        yield StageView(drawn, Latency.of(own, rate * len(own) / max(len(measured), 1)))


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
    window: Window,
) -> Iterator[BackendView]:
    """Yield the backends in the order of the config."""
    labels = {t.label: t.backend for entry in models.values() for t in entry.targets}
    called = sorted((e for e in window.exchanges if e.target), key=_backend_of)
    by_backend = {name: list(group) for name, group in groupby(called, _backend_of)}
    failed: dict[str, list[str]] = {}
    for attempt in (a for e in window.exchanges for a in reversed(e.attempts) if a.error):
        failed.setdefault(attempt.target.backend, []).append(attempt.error)
    for name, backend in backends.items():
        own, queue = by_backend.get(name, []), backend.queue
        usages = [each.usage for each in own if each.usage and not each.usage.estimated]
        failures = failed.get(name, [])
        prompt = sum(usage.prompt_tokens for usage in usages)
        yield BackendView(
            name,
            strip_credentials(backend.profile.base_url),
            errors.get(name),
            tuple((k, state) for k, state in states.items() if labels.get(k) == name),
            queue.slots if queue else None,
            queue.running if queue else 0,
            queue.waiting if queue else 0,
            Latency.of(
                [e.first_token - e.received for e in own if e.first_token],
                window.rate(len(own) / max(len(window.exchanges), 1)),
            ),
            sum(usage.cache_read_input_tokens for usage in usages) / prompt if prompt else None,
            len(failures),
            failures[0] if failures else "",
        )


def _backend_of(exchange: Exchange) -> str:
    return exchange.target.backend if exchange.target else ""
