"""The headers `anthropic-ratelimit-*`.

Of several limits in a unit, the headers have the one with the least left. `tokens` is the limit of
prompts and responses together, or the sum of the two limits. `reset` is when all of it is available
again. Source: the Messages API's page on rate limits, and a recorded response.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from math import ceil
from typing import Any

from attrs import field, frozen

from stages.limits.config import Limit
from stages.limits.store import Level

#: The last second of the year 9999, in Unix time: the last that `datetime` has.
_LAST_SECOND = 253_402_300_799
_UNITS = ("requests", "tokens", "input_tokens", "output_tokens")


_LINES = (
    "anthropic-ratelimit-{0}-limit: %d\r\n"
    "anthropic-ratelimit-{0}-remaining: %d\r\n"
    "anthropic-ratelimit-{0}-reset: %b\r\n"
)


@frozen
class RateLimitHeaders:
    """Makes the headers for these limits."""

    limits: tuple[Limit, ...]
    _units: tuple[tuple[int, ...], ...] = field(init=False, repr=False)
    """For each unit that has limits: their indexes."""
    _maxima: tuple[int, ...] = field(init=False, repr=False)
    _only: tuple[int, ...] = field(init=False, repr=False)
    """The index of the limit of each unit, if no unit has several; otherwise empty."""
    _sums: bool = field(init=False, repr=False)
    """Whether `tokens` is a sum. The units then end with `input_tokens` and `output_tokens`."""
    _lines: bytes = field(init=False, repr=False)
    """The lines, with three places for values for each unit."""

    @_units.default
    def _list_units(self) -> tuple[tuple[int, ...], ...]:
        units = [
            tuple(n for n, limit in enumerate(self.limits) if limit.unit == unit) for unit in _UNITS
        ]
        return tuple(filter(None, units))

    @_maxima.default
    def _list_maxima(self) -> tuple[int, ...]:
        return tuple(int(limit.maximum) for limit in self.limits)

    @_only.default
    def _find_only(self) -> tuple[int, ...]:
        several = any(len(indexes) > 1 for indexes in self._units)
        return () if several else tuple(indexes[0] for indexes in self._units)

    @_sums.default
    def _find_sums(self) -> bool:
        units = {limit.unit for limit in self.limits}
        return "tokens" not in units and {"input_tokens", "output_tokens"} <= units

    @_lines.default
    def _make_lines(self) -> bytes:
        units: list[str] = [self.limits[indexes[0]].unit for indexes in self._units]
        units += ["tokens"] if self._sums else []
        return "".join([_LINES.format(unit.replace("_", "-")) for unit in units]).encode()

    def make(self, levels: Sequence[Level], now: float) -> bytes:
        """The lines of the headers for the levels of the limits. `now` is in Unix seconds."""
        values: list[Any] = []
        maxima = self._maxima
        for index in self._only or self._least(levels):
            remaining, reset_after = levels[index]
            second = ceil(now + reset_after)
            reset = _TEXTS.get(second) or _remember(second)
            values += maxima[index], int(remaining) if remaining > 0 else 0, reset
        if self._sums:
            limit, remaining, reset, other_limit, other_remaining, other_reset = values[-6:]
            values += limit + other_limit, remaining + other_remaining, max(reset, other_reset)
        return self._lines % tuple(values)

    def _least(self, levels: Sequence[Level]) -> list[int]:
        """The index of the limit with the least left, for each unit."""
        return [min(indexes, key=lambda n: levels[n].remaining) for indexes in self._units]


#: Times as texts, by their seconds.
_TEXTS: dict[int, bytes] = {}
_MAX_TEXTS = 500


def time_text(seconds: float) -> str:
    """A Unix time as RFC 3339 in UTC, rounded up to a second."""
    second = min(ceil(seconds), _LAST_SECOND)
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _remember(second: int) -> bytes:
    if len(_TEXTS) >= _MAX_TEXTS:
        _TEXTS.clear()
    text = _TEXTS[second] = time_text(second).encode()
    return text
