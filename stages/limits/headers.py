"""The headers `anthropic-ratelimit-*`.

Of several limits in a unit, the headers have the one with the least left. `tokens` is the limit of
prompts and responses together, or the sum of the two limits. `reset` is when all of it is available
again. Source: the Messages API's page on rate limits, and a recorded response.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from math import ceil
from typing import Any

from attrs import field, frozen

from stages.limits.config import Limit
from stages.limits.store import Level

_UNITS = ("requests", "tokens", "input_tokens", "output_tokens")


@frozen
class RateLimitHeaders:
    """Makes the headers for these limits."""

    limits: tuple[Limit, ...]
    _units: tuple[tuple[int, ...], ...] = field(init=False, repr=False)
    """For each unit that has limits: their indexes."""
    _sums: bool = field(init=False, repr=False)
    """Whether `tokens` is a sum. The units then end with `input_tokens` and `output_tokens`."""
    _templates: dict[tuple[int, ...], bytes] = field(factory=dict, init=False, repr=False)
    """By the limits that are in the headers, one of each unit: all lines, without the numbers."""

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

    def make(self, levels: Sequence[Level], now: float) -> bytes:
        """The lines of the headers for the levels of the limits. `now` is in Unix seconds."""
        shown: list[int] = []
        values: list[Any] = []  # of each unit: what remains, and the time
        for unit in self._units:
            index = unit[0]
            if len(unit) > 1:
                index = min(unit, key=lambda n: levels[n].remaining)
            shown.append(index)
            remaining, reset_after = levels[index]
            if remaining < 0:
                remaining = 0
            values += (remaining, _text(ceil(now + reset_after)))
        if self._sums:
            prompt, prompt_reset, output, output_reset = values[-4:]
            values += (prompt + output, max(prompt_reset, output_reset))
        key = tuple(shown)
        template = self._templates.get(key)
        if template is None:
            template = self._templates[key] = self._make_template(key)
        return template % tuple(values)

    def _make_template(self, shown: tuple[int, ...]) -> bytes:
        maxima = {self.limits[n].unit: int(self.limits[n].maximum) for n in shown}
        if self._sums:
            maxima["tokens"] = maxima["input_tokens"] + maxima["output_tokens"]
        return "".join(itertools.starmap(_lines, maxima.items())).encode()


def _lines(unit: str, maximum: int) -> str:
    prefix = f"anthropic-ratelimit-{unit.replace('_', '-')}"
    return f"{prefix}-limit: {maximum}\r\n{prefix}-remaining: %d\r\n{prefix}-reset: %b\r\n"


def time_text(seconds: float) -> str:
    """A Unix time as RFC 3339 in UTC, rounded up to a second."""
    return datetime.fromtimestamp(ceil(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@functools.lru_cache(maxsize=512)
def _text(second: int) -> bytes:
    return time_text(second).encode()
