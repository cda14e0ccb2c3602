"""Rows are not deleted by a clock that has just jumped forward."""

from __future__ import annotations

from stages.usage.retention_clock import RetentionClock
from tests.cases import for_each

DAY = 86_400.0
#: Unix time, the monotonic clock, and whether rows may be deleted then.
Reading = tuple[float, float, bool]


@for_each(
    ("newest_row", "readings"),
    [
        (None, [(1000 * DAY, 0, True)]),
        (999 * DAY, [(1000 * DAY, 0, True), (1001 * DAY, DAY, True)]),
        (900 * DAY, [(1000 * DAY, 0, False), (1000 * DAY + 3601, 3601, True)]),
        (1000 * DAY, [(1000 * DAY, 0, True), (9000 * DAY, 60, False), (1000 * DAY, 120, False)]),
        (1000 * DAY, [(1000 * DAY, 0, True), (9000 * DAY, 60, False), (9000 * DAY, 3660, True)]),
        (9000 * DAY, [(1000 * DAY, 0, True), (1003 * DAY, 60, True)]),
    ],
    ids=["no-row", "steady", "off-for-weeks", "set-right-again", "stays", "backwards"],
)
def test_rows_are_deleted_an_hour_after_a_jump(
    newest_row: float | None, readings: list[Reading]
) -> None:
    clock = RetentionClock()

    assert [clock.trusts(now, monotonic, newest_row) for now, monotonic, _ in readings] == [
        trusted for _, _, trusted in readings
    ]
