"""The counts from which one request takes: `take`, then `settle`, at most once each.

Each request with limits takes this path twice, between much other code, so its cost is that of
code which the processor has not in its caches. So the loops here have the arithmetic of Rate and
Places in them, not a call for each count: that takes a third of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define, field

from stages.limits.counts import EPSILON, SECONDS, AnyCount, Budget, Lack, Places, Rate
from stages.limits.store import Level, Want, make_level


@define(eq=False)
class RequestCounts:
    """The count of each want. Amounts and results are in the order of `wants`."""

    wants: Sequence[Want]
    counts: Sequence[AnyCount]
    maxima: list[float] = field(init=False)
    _rates: list[tuple[int, Rate, float, float]] = field(init=False)
    """Index, count, maximum, and the seconds in which the maximum refills."""
    _places: list[tuple[int, Places, Want]] = field(init=False)
    _budgets: list[tuple[int, Budget, Want]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.maxima = [want.maximum for want in self.wants]
        self._rates, self._places, self._budgets = [], [], []
        for n, (count, want) in enumerate(zip(self.counts, self.wants, strict=True)):
            if isinstance(count, Rate):
                self._rates.append((n, count, want.maximum, SECONDS[want.period]))
            elif isinstance(count, Places):
                self._places.append((n, count, want))
            else:
                self._budgets.append((n, count, want))

    def take(
        self, now: float, amounts: Sequence[float], hold: str, turn: float | None
    ) -> tuple[Level, ...] | None:
        """Take from all, and return the levels; or take nothing, and return None: one lacks.

        An amount above the maximum lacks. `turn`: see Places; None: the request does not wait.
        """
        levels: list[Any] = [*amounts]
        for n, rate, maximum, seconds in self._rates:
            rate.leak(now, maximum, seconds)
            amount = rate.amount + amounts[n]
            if amount - maximum > maximum * EPSILON:
                return None
            levels[n] = make_level((maximum - amount, amount * seconds / maximum))
        for _, places, want in self._places:
            if (places.waiting or places.in_flight >= want.maximum) and places.lack(
                now, want, hold, turn
            ):
                return None
        for n, budget, want in self._budgets:
            if budget.lack(now, want, amounts[n]):
                return None
        for n, rate, _, _ in self._rates:
            rate.amount += amounts[n]
        for n, places, want in self._places:
            places.in_flight += 1
            levels[n] = make_level((want.maximum - places.in_flight, 0.0))
        for n, budget, want in self._budgets:
            budget.reserved += amounts[n]
            levels[n] = budget.level(now, want)
        return tuple(levels)

    def lacks(
        self, now: float, amounts: Sequence[float], hold: str, turn: float | None
    ) -> dict[int, Lack]:
        """Why `take` took nothing, by index."""
        lacks: dict[int, Lack] = {}
        for n, rate, _, _ in self._rates:
            if lack := rate.lack(now, self.wants[n], amounts[n]):
                lacks[n] = lack
        for n, places, want in self._places:
            if lack := places.lack(now, want, hold, turn):
                lacks[n] = lack
        for n, budget, want in self._budgets:
            if lack := budget.lack(now, want, amounts[n]):
                lacks[n] = lack
        return lacks

    def settle(
        self,
        now: float,
        amounts: Sequence[float],
        used: Sequence[float],
        since: float,
        active: bool,
    ) -> None:
        """Correct the amounts that were taken at the time `since`. If `active`, release as well."""
        for n, rate, maximum, seconds in self._rates:
            if (amount := used[n]) != amounts[n]:
                rate.leak(now, maximum, seconds)
                rate.settle(amounts[n], amount, since)
        for n, budget, want in self._budgets:
            budget.settle(now, want, used[n])
        if active:
            self.release(amounts)

    def release(self, amounts: Sequence[float]) -> None:
        """Give back what a hold keeps. The caller wakes those that wait for a place."""
        for _, places, _ in self._places:
            places.in_flight -= 1
        for n, budget, _ in self._budgets:
            budget.release(amounts[n])

    def renew(self, amounts: Sequence[float]) -> None:
        """Take again what was released, also above a maximum."""
        for _, places, _ in self._places:
            places.in_flight += 1
        for n, budget, _ in self._budgets:
            budget.reserved += amounts[n]

    def next_waiting(self) -> list[str]:
        """The waiting requests that may ask again."""
        return [hold for _, places, _ in self._places for hold in places.next_waiting()]

    def levels(self, now: float) -> tuple[Level, ...]:
        """The levels of all, without a change."""
        pairs = zip(self.counts, self.wants, strict=True)
        return tuple([count.level(now, want) for count, want in pairs])
