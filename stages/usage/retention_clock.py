"""The time by which old rows are deleted. Pure."""

from __future__ import annotations

import logging
import math

from attrs import define

log = logging.getLogger("llm_proxy")

#: Seconds. A smaller jump deletes only rows that are nearly old enough.
_JUMP = 7 * 86_400.0
#: Seconds from a jump until rows are deleted by the new time.
_WAIT = 3600.0


@define(eq=False)
class RetentionClock:
    """Reads the clock, and waits after a jump forward: the clock may be wrong.

    A wrong clock, once it is right again, must not have deleted the whole record. A machine that
    was off for weeks shows the same jump, and its old rows are deleted an hour later.
    """

    _latest: float | None = None
    """Unix time of the last reading, or of the newest row before this process."""
    _read_at: float = math.nan
    """When it was read, by the monotonic clock; NaN before the first reading."""
    _trusted_from: float = -math.inf

    def trusts(self, now: float, monotonic: float, newest_row: float | None) -> bool:
        """Whether rows may be deleted by the Unix time `now`.

        `newest_row` is the Unix time of the newest row before this process; None without a row.
        """
        if math.isnan(self._read_at):
            self._latest, self._read_at = newest_row, monotonic
        if self._latest is not None:
            jump = now - self._latest - (monotonic - self._read_at)
            if jump > _JUMP:
                self._trusted_from = monotonic + _WAIT
                log.warning(
                    "the clock is %d days later than before: old rows of the usage record are "
                    "deleted in an hour; set the clock if it is wrong",
                    jump // 86_400,
                )
        self._latest, self._read_at = now, monotonic
        return monotonic >= self._trusted_from
