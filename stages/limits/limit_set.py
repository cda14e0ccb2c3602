"""The limits of one request, and what it takes from each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import itemgetter

from attrs import field, frozen

from stages.limits.config import Limit, Limits
from stages.limits.headers import RateLimitHeaders
from stages.limits.store import Kind, Want
from stages.limits.use import NOTHING, Use

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
    _of_each: Callable[[tuple[float, ...]], tuple[float, ...]] = field(init=False, repr=False)
    """Returns the item of each limit from the sums in `amounts`."""
    without_estimate: tuple[float, ...] = field(init=False, repr=False)
    """The amounts of a request, apart from tokens and cost."""

    @_of_each.default
    def _make_getter(self) -> Callable[[tuple[float, ...]], tuple[float, ...]]:
        indexes = [each.amount_index for each in self.limits]
        if len(indexes) < 2:  # itemgetter returns a tuple only for several
            return lambda sums: tuple([sums[index] for index in indexes])
        return itemgetter(*indexes)

    @without_estimate.default
    def _list_fixed(self) -> tuple[float, ...]:
        return self.amounts(NOTHING, 0.0)

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

    def amounts(self, used: Use, cost: float) -> tuple[float, ...]:
        """What this use takes from each limit."""
        uncached, cache_reads, cache_writes, output, _ = used
        prompt = uncached + cache_writes
        whole = prompt + cache_reads
        return self._of_each((1.0, cost, output, prompt, whole, prompt + output, whole + output))
