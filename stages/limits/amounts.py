"""What a request takes from each limit: the estimate before it, the use after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from attrs import frozen

from stages.backends.backend import Backend
from stages.exchange import Attempt, Exchange, Target
from stages.limits.config import Limit, Limits
from stages.limits.estimates import Use
from stages.limits.section import Account
from stages.limits.store import Kind, Want
from stages.messages_api.usage import Usage
from stages.profiles.price import price_on

_NOTHING = Usage()


@frozen
class AccountLimit:
    """One limit of an account."""

    account: Account
    limit: Limit

    @property
    def limits(self) -> Limits:
        """All limits of the account."""
        return self.account.limits

    def amount(self, used: Use, cost: float) -> float:
        """What this use takes from the limit."""
        unit = self.limit.unit
        if unit == "cost":
            return cost
        if unit == "output_tokens":
            return used.output_tokens
        if unit in ("input_tokens", "tokens"):
            prompt = used.input_tokens + used.cache_write_tokens
            prompt += used.cache_read_tokens if self.limits.count_cache_reads else 0
            return prompt + used.output_tokens if unit == "tokens" else prompt
        return 1.0

    def want(self, used: Use, cost: float) -> Want:
        """The Want of a request with this estimated use."""
        limit = self.limit
        kind: Kind = "rate"
        if limit.unit in ("cost", "concurrency"):
            kind = "budget" if limit.unit == "cost" else "concurrency"
        name, amount = self.account.name, self.amount(used, cost)
        return Want(name, limit.name, kind, limit.period, limit.maximum, amount)


def account_limits(accounts: Iterable[Account]) -> tuple[AccountLimit, ...]:
    """All limits of these accounts."""
    return tuple(
        AccountLimit(account, limit) for account in accounts for limit in account.limits.active
    )


def use_of(attempt: Attempt, exchange: Exchange) -> Use:
    """The tokens of an attempt that has ended, and its time."""
    last = attempt is exchange.attempts[-1]
    usage = attempt.usage or (last and exchange.usage) or _NOTHING
    return Use(
        usage.input_tokens,
        usage.cache_read_input_tokens,
        usage.cache_creation_input_tokens,
        usage.output_tokens,
        (attempt.ended or attempt.sent) - attempt.sent,
    )


def total(parts: Sequence[Use]) -> Use:
    """The sum."""
    return Use(
        sum(part.input_tokens for part in parts),
        sum(part.cache_read_tokens for part in parts),
        sum(part.cache_write_tokens for part in parts),
        sum(part.output_tokens for part in parts),
        sum(part.seconds for part in parts),
    )


def cost(used: Use, target: Target, backends: Mapping[str, Backend]) -> float:
    """The cost at this target by its price of today (UTC); 0 without a price.

    The check of the config refuses limits of cost on targets without a price.
    """
    prices = backends[target.backend].profile_for(target).price
    price = price_on(prices, datetime.now(UTC).date())
    return price.cost(used) if price else 0.0
