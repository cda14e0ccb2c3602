"""The stage `limit`."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Mapping, Sequence

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
from stages.limits.memory import MemoryStore
from stages.limits.refusal import refusal
from stages.limits.section import LimitsSection
from stages.limits.store import Admitted, LimitStore, Refused, StoreUnavailableError
from stages.limits.use import NOTHING, cost, total, use_of
from stages.messages_api.errors import OverloadedError
from stages.routing.model_names import ModelNames

#: Seconds in `retry-after` if the store cannot be asked.
_UNAVAILABLE_RETRY = 5


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
        model = self._names.clean(event.request.model) if self.limits.models else ""
        limits = self.limits.of(event.exchange, model)
        return self._limited(event, forward, limits) if limits else forward(event)

    async def _limited(
        self, event: Resolved, forward: Send[Resolved | ChatWaiting], limits: LimitSet
    ) -> None:
        exchange, store, size = event.exchange, self.limits.store, 0
        amounts: Sequence[float] = limits.without_estimate
        if limits.needs_estimate:
            size = prompt_bytes(event)
            amounts = self._estimate(event, exchange.client, limits, size)
        if isinstance(store, MemoryStore):
            result = store.admit_now(exchange.id, limits.wants, amounts)
        else:
            result = await self._ask(exchange, limits, amounts)
        if isinstance(result, Refused):
            result = await self._wait(event, forward, limits, amounts, result)
        now = time.time()
        if isinstance(result, Refused):
            exchange.header_lines = limits.headers.make(result.levels, now)
            want = limits.wants[result.want]
            exchange.refused_by = LimitRefusal(want.limit, want.account)
            raise refusal(limits, amounts, result, now)
        used, renewal = amounts, None
        first = len(exchange.attempts)  # those before are of an earlier `retry`
        try:
            if store.lease != math.inf:
                renewal = _renewal(store, exchange.id)
            exchange.header_lines = limits.headers.make(result.levels, now)
            try:
                await forward(event)
            finally:
                if renewal:
                    await renewal.stop()
                used = self._used(exchange, first, limits, size)
        finally:  # also after a bug in the code above: then the estimate is charged
            if isinstance(store, MemoryStore):
                store.settle_now(exchange.id, used)
            else:
                await store.settle(exchange.id, used)

    def _estimate(self, event: Resolved, key: str, limits: LimitSet, size: int) -> Sequence[float]:
        """What a request of a key may take from each limit. Its prompt has `size` bytes."""
        estimate = self.limits.estimates.estimate(key, size, event.request.max_tokens)
        price = cost(estimate, event.target, self.backends) if limits.has_cost else 0.0
        return limits.amounts(estimate, price)

    async def _wait(
        self,
        event: Resolved,
        forward: Send[Resolved | ChatWaiting],
        limits: LimitSet,
        amounts: Sequence[float],
        result: Refused,
    ) -> Admitted | Refused:
        """If only concurrency refused the request, wait for a place, as the config says."""
        refused = limits.limits[result.want]
        wait = refused.account.limits.concurrency_timeout
        if not wait or refused.limit.unit != "concurrency":
            return result
        tokens = self.limits.estimates.prompt_tokens(event.exchange.client, prompt_bytes(event))
        waiting = ChatRequest(event, [], {}, estimate=max(1, tokens))
        await forward(ChatWaiting(waiting))  # for pings
        return await self._ask(event.exchange, limits, amounts, wait)

    async def _ask(
        self, exchange: Exchange, limits: LimitSet, amounts: Sequence[float], wait: float = 0.0
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

    def _used(self, exchange: Exchange, first: int, limits: LimitSet, size: int) -> Sequence[float]:
        """What the attempts from number `first` on took from each limit."""
        if not limits.needs_estimate:
            return limits.without_estimate
        attempts = exchange.attempts[first:]
        if not attempts:
            return limits.amounts(NOTHING, 0.0)
        used = use_of(attempts[-1], exchange)
        if used.output_tokens:
            self.limits.estimates.learn(exchange.client, size, used)
        if len(attempts) == 1 and not limits.has_cost:
            return limits.amounts(used, 0.0)
        uses = [use_of(attempt, exchange) for attempt in attempts]
        price = 0.0
        if limits.has_cost:
            for use, attempt in zip(uses, attempts, strict=True):
                price += cost(use, attempt.target, self.backends)
        return limits.amounts(total(uses), price)


def _renewal(store: LimitStore, hold: str) -> Delayed:
    """Renew the hold after each third of its lease."""

    async def renew() -> None:
        while True:
            await store.renew(hold)
            await anyio.sleep(store.lease / 3)

    return delayed(store.lease / 3, renew)
