"""The limits of one key, model, session or agent, or of all requests together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from attrs import field, fields, frozen, validators

from pipeline import option

Unit = Literal["requests", "tokens", "input_tokens", "output_tokens", "cost", "concurrency"]
Period = Literal["minute", "hour", "day", "month", ""]

#: Beyond it, floats do not have each whole number.
_MAX = 10**15
_positive = validators.optional(validators.and_(validators.gt(0), validators.le(_MAX)))


def _rate(unit: str, period: str) -> Any:
    return option(None, help=f"most {unit} per {period}", validator=_positive)


@frozen
class Limit:
    """One limit. `name` is its option, such as `input_tokens_per_minute`.

    `maximum` is a number of `unit`; the unit of `cost` is the operator's currency. The `period` of
    `concurrency` is empty.
    """

    name: str
    unit: Unit
    period: Period
    maximum: float


@frozen
class Limits:
    """The limits of one account. A limit that is None does not exist.

    A rate is a bucket that is full at first, and refills continuously: `requests_per_minute: 60`
    allows 60 requests at once, then one a second. The cost is that of the configured prices, in a
    day or month of UTC. Tokens that the backend read from its cache are no input tokens, as in
    Anthropic's limits, unless `count_cache_reads`.
    """

    requests_per_minute: int | None = _rate("requests", "minute")
    requests_per_hour: int | None = _rate("requests", "hour")
    requests_per_day: int | None = _rate("requests", "day")
    tokens_per_minute: int | None = _rate("tokens of prompts and responses", "minute")
    tokens_per_hour: int | None = _rate("tokens of prompts and responses", "hour")
    tokens_per_day: int | None = _rate("tokens of prompts and responses", "day")
    input_tokens_per_minute: int | None = _rate("tokens of prompts", "minute")
    input_tokens_per_hour: int | None = _rate("tokens of prompts", "hour")
    input_tokens_per_day: int | None = _rate("tokens of prompts", "day")
    output_tokens_per_minute: int | None = _rate("tokens of responses", "minute")
    output_tokens_per_hour: int | None = _rate("tokens of responses", "hour")
    output_tokens_per_day: int | None = _rate("tokens of responses", "day")
    cost_per_day: float | None = option(
        None, help="most cost per day (UTC), by the configured prices", validator=_positive
    )
    cost_per_month: float | None = option(
        None, help="most cost per month (UTC), by the configured prices", validator=_positive
    )
    concurrent_requests: int | None = option(
        None, help="most requests in flight", validator=_positive
    )
    concurrency_timeout: float = option(
        0.0,
        help="seconds that a request may wait for `concurrent_requests`; 0 refuses it at once",
        validator=validators.ge(0),
    )
    count_cache_reads: bool = option(
        False, help="count tokens that the backend read from its cache as input tokens"
    )

    active: tuple[Limit, ...] = field(init=False, repr=False, eq=False)
    """The limits that are set."""

    @active.default
    def _list_active(self) -> tuple[Limit, ...]:
        return tuple(_limits(self))

    @property
    def has_cost(self) -> bool:
        """Whether a limit needs the prices of the models."""
        return self.cost_per_day is not None or self.cost_per_month is not None


def _limits(limits: Limits) -> Iterator[Limit]:
    for each in fields(Limits):
        unit, per, period = each.name.partition("_per_")
        if per and (maximum := getattr(limits, each.name)) is not None:
            maximum = float(min(maximum, _MAX))
            yield Limit(each.name, unit, period, maximum)  # type: ignore[arg-type]
    if limits.concurrent_requests is not None:
        maximum = float(min(limits.concurrent_requests, _MAX))
        yield Limit("concurrent_requests", "concurrency", "", maximum)
