"""Limits how long calls that start out of turn delay the waiting calls of a fair queue. Pure.

The wait of a call has two parts: the turns of the rotation, and calls that started out of turn.

    wait = rotation + out_of_turn, and out_of_turn <= rotation

So no call waits longer than twice the time that the rotation alone takes. A call starts out of turn
only if, for each waiting call, the second part with the expected duration of that call is at most
the first part so far. If the last call that started out of turn takes longer than expected, the
wait is longer by that difference. Times are seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

from attrs import define, field

_WEIGHT_OF_NEWEST = 0.2

#: It has the conversation, or the model, of the call that ran last; or a slot is kept for it.
Reason: TypeAlias = Literal["conversation", "model", "hold"]


class OutOfTurn(NamedTuple):
    """A call that started out of turn, or a slot that is kept for one."""

    reason: Reason
    began: float
    expected: float
    """Seconds."""


@define(eq=False)
class TurnBudget:
    """The times of calls out of turn."""

    _ended: float = 0.0
    """Seconds that ended calls took."""
    _running: float = 0.0
    """Seconds that calls in flight are expected to take."""
    _means: dict[Reason, float] = field(factory=dict)

    def stamp(self, now: float) -> float:
        """Return the value that `allows` needs for a call that begins to wait now."""
        return now - 2 * self._ended

    def allows(self, seconds: float, stamps: Iterable[float], now: float) -> bool:
        """Whether the waiting calls with these stamps may wait `seconds` more, out of turn."""
        newest = max(stamps, default=-math.inf)
        return now - 2 * (self._ended + self._running) - newest >= seconds

    def expected(self, reason: Reason, default: float) -> float:
        """The mean duration of such calls; the newest counts for a fifth."""
        return self._means.get(reason, default)

    def begin(self, reason: Reason, seconds: float, now: float) -> OutOfTurn:
        """Record that a call starts that is expected to take `seconds`."""
        self._running += seconds
        return OutOfTurn(reason, now, seconds)

    def end(self, call: OutOfTurn, now: float) -> None:
        """Record the end of a call."""
        seconds = now - call.began
        self._running -= call.expected
        self._ended += seconds
        mean = self._means.get(call.reason, seconds)
        self._means[call.reason] = mean + _WEIGHT_OF_NEWEST * (seconds - mean)
