"""The limits of one request, and what it takes from each of them."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field, frozen

from stages.limits.config import Limit, Limits
from stages.limits.headers import RateLimitHeaders
from stages.limits.store import Kind, Want
from stages.limits.use import Use

_KINDS: dict[str, Kind] = {"cost": "budget", "concurrency": "concurrency"}
_WITHOUT_ESTIMATE = ("requests", "concurrency")


@frozen
class Account:
    """An account of a request, and its limits.

    `name` begins with the account's kind: `all`, `key:alice`, `session:alice/…`. `title` is for
    people. `path` is where the config has the limits.
    """

    name: str
    title: str
    path: str
    limits: Limits


@frozen
class AccountLimit:
    """One limit of an account."""

    account: Account
    limit: Limit

    def amount(self, used: Use, cost: float) -> float:
        """What this use takes from the limit."""
        unit = self.limit.unit
        if unit in _WITHOUT_ESTIMATE:
            return 1.0
        if unit == "output_tokens":
            return used.output_tokens
        if unit == "cost":
            return cost
        prompt = used.input_tokens + used.cache_write_tokens
        if self.account.limits.count_cache_reads:
            prompt += used.cache_read_tokens
        return prompt + used.output_tokens if unit == "tokens" else prompt

    @property
    def want(self) -> Want:
        """The limit as the store sees it."""
        limit = self.limit
        kind = _KINDS.get(limit.unit, "rate")
        return Want(self.account.name, limit.name, kind, limit.period, limit.maximum)


@frozen
class LimitSet:
    """The limits of the requests that have the same accounts."""

    limits: tuple[AccountLimit, ...]
    wants: tuple[Want, ...] = field(init=False)
    headers: RateLimitHeaders = field(init=False)
    needs_estimate: bool = field(init=False)
    """Whether a limit is of tokens or cost."""
    has_cost: bool = field(init=False)

    @wants.default
    def _make_wants(self) -> tuple[Want, ...]:
        return tuple(each.want for each in self.limits)

    @headers.default
    def _make_headers(self) -> RateLimitHeaders:
        return RateLimitHeaders(tuple(each.limit for each in self.limits))

    @needs_estimate.default
    def _find_estimated(self) -> bool:
        return any(each.limit.unit not in _WITHOUT_ESTIMATE for each in self.limits)

    @has_cost.default
    def _find_cost(self) -> bool:
        return any(each.limit.unit == "cost" for each in self.limits)

    @classmethod
    def of(cls, accounts: Iterable[Account]) -> LimitSet:
        """All limits of these accounts."""
        return cls(
            tuple(
                AccountLimit(account, limit)
                for account in accounts
                for limit in account.limits.active
            )
        )

    def amounts(self, used: Use, cost: float) -> list[float]:
        """What this use takes from each limit."""
        return [each.amount(used, cost) for each in self.limits]
