"""Statistics of measurements in pairs: each pair has one of each kind, right after the other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from attrs import frozen

#: Standard deviations on each side of a 95 % interval.
_Z = 1.96


@frozen
class Difference:
    """The median of the differences of pairs, and its 95 % interval. All are in one unit."""

    median: float
    low: float
    high: float
    base: float
    """The median of the measurements without."""

    def text(self) -> str:
        """In percent of the base, and in microseconds. The values are seconds."""
        low, middle, high = (100 * n / self.base for n in (self.low, self.median, self.high))
        return (
            f"{middle:+.1f} % ({low:+.1f} to {high:+.1f}), {1e6 * self.median:+.1f} us of "
            f"{1e6 * self.base:.0f} us"
        )


def difference(pairs: Sequence[tuple[float, float]]) -> Difference:
    """Compare pairs of a measurement without and one with.

    The interval is that of order statistics: it assumes no distribution. With fewer than six pairs
    it is the whole range.
    """
    ordered = sorted([after - before for before, after in pairs])
    n = len(ordered)
    below = max(0, math.floor((n - _Z * math.sqrt(n)) / 2) - 1)
    base = statistics.median([before for before, _ in pairs])
    return Difference(statistics.median(ordered), ordered[below], ordered[n - 1 - below], base)
