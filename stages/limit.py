"""The stage `limit`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping

import anyio
from attrs import Factory, field, frozen

from pipeline import Send, Stage, section
from pipeline.timers import Delayed, delayed
from stages.backends.backend import Backend
from stages.backends.config import ModelEntry
from stages.events import ChatRequest, ChatWaiting, Resolved
from stages.exchange import Exchange, LimitRefusal
from stages.limits.estimates import prompt_bytes
from stages.limits.limit_set import LimitSet
from stages.limits.refusal import refusal
from stages.limits.section import LimitsSection
from stages.limits.store import Admitted, LimitStore, Refused, StoreUnavailableError
from stages.limits.use import Use, cost, total, use_of
from stages.messages_api.errors import OverloadedError
from stages.routing.model_names import ModelNames

#: Seconds in `retry-after` if the store cannot be asked.
_UNAVAILABLE_RETRY = 5
_NOTHING = Use()


@frozen
class Limit(Stage[Resolved, Resolved | ChatWaiting]):
    """Refuse requests beyond the limits in the section `limits`, with a 429.

    A request takes an estimate before it goes on. At its end, in whatever way it ends, the tokens
    and the cost of all its attempts replace the estimate. Responses have the headers
    `anthropic-ratelimit-*`. Put the stage before `fallback` and `retry`, so that a request counts
    once.
    """

    limits: LimitsSection = section("limits", Factory(LimitsSection))
    backends: Mapping[str, Backend] = section("backends", Factory(dict))
    models: Mapping[str, ModelEntry] = section("models", Factory(dict))
    _names: ModelNames = field(init=False, repr=False)

    @_names.default
    def _index(self) -> ModelNames:
        return ModelNames(self.models)

    def handle(self, event: Resolved, forward: Send[Resolved | ChatWaiting]) -> Awaitable[None]:
        model = self._names.clean(event.request.model)
        limits = self.limits.of(event.exchange, model)
        return self._limited(event, forward, limits) if limits else forward(event)

    async def _limited(
        self, event: Resolved, forward: Send[Resolved | ChatWaiting], limits: LimitSet
    ) -> None:
        exchange, store = event.exchange, self.limits.store
        size, estimate = 0, _NOTHING
        if limits.needs_estimate:
            size, max_tokens = prompt_bytes(event), event.request.max_tokens
            estimate = self.limits.estimates.estimate(exchange.client, size, max_tokens)
        await self._admit(event, forward, limits, estimate)
        renewal = _renewal(store, exchange.id)
        first = len(exchange.attempts)  # those before are of an earlier `retry`
        try:
            await forward(event)
        finally:
            used = self._used(exchange, first, limits, size)
            if renewal:
                await renewal.stop()
            await store.settle(exchange.id, used)

    async def _admit(
        self,
        event: Resolved,
        forward: Send[Resolved | ChatWaiting],
        limits: LimitSet,
        estimate: Use,
    ) -> None:
        """Take from all limits, perhaps after a wait. Raises RateLimitError."""
        exchange = event.exchange
        price = cost(estimate, event.target, self.backends) if limits.has_cost else 0.0
        amounts = limits.amounts(estimate, price)
        result = await self._ask(exchange, limits, amounts)
        if isinstance(result, Refused):
            refused = limits.limits[result.want]
            wait = refused.account.limits.concurrency_timeout
            if wait and refused.limit.unit == "concurrency":
                tokens = estimate.input_tokens + estimate.cache_read_tokens
                waiting = ChatRequest(event, [], {}, estimate=max(1, tokens))
                await forward(ChatWaiting(waiting))  # for pings
                result = await self._ask(exchange, limits, amounts, wait)
        now = time.time()
        exchange.response_headers = limits.headers.make(result.levels, now)
        if isinstance(result, Refused):
            want = limits.wants[result.want]
            exchange.refused_by = LimitRefusal(want.limit, want.account)
            raise refusal(limits, amounts, result, now)

    async def _ask(
        self, exchange: Exchange, limits: LimitSet, amounts: list[float], wait: float = 0.0
    ) -> Admitted | Refused:
        store = self.limits.store
        try:
            return await store.admit(exchange.id, limits.wants, amounts, wait)
        except StoreUnavailableError as error:
            raise OverloadedError(
                "the limits of this request cannot be checked now; try again in "
                f"{_UNAVAILABLE_RETRY} s",
                headers={"retry-after": str(_UNAVAILABLE_RETRY)},
            ) from error
        except anyio.get_cancelled_exc_class():
            await store.settle(exchange.id, [0.0] * len(amounts))
            raise

    def _used(self, exchange: Exchange, first: int, limits: LimitSet, size: int) -> list[float]:
        """What the attempts from number `first` on took from each limit."""
        if not limits.needs_estimate:
            return limits.amounts(_NOTHING, 0)
        attempts = exchange.attempts[first:]
        parts = [use_of(attempt, exchange) for attempt in attempts]
        if parts and parts[-1].output_tokens:
            self.limits.estimates.learn(exchange.client, size, parts[-1])
        price = 0.0
        if limits.has_cost:
            for part, attempt in zip(parts, attempts, strict=True):
                price += cost(part, attempt.target, self.backends)
        return limits.amounts(total(parts), price)


def _renewal(store: LimitStore, hold: str) -> Delayed | None:
    """Renew the hold after each third of its lease, if it has an end."""
    if store.lease == float("inf"):
        return None

    async def renew() -> None:
        while True:
            await store.renew(hold)
            await anyio.sleep(store.lease / 3)

    return delayed(store.lease / 3, renew)
