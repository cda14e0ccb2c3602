"""How long a send waits for the store, and when the store is lost. Pure: time is an argument.

    responses to other sends          the send ends after               the store is
    -------------------------------   -------------------------------   --------------------------
    none since this send began, or    1 timeout                         lost
      none since the latest of them
    some                              2 timeouts                        up: this send is late
    none, and all waits were late     10 timeouts of the clock          lost
    some, and all waits were late     10 timeouts of the clock          up: this send is late

`check` is called after each short wait. A wait that took twice its time was late: this process, and
maybe the store, got no CPU. It may not have written the send, or not have read the response. So a
late wait counts only for the clock.
"""

from __future__ import annotations

from typing import Literal

from attrs import define, field

#: Short waits in a timeout.
_WAITS = 10
#: Timeouts of a send, while there are responses to others.
_LATE = 2
#: Timeouts of the clock that a send may take in all.
MAX_TIMEOUTS = 10

Decision = Literal["wait", "late", "lost"]


@define(eq=False)
class Patience:
    """The wait of one send. `began` and `heard` are in seconds of one clock.

    `heard`: the time of the latest response or message when this one began.
    """

    timeout: float
    began: float
    heard: float
    _first_heard: float = field(init=False)
    _before: float = field(init=False)
    _waits: int = field(default=0, init=False)
    _silent: int = field(default=0, init=False)
    """Waits in time since the latest response."""

    def __attrs_post_init__(self) -> None:
        self._first_heard, self._before = self.heard, self.began

    @property
    def wait(self) -> float:
        """Seconds until the next `check`."""
        return self.timeout / _WAITS

    def check(self, now: float, heard: float) -> Decision:
        """Decide after a wait. `heard` is the time of the latest response or message."""
        in_time = now - self._before <= 2 * self.wait
        self._before = now
        if heard != self.heard:
            self.heard, self._silent = heard, 0
        elif in_time:
            self._silent += 1
        self._waits += in_time
        if self._silent >= _WAITS:
            return "lost"
        if self._waits >= _LATE * _WAITS or now - self.began >= MAX_TIMEOUTS * self.timeout:
            return "lost" if self.heard == self._first_heard else "late"
        return "wait"
