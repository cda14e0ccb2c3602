"""Usage on the page: from the daily sums, in pages."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from stages.page.rendering import money
from stages.page.usage import PAGE_LINES, UsageView, usage_view
from stages.profiles.price import Price
from stages.usage.database import Database
from stages.usage.record import UsageRecord
from stages.usage.report import read_usage
from stages.usage.rows import DAY, Row
from tests.stages.usage.support import row
from tests.support import backend

TODAY = int(time.time() * 1000) // DAY
PRICE = Price(input=1.0, output=2.0)


@pytest.fixture
def record(tmp_path: Path) -> UsageRecord:
    usage = UsageRecord()
    usage.locate(str(tmp_path), {})
    return usage


def write(record: UsageRecord, *rows: Row) -> None:
    database = Database(record.path)
    database.write(rows)
    database.close()


async def view(record: UsageRecord, **query: str) -> UsageView:
    return await usage_view(record, {"gpu": backend(price=(PRICE,))}, {}, query)


async def test_the_models_of_a_week_are_the_default(record: UsageRecord) -> None:
    counts = {"input_tokens": 1_000_000, "output_tokens": 500_000, "cache_read_tokens": 0}
    write(
        record,
        row(TODAY, model="big", **counts),
        row(TODAY - 6, model="small"),
        row(TODAY - 7, model="old"),
    )

    shown = await view(record)

    assert (shown.by, shown.days, shown.problem) == ("model", 7, "")
    assert [line.group[0] for line in shown.lines] == ["big", "small"]
    assert shown.lines[0].cost == pytest.approx(2)
    assert shown.total
    assert shown.total.sums.requests == 2


@pytest.mark.parametrize("by", ["day", "key", "session", "agent", "backend"])
async def test_sums_are_grouped_as_asked_for(record: UsageRecord, by: str) -> None:
    write(record, row(TODAY, key="k", session="s", agent="a"), row(TODAY - 1))

    shown = await view(record, by=by, days="30")

    assert shown.by == by
    assert len(shown.lines) == (2 if by in ("day", "key", "agent", "session") else 1)


async def test_many_lines_are_in_pages(record: UsageRecord) -> None:
    write(record, *(row(TODAY, session=f"s-{number:03}") for number in range(PAGE_LINES + 1)))

    pages = [await view(record, by="session", page=str(page)) for page in (0, 1, 99)]

    assert [len(page.lines) for page in pages] == [PAGE_LINES, 1, 1]
    assert [(page.page, page.pages) for page in pages] == [(0, 2), (1, 2), (1, 2)]


@pytest.mark.parametrize("text", ["", "-1", "x", "99999999999", "²"])
async def test_other_parameters_are_the_defaults(record: UsageRecord, text: str) -> None:
    write(record, row(TODAY))

    shown = await view(record, by=text, days=text, page=text)

    assert (shown.by, shown.days, shown.page) == ("model", 7, 0)


async def test_without_a_record_it_says_so(record: UsageRecord) -> None:
    assert (await view(record)).problem == "There is no usage record yet."

    record.path.write_bytes(b"something else" * 100)

    assert (await view(record)).problem.startswith("The usage record cannot be read: ")


async def test_a_query_has_a_time_limit(record: UsageRecord) -> None:
    write(record, *(row(TODAY, session=f"s-{number}") for number in range(5000)))

    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        read_usage(record.path, ("session",), time_limit=0)


def test_a_tiny_cost_is_not_shown_as_nothing() -> None:
    shown = [money(cost) for cost in (0.0, 0.00002, 0.0001, 0.02, 1234.5)]
    assert shown == ["0.0000", "<0.0001", "0.0001", "0.0200", "1,234.50"]
