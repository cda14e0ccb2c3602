"""The headers `anthropic-ratelimit-*`.

Of several limits in a unit, the headers have the one with the least left. `tokens` is the limit of
prompts and responses together, or the sum of the two limits. `reset` is when all of it is available
again. Source: the Messages API's page on rate limits, and a recorded response.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from datetime import UTC, datetime

from attrs import field, frozen

from stages.limits.config import Limit
from stages.limits.store import Level

#: The last second of the year 9999, in Unix time: the last that `datetime` has.
_LAST_SECOND = 253_402_300_799
_UNITS = ("requests", "tokens", "input_tokens", "output_tokens")


@frozen
class _Unit:
    """The limits of one unit, by their places among all limits, and the names of its headers."""

    places: tuple[int, ...]
    limit: bytes
    remaining: bytes
    reset: bytes


@frozen
class RateLimitHeaders:
    """Makes the headers for these limits."""

    limits: tuple[Limit, ...]
    _units: tuple[_Unit, ...] = field(init=False, repr=False)
    _sums: bool = field(init=False, repr=False)
    """Whether `tokens` is a sum."""

    @_units.default
    def _list_units(self) -> tuple[_Unit, ...]:
        places = {unit: self._places(unit) for unit in _UNITS}
        return tuple(_unit(unit, numbers) for unit, numbers in places.items() if numbers)

    @_sums.default
    def _find_sums(self) -> bool:
        units = {limit.unit for limit in self.limits}
        return "tokens" not in units and {"input_tokens", "output_tokens"} <= units

    def _places(self, unit: str) -> tuple[int, ...]:
        return tuple(n for n, limit in enumerate(self.limits) if limit.unit == unit)

    def make(self, levels: Sequence[Level], now: float) -> list[tuple[bytes, bytes]]:
        """The headers for the levels of the limits, as in ASGI. `now` is in Unix seconds."""
        headers: list[tuple[bytes, bytes]] = []
        limit, remaining, reset_after = 0, 0, 0.0  # of prompts and responses together
        for unit in self._units:
            tightest = unit.places[0]
            for place in unit.places:
                if levels[place].remaining < levels[tightest].remaining:
                    tightest = place
            level, maximum = levels[tightest], int(self.limits[tightest].maximum)
            left = int(level.remaining) if level.remaining > 0 else 0
            reset = _second_bytes(int(-(-(now + level.reset_after) // 1)))
            headers += (
                (unit.limit, b"%d" % maximum),
                (unit.remaining, b"%d" % left),
                (unit.reset, reset),
            )
            if self._sums and unit.limit != _REQUESTS.limit:
                limit, remaining = limit + maximum, remaining + left
                reset_after = max(reset_after, level.reset_after)
        if self._sums:
            headers += (
                (_TOKENS.limit, b"%d" % limit),
                (_TOKENS.remaining, b"%d" % remaining),
                (_TOKENS.reset, _second_bytes(int(-(-(now + reset_after) // 1)))),
            )
        return headers


def _unit(unit: str, places: tuple[int, ...] = ()) -> _Unit:
    prefix = f"anthropic-ratelimit-{unit.replace('_', '-')}".encode()
    return _Unit(places, prefix + b"-limit", prefix + b"-remaining", prefix + b"-reset")


_REQUESTS, _TOKENS = _unit("requests"), _unit("tokens")


def time_text(seconds: float) -> str:
    """A Unix time as RFC 3339 in UTC, rounded up to a second."""
    second = min(math.ceil(seconds), _LAST_SECOND)
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@functools.lru_cache(maxsize=512)
def _second_bytes(second: int) -> bytes:
    return time_text(second).encode()
