"""What the page shows of usage and cost: from the daily sums of the usage record alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

from anyio import to_thread
from attrs import frozen

from stages.backends.backend import Backend
from stages.backends.config import ModelEntry
from stages.usage.record import UsageRecord
from stages.usage.report import (
    BY,
    By,
    Line,
    Prices,
    configured_prices,
    lines,
    read_usage,
    tokens,
    total,
)

#: Lines of one page of the table.
PAGE_LINES = 50
#: Days that a reader can choose.
DAYS = (1, 7, 30, 90, 400)
#: Seconds that the query may take.
_TIME_LIMIT = 3.0


@frozen
class UsageView:
    """A table of usage, grouped by `by`, over the last `days`. `page` counts from 0.

    `problem` says why there is no table.
    """

    by: By
    days: int
    page: int = 0
    pages: int = 0
    lines: tuple[Line, ...] = ()
    total: Line | None = None
    problem: str = ""
    choices: tuple[By, ...] = BY
    day_choices: tuple[int, ...] = DAYS


async def usage_view(
    record: UsageRecord,
    backends: Mapping[str, Backend],
    models: Mapping[str, ModelEntry],
    query: Mapping[str, str],
    all_pages: bool = False,
) -> UsageView:
    """Read the usage record in a thread, for the parameters `by`, `days` and `page`.

    `all_pages`: the view has all lines, on one page.
    """
    by: By = next((name for name in BY if name == query.get("by")), "model")
    days = number(query.get("days", ""), DAYS[1])
    page = number(query.get("page", ""))
    prices = configured_prices(backends, models)
    return await to_thread.run_sync(_read, record, UsageView(by, days, page), prices, all_pages)


def number(text: str, default: int = 0) -> int:
    """Return the number in a query, or the default."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else default


def _read(record: UsageRecord, view: UsageView, prices: Prices, all_pages: bool) -> UsageView:
    today: date = datetime.now(UTC).date()
    since = today - timedelta(days=max(view.days, 1) - 1)
    try:
        usages = read_usage(record.path, (view.by,), since, _TIME_LIMIT)
    except FileNotFoundError:
        return UsageView(view.by, view.days, problem="There is no usage record yet.")
    except (sqlite3.Error, OSError) as error:
        return UsageView(view.by, view.days, problem=f"The usage record cannot be read: {error}")
    groups = lines(usages, prices)
    ordered = sorted(groups, key=_day if view.by == "day" else tokens, reverse=True)
    if all_pages:
        return UsageView(view.by, view.days, 0, 1, tuple(ordered), total(groups))
    pages = max(-(-len(ordered) // PAGE_LINES), 1)
    page = min(view.page, pages - 1)
    shown = ordered[page * PAGE_LINES : (page + 1) * PAGE_LINES]
    return UsageView(view.by, view.days, page, pages, tuple(shown), total(groups))


def _day(line: Line) -> tuple[str, ...]:
    return line.group
