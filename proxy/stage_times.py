"""The times of stages with a request, for metrics, spans and the page: `Exchange.stages`.

A backend's response passes no watched arrow, so each of its parts costs only one coroutine frame
for each stage that has the request.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from attrs import Factory, define, frozen

from pipeline import Send
from pipeline.config.schema import Pipeline
from pipeline.stage import signature, types_after
from stages.events import ChatEvent, ChatWaiting, HttpRequest, HttpResponse
from stages.exchange import Exchange, StageRun
from stages.messages_api.stream_events import StreamEvent

_MAX_RUNS = 100  # of one exchange: `retry` and `fallback` may send a request again many times
_RESPONSES = (ChatEvent, StreamEvent, HttpResponse)


@frozen
class RequestStages:
    """The stages of a pipeline up to the last one that accepts a request, normally `invoke`.

    `filters` has the `filter` of each stage's Link.
    """

    names: tuple[str, ...]
    filters: tuple[tuple[type, ...] | None, ...]

    @classmethod
    def of(cls, pipeline: Pipeline) -> RequestStages:
        """Follow the types of events through the pipeline, as `check` does."""
        arriving: frozenset[type] = frozenset({HttpRequest})
        count = 0
        for number, stage in enumerate(pipeline.stages, start=1):
            types = signature(type(stage))
            requests = [event for event in arriving if not issubclass(event, _RESPONSES)]
            if types_after(requests, types) is not None:
                count = number
            arriving = types_after(arriving, types) or arriving
        filters = tuple(link.filter for link in pipeline.chain.links[:count])
        return cls(pipeline.stage_names[:count], filters)

    def observe(self, exchange: Exchange) -> StageTimes:
        """Give the observer of one request."""
        return StageTimes(self, exchange)


@define(eq=False)
class StageTimes:
    """Observes one request: it adds a StageRun for each stage that gets the request.

    A stage's run is `forwarded` when the stage forwards the request, or a response of its own.
    `ChatWaiting` does not count. The last stage's run is `forwarded` at `response_started`.
    """

    stages: RequestStages
    exchange: Exchange
    now: Callable[[], float] = time.monotonic
    _current: list[StageRun | None] = Factory(lambda self: [None] * len(self.stages.names), True)
    """The run of each stage that has the request now."""

    def watch(self, arrow: int, send: Send[object]) -> Send[object]:
        """See Observer."""
        if arrow >= len(self.stages.names):
            return send
        accepts = self.stages.filters[arrow]

        def watched(event: object) -> Awaitable[None]:
            now = self.now()
            if arrow and not isinstance(event, ChatWaiting):
                self._set_forwarded(arrow - 1, now)
            if isinstance(event, _RESPONSES) or (
                accepts is not None and not isinstance(event, accepts)
            ):
                return send(event)  # the stage does not get the request
            return self._run(arrow, now, event, send)

        return watched

    async def _run(self, stage: int, began: float, event: object, send: Send[object]) -> None:
        run = StageRun(self.stages.names[stage], began)
        runs = self.exchange.stages
        if len(runs) < _MAX_RUNS:
            runs.append(run)
        self._current[stage] = run
        try:
            await send(event)
        finally:
            run.ended = self.now()
            self._current[stage] = None
            if stage == len(self._current) - 1:
                run.forwarded = self.exchange.response_started

    def _set_forwarded(self, stage: int, now: float) -> None:
        run = self._current[stage]
        if run is not None and run.forwarded is None:
            run.forwarded = now
