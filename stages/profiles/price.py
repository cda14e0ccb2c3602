"""Prices of a model or a backend. The cost is derived from tokens and time when it is read."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any, Protocol

from attrs import fields, frozen, validators

from pipeline import option
from pipeline.config.options import OptionError, text_pattern

_MILLION = 1_000_000
_HOUR = 3600.0
_not_negative = validators.optional(validators.ge(0))


@text_pattern(r"(\d{4}-\d\d-\d\d)?")
def _check_since(price: Price, _: Any, since: str) -> None:
    try:
        if since and date.fromisoformat(since).isoformat() != since:
            raise ValueError
    except ValueError:
        hint = "write it as `2026-11-01`"
        raise OptionError("since", f"`since` is not a date: {since}", hint) from None
    if all(getattr(price, each.name) is None for each in fields(Price) if each.name != "since"):
        raise OptionError("since", "the price is empty", "set `input` and `output`, or `gpu_hour`")


class Consumption(Protocol):
    """The tokens and the backend's seconds of attempts."""

    @property
    def input_tokens(self) -> int: ...
    @property
    def cache_read_tokens(self) -> int: ...
    @property
    def cache_write_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def seconds(self) -> float: ...


@frozen
class Price:
    """A price from one day on, in the operator's currency."""

    input: float | None = option(
        None, help="price of a million tokens of prompt that no cache had", validator=_not_negative
    )
    cache_read: float | None = option(
        None,
        help="price of a million tokens of prompt from the backend's cache; default: `input`",
        validator=_not_negative,
    )
    cache_write: float | None = option(
        None,
        help="price of a million tokens written to the backend's cache; default: `input`",
        validator=_not_negative,
    )
    output: float | None = option(
        None, help="price of a million tokens of response", validator=_not_negative
    )
    gpu_hour: float | None = option(
        None,
        help="price of an hour of the backend's time; calls at the same time each count",
        validator=_not_negative,
    )
    since: str = option(
        "", help="first day of this price (UTC), as `2026-11-01`", validator=_check_since
    )

    def cost(self, used: Consumption) -> float:
        """The cost of these tokens and seconds."""
        tokens = (
            used.input_tokens * (self.input or 0)
            + used.cache_read_tokens * _first(self.cache_read, self.input)
            + used.cache_write_tokens * _first(self.cache_write, self.input)
            + used.output_tokens * (self.output or 0)
        )
        return tokens / _MILLION + used.seconds / _HOUR * (self.gpu_hour or 0)


def _first(*prices: float | None) -> float:
    return next((price for price in prices if price is not None), 0)


def price_on(prices: Iterable[Price], day: date) -> Price | None:
    """The latest of `prices` that is valid on `day`; None if there is none."""
    valid = [price for price in prices if price.since <= day.isoformat()]
    return max(valid, key=lambda price: price.since, default=None)


def check_prices(_: Any, __: Any, prices: tuple[Price, ...]) -> None:
    """Refuse two prices from the same day."""
    days = [price.since for price in prices]
    if len(set(days)) < len(days):
        raise OptionError("price", "two prices have the same `since`", "give each its first day")
