"""The headers `anthropic-ratelimit-*`.

Of several limits in a unit, the headers have the one with the least left. `tokens` is the limit of
prompts and responses together, or the sum of the two limits. `reset` is when all of it is available
again. Source: the Messages API's page on rate limits, and a recorded response.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from math import ceil

from attrs import field, frozen

from stages.limits.config import Limit
from stages.limits.store import Level

#: The last second of the year 9999, in Unix time: the last that `datetime` has.
_LAST_SECOND = 253_402_300_799
_UNITS = ("requests", "tokens", "input_tokens", "output_tokens")


@frozen
class RateLimitHeaders:
    """Makes the headers for these limits."""

    limits: tuple[Limit, ...]
    _units: tuple[tuple[int, ...], ...] = field(init=False, repr=False)
    """For each unit that has limits: their indexes."""
    _sums: bool = field(init=False, repr=False)
    """Whether `tokens` is a sum. The units then end with `input_tokens` and `output_tokens`."""
    _maxima: list[str] = field(init=False, repr=False)
    _parts: list[str] = field(init=False, repr=False)
    """The lines in parts, six for a unit: the 1st, 3rd and 5th from 0 on are its three values."""

    @_units.default
    def _list_units(self) -> tuple[tuple[int, ...], ...]:
        units = [
            tuple(n for n, limit in enumerate(self.limits) if limit.unit == unit) for unit in _UNITS
        ]
        return tuple(filter(None, units))

    @_sums.default
    def _find_sums(self) -> bool:
        units = {limit.unit for limit in self.limits}
        return "tokens" not in units and {"input_tokens", "output_tokens"} <= units

    @_maxima.default
    def _list_maxima(self) -> list[str]:
        return [str(int(limit.maximum)) for limit in self.limits]

    @_parts.default
    def _make_parts(self) -> list[str]:
        parts = []
        for unit in self._units:
            parts += _lines(self.limits[unit[0]].unit, self._maxima[unit[0]])
        if self._sums:
            parts += _lines("tokens", "")
        return [parts[0].lstrip(), *parts[1:], "\r\n"] if parts else []

    def make(self, levels: Sequence[Level], now: float) -> bytes:
        """The lines of the headers for the levels of the limits. `now` is in Unix seconds."""
        parts, n = self._parts.copy(), 1
        for index, *others in self._units:
            if others:
                index = min((index, *others), key=lambda n: levels[n].remaining)
                parts[n] = self._maxima[index]
            remaining, reset_after = levels[index]
            parts[n + 2] = str(int(remaining)) if remaining > 0 else "0"
            reset = now + reset_after
            second = int(reset)
            if second < reset:
                second += 1
            parts[n + 4] = _TEXTS[second] if second in _TEXTS else _remember(second)
            n += 6
        if self._sums:  # of the two units before
            for place in (n, n + 2):
                parts[place] = str(int(parts[place - 12]) + int(parts[place - 6]))
            parts[n + 4] = max(parts[n - 8], parts[n - 2])
        return "".join(parts).encode()


def _lines(unit: str, maximum: str) -> list[str]:
    prefix = f"\r\nanthropic-ratelimit-{unit.replace('_', '-')}"
    return [f"{prefix}-limit: ", maximum, f"{prefix}-remaining: ", "", f"{prefix}-reset: ", ""]


#: Times as texts, by their seconds.
_TEXTS: dict[int, str] = {}
_MAX_TEXTS = 500


def time_text(seconds: float) -> str:
    """A Unix time as RFC 3339 in UTC, rounded up to a second."""
    second = min(ceil(seconds), _LAST_SECOND)
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _remember(second: int) -> str:
    if len(_TEXTS) >= _MAX_TEXTS:
        _TEXTS.clear()
    text = _TEXTS[second] = time_text(second)
    return text
