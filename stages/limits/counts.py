"""The count of one limit of one account. Pure: time is an argument, in Unix seconds.

    count     take           settle                             lease ends       renewed after that
    -------   ------------   --------------------------------   --------------   ------------------
    Rate      level + n      level - n + used                   nothing          nothing
    Budget    reserved + n   reserved - n, spent + used         reserved - n     reserved + n
    Places    in_flight + 1  in_flight - 1                      in_flight - 1    in_flight + 1

`n` is the estimate, at most the maximum. After the end of its lease a hold has given back its
part of `reserved` and `in_flight`, so `settle` changes only `level` and `spent`.

Rate is the generic cell rate algorithm (GCRA). It stores the level of the bucket and its time, not
an arrival time: arrival times add up rounding errors of 2e-7 s, and a limit of 100 would refuse the
100th request. A level leaks `maximum` a period. A refund is at most what the request took and what
has not leaked: if the level was 0 since then, everything has leaked, and nothing is refunded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Protocol, TypeAlias

from attrs import Factory, define, frozen

from stages.limits.store import Level, Want, make_level

SECONDS = {"minute": 60.0, "hour": 3600.0, "day": 86400.0}
#: Seconds until a refused request tries again, if it depends on requests in flight.
IN_FLIGHT_RETRY = 5.0
#: Relative rounding error of sums.
EPSILON = 1e-9
#: Seconds between the turns of two requests that begin to wait at the same time.
_NEXT_TURN = 1e-6


@frozen
class Lack:
    """Why a request does not fit; see Refused."""

    retry_after: float
    used_up: bool = False


class Count(Protocol):
    """What all counts have. RequestCounts takes from them, and gives back."""

    def level(self, now: float, want: Want) -> Level:
        """The level for headers and messages."""

    def drain(self, now: float, want: Want, reserved: float) -> float:
        """Remove what settled requests took, and return it. Holds took `reserved`."""

    def is_unused(self, now: float, want: Want) -> bool:
        """Whether it equals a new count."""


@define(eq=False)
class Rate:
    """A bucket that leaks."""

    amount: float = 0.0
    """What was taken and has not leaked, at the time `at`."""
    at: float = 0.0
    empty_at: float = -math.inf
    """The last time at which nothing was taken that had not leaked."""

    def lack(self, now: float, want: Want, n: float) -> Lack | None:
        """Return None if `n` fits. It changes nothing but what time changes."""
        maximum, seconds = want.maximum, SECONDS[want.period]
        self.leak(now, maximum, seconds)
        excess = self.amount + n - maximum
        return Lack(excess * seconds / maximum) if excess > maximum * EPSILON else None

    def leak(self, now: float, maximum: float, seconds: float) -> None:
        """Bring `amount` to the time `now`. It leaks `maximum` in `seconds`."""
        at = self.at
        if now == at:
            return
        self.at = now
        if now > at:
            self.amount -= (now - at) * maximum / seconds
        if self.amount <= 0:
            self.amount, self.empty_at = 0.0, now

    def settle(self, n: float, used: float, since: float) -> None:
        """Correct an estimate `n` of the time `since`, after `leak`."""
        if used > n or since >= self.empty_at:
            amount = self.amount + used - n
            self.amount = amount if amount > 0 else 0.0

    def level(self, now: float, want: Want) -> Level:
        maximum, seconds = want.maximum, SECONDS[want.period]
        self.leak(now, maximum, seconds)
        return make_level((maximum - self.amount, self.amount * seconds / maximum))

    def drain(self, now: float, want: Want, reserved: float) -> float:
        self.leak(now, want.maximum, SECONDS[want.period])
        drained = max(0.0, self.amount - reserved)
        self.amount -= drained
        return drained

    def is_unused(self, now: float, want: Want) -> bool:
        self.leak(now, want.maximum, SECONDS[want.period])
        return not self.amount


@define(eq=False)
class Budget:
    """An amount for each day or month of UTC."""

    window: float = 0.0
    """When the current day or month began."""
    spent: float = 0.0
    reserved: float = 0.0
    """The estimates of holds."""

    def _roll(self, now: float, want: Want) -> float:
        """Begin the next window if it is time. Return the seconds until the end of this one.

        If the clock has gone back to the window before, the later one goes on. If it has gone back
        further, a wrong time had begun the later one.
        """
        start, end = window(now, want.period)
        if start > self.window or self.window > end:
            self.window, self.spent = start, 0.0
        return end - now

    def lack(self, now: float, want: Want, n: float) -> Lack | None:
        """Return None if `n` fits. It changes nothing but what time changes."""
        remaining = self._roll(now, want)
        limit = want.maximum * (1 + EPSILON)
        if self.spent + n > limit or self.spent >= want.maximum:
            return Lack(remaining, used_up=True)
        return Lack(IN_FLIGHT_RETRY) if self.spent + self.reserved + n > limit else None

    def settle(self, now: float, want: Want, used: float) -> None:
        """Spend `used`. `release` gives back the estimate."""
        self._roll(now, want)
        self.spent += used

    def release(self, n: float) -> None:
        self.reserved -= n
        if self.reserved < EPSILON:  # rounding, or the count was dropped and is new
            self.reserved = 0.0

    def level(self, now: float, want: Want) -> Level:
        remaining = self._roll(now, want)
        return make_level((want.maximum - self.spent - self.reserved, remaining))

    def drain(self, now: float, want: Want, reserved: float) -> float:
        self._roll(now, want)
        drained, self.spent = self.spent, 0.0
        return drained

    def is_unused(self, now: float, want: Want) -> bool:
        self._roll(now, want)
        return not (self.spent or self.reserved)


@define(eq=False)
class Places:
    """The requests in flight, and those that wait for a place.

    A waiting request has a turn: the time when it began to wait. It keeps its turn when it moves to
    another limit. So the one with the earliest turn is the first of each, and always gets on.
    """

    in_flight: int = 0
    maximum: float = 0.0
    """As `lack` last got it for a request that did not wait: a reload may have changed it."""
    waiting: dict[str, float] = Factory(dict)
    """The turns, by the ids of holds, the earliest first."""

    def lack(self, now: float, want: Want, hold: str, turn: float | None) -> Lack | None:
        """Return None if there is a place for `hold`. `turn`: its own; None: it does not wait."""
        if hold in self.waiting:
            fits = hold in self.next_waiting()
        elif turn is None:
            self.maximum = want.maximum
            fits = self.in_flight + len(self.waiting) < self.maximum
        else:
            before = sum(1 for other in self.waiting.values() if other < turn)
            fits = self.in_flight + before < self.maximum
        return None if fits else Lack(IN_FLIGHT_RETRY)

    def wait(self, now: float, hold: str, turn: float | None) -> None:
        """Let `hold` wait. Without a turn, it is the last one."""
        last = next(reversed(self.waiting.values()), -math.inf)
        self.waiting[hold] = max(now, last + _NEXT_TURN) if turn is None else turn
        if self.waiting[hold] <= last:
            in_order = sorted(self.waiting.items(), key=lambda item: (item[1], item[0]))
            self.waiting = dict(in_order)

    def next_waiting(self) -> Iterator[str]:
        """The waiting requests for which there is a place now."""
        return islice(self.waiting, max(0, int(self.maximum) - self.in_flight))

    def level(self, now: float, want: Want) -> Level:
        return make_level((want.maximum - self.in_flight, 0.0))

    def drain(self, now: float, want: Want, reserved: float) -> float:
        return 0.0

    def is_unused(self, now: float, want: Want) -> bool:
        return not (self.in_flight or self.waiting)


AnyCount: TypeAlias = Rate | Budget | Places


def window(now: float, period: str) -> tuple[float, float]:
    """The start and the end of the day or month of UTC that contains `now`."""
    if period == "day":
        start = now // 86400 * 86400
        return start, start + 86400
    at = datetime.fromtimestamp(now, UTC)
    first = datetime(at.year, at.month, 1, tzinfo=UTC)
    following = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)
    return first.timestamp(), following.timestamp()
