"""The error of a request that a limit refused."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stages.limits.headers import time_text
from stages.limits.limit_set import AccountLimit, LimitSet
from stages.limits.store import Level, Refused
from stages.messages_api.errors import RateLimitError

#: Clients sleep for as long as `retry-after` says. Beyond this, they are asked not to retry.
_MAX_RETRY_AFTER = 60


def refusal(
    limits: LimitSet, amounts: Sequence[float], refused: Refused, now: float
) -> RateLimitError:
    """The error. `now` is in Unix seconds."""
    limit = limits.limits[refused.want]
    seconds = max(1, math.ceil(refused.retry_after))
    headers = {"retry-after": str(seconds)}
    if refused.used_up or seconds > _MAX_RETRY_AFTER:
        headers["x-should-retry"] = "false"
    level = refused.levels[refused.want]
    reason = _reason(limit, amounts[refused.want], level, refused.used_up)
    option = f"{limit.account.path}.{limit.limit.name}"
    at = time_text(now + refused.retry_after)
    return RateLimitError(
        f"{reason}; try again in {seconds} s, at {at}. The option `{option}` of the proxy's config "
        "sets this limit",
        headers=headers,
    )


def _reason(each: AccountLimit, amount: float, level: Level, used_up: bool) -> str:
    title, limit, left = each.account.title, each.limit, max(0.0, level.remaining)
    if limit.unit == "concurrency":
        return f"{title} has a limit of {limit.maximum:g} requests in flight, and has that many"
    if limit.unit == "cost":
        text = f"{title} has a budget of {limit.maximum:g} per {limit.period} (UTC)"
        until = "" if used_up else " until requests in flight end"
        return f"{text}: {left:.4g} is left{until}, and this request may cost {amount:.4g}"
    unit = limit.unit.replace("_", " ")
    text = f"{title} has a limit of {int(limit.maximum)} {unit} per {limit.period}"
    if limit.unit == "requests":
        return f"{text}, and {int(left)} are left"
    return f"{text}: {int(left)} are left, and this request needs about {math.ceil(amount)}"
