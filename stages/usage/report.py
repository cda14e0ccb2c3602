"""Reads the daily sums, and derives the cost. Commands and pages use it; it never writes."""

from __future__ import annotations

import fnmatch
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

from attrs import frozen

from stages.backends.backend import Backend
from stages.backends.config import ModelEntry
from stages.exchange import Exchange, Target
from stages.profiles.price import Price, price_on
from stages.usage.opening import check_version, open_existing
from stages.usage.rows import DAY, Sums, rows

By = Literal["day", "key", "model", "session", "agent", "backend"]
BY: tuple[By, ...] = get_args(By)
_EPOCH = date(1970, 1, 1)
#: Instructions of SQLite between two looks at the clock: about a millisecond.
_STEPS = 50_000

#: Gives the prices of a backend's model.
Prices = Callable[[str, str], tuple[Price, ...]]


@frozen
class DailyUsage:
    """Daily sums with the same day, backend, model and `group`."""

    day: date
    backend: str
    model: str
    group: tuple[str, ...]
    """A value for each field that the sums are grouped by."""
    sums: Sums


@frozen
class Line:
    """The sums of one group. `cost` is None if no attempt has a price."""

    group: tuple[str, ...]
    sums: Sums
    cost: float | None
    unpriced: int
    """Attempts without a price, which are not in `cost`."""


def read_usage(
    file: Path, by: Sequence[By], since: date | None = None, time_limit: float = math.inf
) -> list[DailyUsage]:
    """Read the daily sums from `since` on. Raises sqlite3.Error or OSError.

    A query that takes more than `time_limit` seconds raises sqlite3.OperationalError.
    """
    if not file.is_file():
        raise FileNotFoundError("there is no such file")
    columns = ", ".join(("day", "backend", "model", *by))
    sums = ", ".join(f"sum({name})" for name in Sums._fields)
    query = f"SELECT {columns}, {sums} FROM day WHERE day >= ? GROUP BY {columns}"
    first = (since - _EPOCH).days if since else 0
    # Not read-only: the last process to close the file removes its write-ahead log.
    connection = open_existing(file, 2)
    end = time.monotonic() + time_limit
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
    try:
        connection.execute("PRAGMA query_only = ON")
        if check_version(connection) == 0:
            return []
        connection.execute("BEGIN")  # both queries see the same file
        rows = connection.execute(query, (first,)).fetchall()
        names = {0: "", **dict(connection.execute("SELECT id, text FROM name").fetchall())}
    finally:
        connection.close()
    return [_usage(row, by, names) for row in rows]


def _usage(row: Sequence[int], by: Sequence[By], names: Mapping[int, str]) -> DailyUsage:
    day, backend, model = row[:3]
    group = tuple(
        _date(number).isoformat() if name == "day" else names[number]
        for name, number in zip(by, row[3:], strict=False)
    )
    return DailyUsage(_date(day), names[backend], names[model], group, Sums(*row[3 + len(by) :]))


def _date(day: int) -> date:
    return _EPOCH + timedelta(days=day)


def lines(usages: Iterable[DailyUsage], prices: Prices) -> list[Line]:
    """Add up by group, with the cost. The order is that of the groups."""
    by_group: dict[tuple[str, ...], Line] = {}
    for usage in usages:
        line = by_group.get(usage.group, Line(usage.group, Sums(), None, 0))
        price = price_on(prices(usage.backend, usage.model), usage.day)
        cost, unpriced = line.cost, line.unpriced
        if price is None:
            unpriced += usage.sums.attempts
        else:
            cost = (cost or 0) + price.cost(usage.sums)
        by_group[usage.group] = Line(usage.group, line.sums.plus(usage.sums), cost, unpriced)
    return sorted(by_group.values(), key=lambda line: line.group)


def tokens(line: Line) -> int:
    """All tokens of a line."""
    sums = line.sums
    return sums.input_tokens + sums.cache_read_tokens + sums.cache_write_tokens + sums.output_tokens


def total(parts: Sequence[Line]) -> Line:
    """Add up all lines."""
    sums, costs = Sums(), [line.cost for line in parts if line.cost is not None]
    for line in parts:
        sums = sums.plus(line.sums)
    return Line((), sums, sum(costs) if costs else None, sum(line.unpriced for line in parts))


def configured_prices(backends: Mapping[str, Backend], models: Mapping[str, ModelEntry]) -> Prices:
    """Give the prices of the config: of the model in `models`, otherwise of the backend."""
    by_target = [
        (target.backend, target.model or name, target.overrides["price"])
        for name, entry in models.items()
        for target in entry.targets
        if "price" in target.overrides
    ]

    def prices(backend: str, model: str) -> tuple[Price, ...]:
        for name, pattern, configured in by_target:
            if name == backend and fnmatch.fnmatchcase(model, pattern):
                return tuple(configured)
        if backend not in backends:
            return ()
        return backends[backend].profile_for(Target(backend, model)).price

    return prices


def cost_of(exchange: Exchange, prices: Prices) -> float | None:
    """The cost of all attempts of an exchange that has ended; None if no attempt has a price."""
    priced = [
        price.cost(row)
        for row in (rows(exchange) if exchange.attempts else ())
        if (price := price_on(prices(row.backend, row.model), _date(row.time // DAY)))
    ]
    return sum(priced) if priced else None


def line_fields(by: Sequence[By], line: Line) -> dict[str, Any]:
    """Return a line of a report grouped by `by`, as `llm-proxy usage --json` prints it."""
    sums = line.sums
    return {
        **dict(zip(by, line.group or [""] * len(by), strict=True)),
        "requests": sums.requests,
        "attempts": sums.attempts,
        "errors": sums.errors,
        "disconnects": sums.disconnects,
        "estimated_attempts": sums.estimated,
        "backend_seconds": round(sums.seconds, 3),
        "input_tokens": sums.input_tokens,
        "cache_read_tokens": sums.cache_read_tokens,
        "cache_write_tokens": sums.cache_write_tokens,
        "output_tokens": sums.output_tokens,
        "cost": None if line.cost is None else round(line.cost, 6),
        "unpriced_attempts": line.unpriced,
    }
