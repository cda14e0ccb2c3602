"""`llm-proxy usage`: prints the usage record as a table, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import click
from attrs import frozen

from pipeline.config.schema import Config
from pipeline.config.text_width import pad, text_width
from stages.usage.record import UsageRecord
from stages.usage.report import (
    By,
    Line,
    configured_prices,
    line_fields,
    lines,
    read_usage,
    tokens,
    total,
)
from stages.wire.printable import printable


@frozen
class Report:
    """The lines of a report, grouped by the fields `by`, and their total."""

    by: tuple[By, ...]
    lines: tuple[Line, ...]
    total: Line


def report(config: Config, by: tuple[By, ...], since: date | None) -> Report:
    """Read the usage record of a config. Raises click.ClickException if that is not possible."""
    record: UsageRecord = config.sections["usage"]
    try:
        usages = read_usage(record.path, by, since)
    except FileNotFoundError:
        message = f"there is no usage record at {record.path}"
        hint = (
            "add the stage `account` after `authenticate`, if it is not there, and send a request"
        )
        raise click.ClickException(f"{message}\n  hint: {hint}") from None
    except (sqlite3.Error, OSError) as error:
        hint = "set `usage: {file}` to the record, or move this file away"
        message = f"{record.path} cannot be read: {error}\n  hint: {hint}"
        raise click.ClickException(message) from error
    prices = configured_prices(config.sections["backends"], config.sections["models"])
    return Report(by, tuple(_ordered(by, lines(usages, prices))), total(lines(usages, prices)))


def _ordered(by: Sequence[By], unordered: Sequence[Line]) -> Sequence[Line]:
    """Order by day, otherwise the groups with most tokens first."""
    if by[0] == "day":
        return unordered
    return sorted(unordered, key=tokens, reverse=True)


def parse_since(text: str, today: date | None = None) -> date:
    """Parse `2026-11-01`, or `7d`: today and the six days before it. Raises ValueError."""
    today = today or datetime.now(UTC).date()
    if days := re.fullmatch(r"([1-9]\d{0,4})d", text):
        return today - timedelta(days=int(days[1]) - 1)
    return date.fromisoformat(text)


def as_json(result: Report) -> str:
    """The lines as a JSON list of objects."""
    return json.dumps([line_fields(result.by, line) for line in result.lines], indent=1)


def as_csv(result: Report) -> str:
    """The lines as CSV, with the names of the columns first."""
    text = io.StringIO()
    writer = csv.DictWriter(text, line_fields(result.by, result.total), lineterminator="\n")
    writer.writeheader()
    for line in result.lines:
        fields = line_fields(result.by, line)
        writer.writerow(fields | {name: printable(fields[name]) for name in result.by})
    return text.getvalue().rstrip("\n")


#: The columns of the table after the groups: the title, and the text of a line.
_COLUMNS: dict[str, Callable[[Line], str]] = {
    "requests": lambda line: f"{line.sums.requests:,}",
    "errors": lambda line: f"{line.sums.errors:,}",
    "disconnects": lambda line: f"{line.sums.disconnects:,}",
    "input": lambda line: f"{line.sums.input_tokens + line.sums.cache_write_tokens:,}",
    "cached": lambda line: f"{line.sums.cache_read_tokens:,}",
    "output": lambda line: f"{line.sums.output_tokens:,}",
    "estimated": lambda line: f"{line.sums.estimated:,}",
    "hours": lambda line: f"{line.sums.seconds / 3600:,.2f}",
    "cost": lambda line: _cost(line),
}


def _cost(line: Line) -> str:
    if line.cost is None:
        return "-"
    digits = 2 if line.cost >= 0.01 or not line.cost else 4
    cost = "<0.0001" if 0 < line.cost < 0.0001 else f"{line.cost:,.{digits}f}"
    return cost + ("+" if line.unpriced else "")


def as_table(result: Report) -> str:
    """The lines as a table for people, with a total and notes."""
    if not result.lines:
        return "no usage in this time"
    rows = [[*result.by, *_COLUMNS]]
    for line in (*result.lines, result.total):
        group = [printable(name) or "-" for name in line.group] or ["total"] + [""] * (
            len(result.by) - 1
        )
        rows.append([*group, *(text(line) for text in _COLUMNS.values())])
    widths = [max(map(text_width, column)) for column in zip(*rows, strict=True)]
    texts = len(result.by)
    table = [
        "  ".join(
            pad(cell, width) if n < texts else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*table, *_notes(result.total)])


def _notes(total: Line) -> list[str]:
    notes, attempts = [], total.sums.attempts
    if total.sums.estimated:
        count = f"{total.sums.estimated:,} of {attempts:,} attempts"
        notes.append(f"estimated: {count}; the backend did not report all their tokens")
    if total.unpriced:
        count = f"{total.unpriced:,} of {attempts:,} attempts"
        notes.append(f"without a price: {count}; set `price` of the backend or the model")
    return ["", *notes] if notes else []
