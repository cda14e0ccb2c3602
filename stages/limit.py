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
from stages.limits.amounts import AccountLimit, account_limits, cost, total, use_of
from stages.limits.estimates import Use, prompt_bytes
from stages.limits.headers import rate_limit_headers, refusal
from stages.limits.section import Account, LimitsSection
from stages.limits.store import Admitted, LimitStore, Refused, StoreUnavailableError, Want
from stages.messages_api.errors import OverloadedError
from stages.routing.model_names import ModelNames

#: Seconds in `retry-after` if the store cannot be asked.
_UNAVAILABLE_RETRY = 5
_WITHOUT_ESTIMATE = {"requests", "concurrency"}


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
        accounts = self.limits.accounts(event.exchange, model)
        return self._limited(event, forward, accounts) if accounts else forward(event)

    async def _limited(
        self, event: Resolved, forward: Send[Resolved | ChatWaiting], accounts: list[Account]
    ) -> None:
        exchange, store = event.exchange, self.limits.store
        limits = account_limits(accounts)
        units = {each.limit.unit for each in limits}
        size = 0 if units <= _WITHOUT_ESTIMATE else prompt_bytes(event)
        max_tokens = event.request.max_tokens
        estimate = self.limits.estimates.estimate(exchange.client, size, max_tokens)
        price = cost(estimate, event.target, self.backends) if "cost" in units else 0.0
        wants = tuple(each.want(estimate, price) for each in limits)
        await self._admit(event, forward, limits, wants, estimate)
        renewal = _renewal(store, exchange.id)
        attempts = len(exchange.attempts)  # those of an earlier `retry`
        try:
            await forward(event)
        finally:
            used = self._used(exchange, attempts, limits, size)
            with anyio.CancelScope(shield=True):
                if renewal:
                    await renewal.stop()
                await store.settle(exchange.id, used)

    async def _admit(
        self,
        event: Resolved,
        forward: Send[Resolved | ChatWaiting],
        limits: tuple[AccountLimit, ...],
        wants: tuple[Want, ...],
        estimate: Use,
    ) -> None:
        """Take from all limits, perhaps after a wait. Raises RateLimitError."""
        exchange = event.exchange
        result = await self._ask(exchange, wants)
        if isinstance(result, Refused) and wants[result.want].kind == "concurrency":
            wait = limits[result.want].limits.concurrency_timeout
            if wait:
                tokens = estimate.input_tokens + estimate.cache_read_tokens
                waiting = ChatRequest(event, [], {}, estimate=max(1, tokens))
                await forward(ChatWaiting(waiting))  # for pings
                result = await self._ask(exchange, wants, wait)
        now = time.time()
        exchange.response_headers = rate_limit_headers(limits, result.levels, now)
        if isinstance(result, Refused):
            want = wants[result.want]
            exchange.refused_by = LimitRefusal(want.limit, want.account)
            raise refusal(limits, wants, result, now)

    async def _ask(
        self, exchange: Exchange, wants: tuple[Want, ...], wait: float = 0.0
    ) -> Admitted | Refused:
        try:
            return await self.limits.store.admit(exchange.id, wants, wait)
        except StoreUnavailableError as error:
            raise OverloadedError(
                "the limits of this request cannot be checked now; try again in "
                f"{_UNAVAILABLE_RETRY} s",
                headers={"retry-after": str(_UNAVAILABLE_RETRY)},
            ) from error
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self.limits.store.settle(exchange.id, [0.0] * len(wants))
            raise

    def _used(
        self, exchange: Exchange, first: int, limits: tuple[AccountLimit, ...], size: int
    ) -> list[float]:
        """What the attempts from number `first` on took from each limit."""
        attempts = exchange.attempts[first:]
        parts = [use_of(attempt, exchange) for attempt in attempts]
        if size and parts and parts[-1].output_tokens:
            self.limits.estimates.learn(exchange.client, size, parts[-1])
        used = total(parts)
        price = 0.0
        if any(each.limit.unit == "cost" for each in limits):
            price = sum(
                cost(part, attempt.target, self.backends)
                for part, attempt in zip(parts, attempts, strict=True)
            )
        return [each.amount(used, price) for each in limits]


def _renewal(store: LimitStore, hold: str) -> Delayed | None:
    """Renew the hold after each third of its lease, if it has an end."""
    if store.lease == float("inf"):
        return None

    async def renew() -> None:
        while True:
            await store.renew(hold)
            await anyio.sleep(store.lease / 3)

    return delayed(store.lease / 3, renew)
