"""The headers `anthropic-ratelimit-*`, and the error of a refused request.

Of several limits in a unit, the headers have the one with the least left. `tokens` is the limit of
prompts and responses together, or the sum of the two limits. `reset` is when all of it is available
again. Source: the Messages API's page on rate limits, and a recorded response.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from attrs import frozen

from stages.limits.amounts import AccountLimit
from stages.limits.store import Level, Refused, Want
from stages.messages_api.errors import RateLimitError

_UNITS = ("requests", "tokens", "input_tokens", "output_tokens")
#: Clients sleep for as long as `retry-after` says. Beyond this, they are asked not to retry.
_MAX_RETRY_AFTER = 60


@frozen
class _Shown:
    """What the headers show of a limit. `reset_after` is in seconds."""

    maximum: float
    remaining: float
    reset_after: float


def rate_limit_headers(
    limits: Sequence[AccountLimit], levels: Sequence[Level], now: float
) -> dict[str, str]:
    """The headers. `now` is in Unix seconds."""
    shown: dict[str, _Shown] = {}
    for each, level in zip(limits, levels, strict=True):
        unit = each.limit.unit
        if unit in _UNITS:
            candidate = _Shown(each.limit.maximum, max(0, level.remaining), level.reset_after)
            if unit not in shown or candidate.remaining < shown[unit].remaining:
                shown[unit] = candidate
    if "tokens" not in shown and "input_tokens" in shown and "output_tokens" in shown:
        shown["tokens"] = _sum(shown["input_tokens"], shown["output_tokens"])
    headers = {}
    for name, tightest in shown.items():
        prefix = f"anthropic-ratelimit-{name.replace('_', '-')}"
        headers[f"{prefix}-limit"] = str(int(tightest.maximum))
        headers[f"{prefix}-remaining"] = str(int(tightest.remaining))
        headers[f"{prefix}-reset"] = _time(now + tightest.reset_after)
    return headers


def _sum(one: _Shown, other: _Shown) -> _Shown:
    return _Shown(
        one.maximum + other.maximum,
        one.remaining + other.remaining,
        max(one.reset_after, other.reset_after),
    )


def _time(seconds: float) -> str:
    """RFC 3339 in UTC, rounded up to a second."""
    return datetime.fromtimestamp(math.ceil(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def refusal(
    limits: Sequence[AccountLimit], wants: Sequence[Want], refused: Refused, now: float
) -> RateLimitError:
    """The error for a request that a limit refused."""
    limit, want = limits[refused.want], wants[refused.want]
    seconds = max(1, math.ceil(refused.retry_after))
    headers = {"retry-after": str(seconds)}
    if refused.used_up or seconds > _MAX_RETRY_AFTER:
        headers["x-should-retry"] = "false"
    option = f"{limit.account.path}.{limit.limit.name}"
    text = _reason(limit, want, refused.levels[refused.want], refused.used_up)
    return RateLimitError(
        f"{text}; try again in {seconds} s, at {_time(now + refused.retry_after)}. "
        f"The option `{option}` of the proxy's config sets this limit",
        headers=headers,
    )


def _reason(each: AccountLimit, want: Want, level: Level, used_up: bool) -> str:
    title, limit, left = each.account.title, each.limit, max(0.0, level.remaining)
    if limit.unit == "concurrency":
        return f"{title} has a limit of {limit.maximum:g} requests in flight, and has that many"
    if limit.unit == "cost":
        text = f"{title} has a budget of {limit.maximum:g} per {limit.period} (UTC)"
        until = "" if used_up else " until requests in flight end"
        return f"{text}: {left:.4g} is left{until}, and this request may cost {want.amount:.4g}"
    unit = limit.unit.replace("_", " ")
    text = f"{title} has a limit of {int(limit.maximum)} {unit} per {limit.period}"
    if limit.unit == "requests":
        return f"{text}, and {int(left)} are left"
    return f"{text}: {int(left)} are left, and this request needs about {math.ceil(want.amount)}"
