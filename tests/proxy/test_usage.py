"""`llm-proxy usage`: its tables, its formats and its exit codes."""

from __future__ import annotations

import csv
import json
import sqlite3
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.config.text_width import text_width
from proxy.cli import main
from proxy.usage import parse_since
from stages.usage.database import Database
from stages.usage.rows import DAY
from tests.docs.pages import Page
from tests.stages.usage.support import row

TODAY = datetime.now(UTC).date()
NUMBER = (TODAY - date(1970, 1, 1)).days
TEXT = """
backends:
  cpu: {base_url: "http://cpu/v1", price: {input: 2, cache_read: 1, output: 10, gpu_hour: 1}}
  gpu: {base_url: "http://gpu/v1"}
models:
  small: {backend: cpu}
pipelines:
  models: {route: GET /v1/models, stages: [authenticate, list-models]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipelines.yaml").write_text(TEXT)
    return tmp_path


@pytest.fixture
def recorded(folder: Path) -> Path:
    """Two days, two backends."""
    database = Database(folder / "usage.db")
    first = row(NUMBER - 1, backend="cpu", model="small", input_tokens=50_000, total_ms=36_000)
    other = row(NUMBER, backend="gpu", model="big", session="s-2", agent="a-1", output_tokens=100)
    database.write(
        [
            first._replace(cache_read_tokens=10_000, output_tokens=1_200, estimated=True),
            row(NUMBER, backend="cpu", model="small", outcome="fallback", error="overloaded"),
            row(NUMBER, backend="cpu", model="small", outcome="client_disconnected"),
            other._replace(input_tokens=900, cache_read_tokens=0),
        ]
    )
    database.close()
    return folder


def usage(folder: Path, *arguments: str) -> Result:
    file = str(folder / "pipelines.yaml")
    return CliRunner(env={"STATE_DIRECTORY": None}).invoke(
        main, ["usage", "--config", file, *arguments]
    )


def test_the_table_is_the_one_in_the_docs(recorded: Path) -> None:
    result = usage(recorded, "--by", "model")

    assert result.exit_code == 0
    assert result.stdout in [block.text for block in Page("docs/operations.md").blocks("text")]


def test_days_are_in_their_order(recorded: Path) -> None:
    result = usage(recorded)

    days = [line.split()[0] for line in result.stdout.splitlines()[1:3]]
    assert days == [(TODAY - timedelta(1)).isoformat(), TODAY.isoformat()]


@pytest.mark.parametrize("by", ["key", "session", "agent", "backend"])
def test_it_groups_by_each_field(by: str, recorded: Path) -> None:
    lines = json.loads(usage(recorded, "--by", by, "--json").stdout)

    names = {"key": ["key-1"], "session": ["s-1", "s-2"], "agent": ["", "a-1"]}
    assert [line[by] for line in lines] == names.get(by, ["cpu", "gpu"])


def test_several_fields_make_one_group(recorded: Path) -> None:
    result = usage(recorded, "--by", "session", "--by", "backend", "--csv")

    lines = list(csv.DictReader(result.stdout.splitlines()))
    assert [(line["session"], line["backend"]) for line in lines] == [
        ("s-1", "cpu"),
        ("s-2", "gpu"),
    ]
    assert [line["cost"] for line in lines] == ["0.133283", ""]


def test_the_input_has_the_tokens_that_were_written_to_a_cache(folder: Path) -> None:
    database = Database(folder / "usage.db")
    database.write([row(NUMBER, input_tokens=100, cache_write_tokens=20, cache_read_tokens=3)])
    database.close()

    title, line = usage(folder).stdout.splitlines()[:2]
    columns = dict(zip(title.split(), line.split(), strict=True))
    assert (columns["input"], columns["cached"]) == ("120", "3")


@pytest.mark.parametrize(("number", "cost"), [(100, "0.0002"), (10, "<0.0001")])
def test_a_small_cost_is_not_shown_as_nothing(number: int, cost: str, folder: Path) -> None:
    database = Database(folder / "usage.db")
    tokens = {"input_tokens": number, "cache_read_tokens": 0, "output_tokens": 0, "total_ms": 0}
    database.write([row(NUMBER, backend="cpu", model="small", **tokens)])
    database.close()

    assert usage(folder).stdout.splitlines()[1].split()[-1] == cost


def test_wide_characters_keep_the_columns(folder: Path) -> None:
    database = Database(folder / "usage.db")
    database.write([row(NUMBER, model="模型"), row(NUMBER, model="qwen")])
    database.close()

    table = usage(folder, "--by", "model").stdout.splitlines()[:4]
    assert len({text_width(line) for line in table}) == 1


def test_a_client_writes_no_control_characters_to_the_terminal(folder: Path) -> None:
    """With a pattern as `models: {claude-*: {backend: gpu}}` the client chooses the model."""
    database = Database(folder / "usage.db")
    database.write([row(NUMBER, model="claude-\x1b]0;title\x07\x9b2J\nforged")])
    database.close()

    lines = usage(folder, "--by", "model").stdout.splitlines()

    assert lines[1].split()[0] == r"claude-\x1b]0;title\x07\x9b2J\nforged"
    assert all(line.isprintable() for line in lines)
    [_, line] = usage(folder, "--by", "model", "--csv").stdout.splitlines()
    assert line.startswith(r"claude-\x1b]0;title\x07\x9b2J\nforged,")


def test_json_has_each_number(recorded: Path) -> None:
    [line] = json.loads(usage(recorded, "--by", "key", "--json").stdout)

    assert line == {
        "key": "key-1",
        "requests": 3,
        "attempts": 4,
        "errors": 1,
        "disconnects": 1,
        "estimated_attempts": 1,
        "backend_seconds": 40.5,
        "input_tokens": 50_920,
        "cache_read_tokens": 10_010,
        "cache_write_tokens": 0,
        "output_tokens": 1_340,
        "cost": 0.133283,
        "unpriced_attempts": 1,
    }


def test_a_corrected_price_corrects_the_cost(recorded: Path) -> None:
    file = recorded / "pipelines.yaml"
    file.write_text(TEXT.replace("input: 2", "input: 20"))

    [line] = json.loads(usage(recorded, "--by", "key", "--json").stdout)

    assert line["cost"] == pytest.approx(0.133283 + 18 * 0.05002, abs=1e-5)


def test_since_leaves_earlier_days_out(recorded: Path) -> None:
    today = json.loads(usage(recorded, "--since", "1d", "--json").stdout)
    tomorrow = usage(recorded, "--since", (TODAY + timedelta(1)).isoformat())

    assert [line["day"] for line in today] == [TODAY.isoformat()]
    assert (tomorrow.exit_code, tomorrow.stdout) == (0, "no usage in this time\n")


@pytest.mark.parametrize("since", ["yesterday", "0d", "2026-13-01", "-1d", ""])
def test_a_wrong_date_is_a_usage_error(since: str, recorded: Path) -> None:
    result = usage(recorded, "--since", since)

    assert result.exit_code == 2
    assert "write it as 2026-11-01 or 7d" in result.stderr


def test_dates_and_numbers_of_days() -> None:
    today = date(2026, 11, 28)

    assert parse_since("7d", today) == date(2026, 11, 22)
    assert parse_since("1d", today) == today
    assert parse_since("2026-11-01", today) == date(2026, 11, 1)


def test_without_a_record_it_ends_with_1_and_the_next_action(folder: Path) -> None:
    result = usage(folder)

    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: there is no usage record at {folder}/usage.db\n"
        "  hint: add the stage `account` after `authenticate`, if it is not there, "
        "and send a request\n"
    )
    assert not (folder / "usage.db").exists()


def test_an_unreadable_record_ends_with_1(folder: Path) -> None:
    (folder / "usage.db").write_bytes(b"This is not a database. " * 100)

    result = usage(folder)

    assert result.exit_code == 1
    assert "cannot be read: file is not a database" in result.stderr
    assert "hint: " in result.stderr


def test_a_broken_config_ends_with_1(folder: Path) -> None:
    (folder / "pipelines.yaml").write_text("usage: {days: 3}\n" + TEXT)

    result = usage(folder)

    assert result.exit_code == 1
    assert "no option `days`" in result.stderr


def test_it_reads_while_a_proxy_writes(recorded: Path) -> None:
    writing = sqlite3.connect(recorded / "usage.db", isolation_level=None)
    writing.execute("BEGIN IMMEDIATE")
    writing.execute("DELETE FROM day")

    result = usage(recorded, "--by", "key")

    writing.close()
    assert result.exit_code == 0
    assert "50,920" in result.stdout


def test_a_row_counts_for_the_day_in_utc(folder: Path) -> None:
    database = Database(folder / "usage.db")
    database.write([row(NUMBER)._replace(time=NUMBER * DAY), row()._replace(time=NUMBER * DAY - 1)])
    database.close()

    days = [line["day"] for line in json.loads(usage(folder, "--json").stdout)]
    assert days == [(TODAY - timedelta(1)).isoformat(), TODAY.isoformat()]
