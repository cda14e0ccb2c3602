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

    @property
    def amount_index(self) -> int:
        """Which of the sums in `LimitSet.amounts` a request takes."""
        reads = self.account.limits.count_cache_reads
        return {
            "requests": 0,
            "concurrency": 0,
            "cost": 1,
            "output_tokens": 2,
            "input_tokens": 4 if reads else 3,
            "tokens": 6 if reads else 5,
        }[self.limit.unit]

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
    _amount_indexes: tuple[int, ...] = field(init=False, repr=False)

    @_amount_indexes.default
    def _list_indexes(self) -> tuple[int, ...]:
        return tuple(each.amount_index for each in self.limits)

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
        output = used.output_tokens
        prompt = used.input_tokens + used.cache_write_tokens
        whole = prompt + used.cache_read_tokens
        sums = (1.0, cost, output, prompt, whole, prompt + output, whole + output)
        return [sums[index] for index in self._amount_indexes]
