"""What a request used: the tokens and the time of its attempts, and their cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from stages.backends.backend import Backend
from stages.exchange import Attempt, Exchange, Target
from stages.messages_api.usage import Usage
from stages.profiles.price import price_on

_NO_USAGE = Usage()


class Use(NamedTuple):
    """Tokens of one or more attempts, and the backend's seconds."""

    input_tokens: int = 0
    """Without those read from a cache and written to one."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0


#: Makes a Use of a tuple, in a third of the time of a call of the class.
make_use = partial(tuple.__new__, Use)
NOTHING = Use()


def use_of(attempt: Attempt, exchange: Exchange) -> Use:
    """The tokens of an attempt that has ended, and its time."""
    usage = exchange.usage_of(attempt) or _NO_USAGE
    return make_use(
        (
            usage.input_tokens,
            usage.cache_read_input_tokens,
            usage.cache_creation_input_tokens,
            usage.output_tokens,
            (attempt.ended or attempt.sent) - attempt.sent,
        )
    )


def total(parts: Sequence[Use]) -> Use:
    """The sum."""
    if len(parts) == 1:
        return parts[0]
    return Use(*map(sum, zip(*parts, strict=True)))


def cost(used: Use, target: Target, backends: Mapping[str, Backend]) -> float:
    """The cost at this target by its price of today (UTC); 0 without a price.

    The check of the config refuses limits of cost on targets without a price.
    """
    prices = backends[target.backend].profile_for(target).price
    price = price_on(prices, datetime.now(UTC).date())
    return price.cost(used) if price else 0.0
