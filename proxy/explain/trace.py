"""The observer of an explained run: what passes on each arrow, and how long each stage takes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import Factory, define

from pipeline import Send, StopForwarding
from proxy.explain.views import ResponseView, is_response, request_view
from stages.messages_api.errors import ApiError

Json = dict[str, Any]


@define(eq=False)
class Arrow:
    """The events on one arrow. `seconds` is the time of all later stages with them."""

    events: Counter[str] = Factory(Counter)
    seconds: float = 0.0
    first_response: float | None = None
    """When the first part of a response came, in seconds of the trace's clock."""
    arrived: float = 0.0
    """When the last request came."""
    request: Json | None = None
    response: ResponseView = Factory(ResponseView)
    degradations: tuple[str, ...] = ()


@define(eq=False)
class Trace:
    """Observes one run through `stages` stages.

    `stop_before` is the arrow at which the run ends, if any. `on_request` is called with the number
    of each arrow that a request arrives at, before the next stage gets it. `prepare` is awaited
    with a request that arrives at `prepare_at`. The time of these functions, and of this observer,
    counts for no stage.
    """

    stages: int
    stop_before: int | None = None
    on_request: Callable[[int], None] = lambda arrow: None
    prepare: Callable[[Any], Awaitable[None]] | None = None
    prepare_at: int | None = None
    now: Callable[[], float] = time.monotonic
    arrows: list[Arrow] = Factory(lambda self: [Arrow() for _ in range(self.stages + 1)], True)
    errors: list[tuple[int, ApiError]] = Factory(list)
    """Each error with the number of the stage that raised it first."""
    stopped: bool = False
    _observing: float = 0.0

    def watch(self, arrow: int, send: Send[Any]) -> Send[Any]:
        """See Observer."""
        state = self.arrows[arrow]

        async def watched(event: Any) -> None:
            self._see(arrow, event)
            if arrow == self.stop_before and not is_response(event):
                self.stopped = True
                raise StopForwarding
            if arrow == self.prepare_at and not is_response(event):
                await self._prepare(event)
            began = self._clock()
            try:
                await send(event)
            except ApiError as error:
                if all(error is not other for _, other in self.errors):
                    self.errors.append((arrow, error))
                raise
            finally:
                state.seconds += self._clock() - began

        return watched

    def seconds_in(self, stage: int) -> float:
        """The time of a stage itself, without that of later stages."""
        return max(0.0, self.arrows[stage].seconds - self.arrows[stage + 1].seconds)

    def seconds_until_forwarded(self, stage: int) -> float:
        """The time from the last request's arrival at a stage until the stage forwarded it."""
        return max(0.0, self.arrows[stage + 1].arrived - self.arrows[stage].arrived)

    async def _prepare(self, event: Any) -> None:
        began = self.now()
        if self.prepare is not None:
            await self.prepare(event)
        self._observing += self.now() - began

    def _clock(self) -> float:
        """Seconds, without those that were spent on observing."""
        return self.now() - self._observing

    def _see(self, arrow: int, event: Any) -> None:
        began = self.now()
        state = self.arrows[arrow]
        state.events[type(event).__name__] += 1
        if is_response(event):
            if state.first_response is None:
                state.first_response = began - self._observing
            state.response.add(event)
        else:
            state.arrived = began - self._observing
            state.request = request_view(event)
            exchange = getattr(event, "exchange", None)
            state.degradations = tuple(map(str, exchange.degradations)) if exchange else ()
            self.on_request(arrow)
        self._observing += self.now() - began
