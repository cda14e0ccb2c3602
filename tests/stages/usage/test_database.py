"""The SQLite file: rows, daily sums, pruning, several writers."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from stages.chat_completions.json_values import as_count
from stages.usage.database import STEP, Database
from stages.usage.opening import NotAUsageRecordError
from stages.usage.report import lines, read_usage
from stages.usage.rows import DAY, Row, Sums
from tests.stages.usage.support import TODAY, query, row

ANY_TIME, ANY_DAY, ANY_SIZE = 0, 0, 1 << 40


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "new" / "usage.db"


def test_sums_are_those_of_the_rows(file: Path) -> None:
    database = Database(file)
    database.write([row(), row(outcome="fallback"), row(session="s-2", estimated=True)])
    database.write([row(outcome="client_disconnected"), row(day=TODAY + 1, outcome="error")])
    database.close()

    by_day = {usage.group: usage.sums for usage in read_usage(file, ["day"])}
    assert by_day["2024-10-04",] == Sums(3, 4, 1, 1, 1, 6000, 40, 20, 0, 80)
    assert by_day["2024-10-05",] == Sums(1, 1, 1, 0, 0, 1500, 10, 5, 0, 20)
    by_session = lines(read_usage(file, ["session"]), lambda backend, model: ())
    assert [(line.group, line.sums.attempts) for line in by_session] == [
        (("s-1",), 4),
        (("s-2",), 1),
    ]
    assert query(file, "SELECT count(*) FROM attempt") == [(5,)]


def test_the_largest_counts_of_a_backend_have_sums(file: Path) -> None:
    """A row that SQLite refuses would stop the record: its batch is written again and again."""
    largest = max(as_count(10**digits - 1) for digits in range(25))
    database = Database(file)
    database.write([row(input_tokens=largest, output_tokens=2 * largest)] * 2000)
    database.write([row(input_tokens=largest, output_tokens=2 * largest)] * 2000)
    database.close()

    [usage] = read_usage(file, ["day"])
    assert usage.sums.output_tokens == 4000 * 2 * largest


def test_a_text_is_stored_once_and_a_row_is_narrow(file: Path) -> None:
    database = Database(file)
    rows = [row(request=f"req_{n:024x}", session=f"session-{n % 9}") for n in range(20_000)]
    for n in range(0, len(rows), 1000):
        database.write(rows[n : n + 1000])
    size = database.used_bytes()
    database.close()

    assert size / len(rows) < 100
    texts = [text for (text,) in query(file, "SELECT text FROM name")]
    assert len(texts) == len(set(texts)) < 30


def test_a_second_process_adds_to_the_same_sums(file: Path) -> None:
    first, second = Database(file), Database(file)
    for _ in range(3):
        first.write([row()])
        second.write([row(), row(session="s-2")])
    first.close()
    second.close()

    [usage] = read_usage(file, ["day"])
    assert usage.sums.attempts == 9
    assert query(file, "SELECT count(*) FROM name WHERE text = 's-2'") == [(1,)]


def test_a_failed_batch_leaves_neither_rows_nor_names(file: Path) -> None:
    database = Database(file)
    with pytest.raises(sqlite3.Error):
        database.write([row(), row(session="s-2", status=object())])
    database.write([row(session="s-2")])
    database.close()

    assert query(file, "SELECT count(*) FROM attempt") == [(1,)]
    [usage] = read_usage(file, ["session"])
    assert (usage.group, usage.sums.attempts) == (("s-2",), 1)


def prune(database: Database, time: int, day: int, size: int = ANY_SIZE) -> int:
    """Prune until there is nothing left to delete; the number of steps."""
    steps = 1
    while database.prune(time, day, size):
        steps += 1
        assert steps < 1000
    return steps


def test_old_rows_go_then_old_sums_then_their_names(file: Path) -> None:
    database = Database(file)
    database.write([row(TODAY - 100, session="old"), row(TODAY - 20, session="older")])
    database.write([row(TODAY, session="now")])

    prune(database, (TODAY - 10) * DAY, TODAY - 50)
    database.close()

    assert query(file, "SELECT count(*) FROM attempt") == [(1,)]
    assert {usage.group[0] for usage in read_usage(file, ["session"])} == {"older", "now"}
    texts = {text for (text,) in query(file, "SELECT text FROM name")}
    assert {"older", "now"} <= texts


def test_names_go_with_the_last_row_that_refers_to_them(file: Path) -> None:
    database = Database(file)
    database.write([row(TODAY - 100, session="old", key="key-1")])
    database.write([row(TODAY, session="now", key="key-1")])

    prune(database, TODAY * DAY, TODAY)
    database.close()

    texts = {text for (text,) in query(file, "SELECT text FROM name")}
    assert "old" not in texts
    assert {"now", "key-1"} <= texts


def test_a_step_deletes_few_rows(file: Path) -> None:
    database = Database(file)
    database.write([row(request=f"req_{n}") for n in range(3 * STEP)])

    assert database.prune((TODAY + 1) * DAY, ANY_DAY, ANY_SIZE)
    assert query(file, "SELECT count(*) FROM attempt") == [(2 * STEP,)]
    database.close()


def test_the_file_shrinks_to_its_limit_and_keeps_the_newest(file: Path) -> None:
    database = Database(file)
    for day in range(TODAY - 20, TODAY):
        database.write([row(day, request=f"req_{day}_{n}") for n in range(1000)])
    limit = database.used_bytes() // 2

    prune(database, ANY_TIME, ANY_DAY, limit)

    assert database.used_bytes() <= limit
    database.close()
    [(oldest, newest)] = query(file, "SELECT min(time), max(time) FROM attempt")
    assert oldest > (TODAY - 20) * DAY
    assert newest // DAY == TODAY - 1
    assert len(read_usage(file, ["day"])) == 20  # the sums stay
    assert file.stat().st_size <= limit * 1.1


def test_a_client_that_invents_sessions_does_not_pass_the_limit(file: Path) -> None:
    database = Database(file)
    for batch in range(8):
        database.write([row(session=f"session {batch} {n}" * 8) for n in range(1000)])

    prune(database, ANY_TIME, ANY_DAY, 300_000)

    assert database.used_bytes() <= 300_000
    database.close()


def test_a_name_is_written_again_after_another_process_pruned_it(file: Path) -> None:
    first, second = Database(file), Database(file)
    first.write([row(TODAY - 100, session="again")])
    prune(second, TODAY * DAY, TODAY)
    first.write([row(TODAY, session="again")])
    first.close()
    second.close()

    assert [usage.group for usage in read_usage(file, ["session"])] == [("again",)]


@pytest.mark.parametrize("content", [b"no database at all" * 100, None], ids=["text", "sqlite"])
def test_a_foreign_file_is_not_written_to(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "usage.db"
    if content is None:
        connection = sqlite3.connect(file)
        connection.execute("CREATE TABLE theirs (x)")
        connection.commit()
        connection.close()
    else:
        file.write_bytes(content)
    before = file.read_bytes()

    with pytest.raises(sqlite3.DatabaseError):
        Database(file)
    assert len(file.read_bytes()) == len(before)


def test_a_record_of_a_newer_version_is_not_written_to(file: Path) -> None:
    Database(file).close()
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(NotAUsageRecordError, match="newer"):
        Database(file)


def test_the_file_is_only_for_its_owner(file: Path) -> None:
    database = Database(file)
    database.write([row()])

    assert {each.stat().st_mode & 0o077 for each in file.parent.iterdir()} == {0}
    database.close()


def test_the_columns_are_those_of_a_row(file: Path) -> None:
    Database(file).close()

    columns = [name for _, name, *_ in query(file, "PRAGMA table_info(attempt)")]
    assert tuple(columns) == Row._fields


def test_a_reader_that_closes_last_removes_the_log(file: Path) -> None:
    Database(file).close()
    assert list(file.parent.iterdir()) == [file]
    read_usage(file, ["day"])
    assert list(file.parent.iterdir()) == [file]


def test_two_that_close_at_the_same_moment_remove_the_log(file: Path) -> None:
    """To SQLite, the other one has it open still. It closes it without another look."""
    pauses = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        other.close()

    database = Database(file, sleep=sleep)
    other = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)
    other.execute("SELECT * FROM attempt").fetchall()
    database.close()
    assert list(file.parent.iterdir()) == [file]
    assert len(pauses) == 1


def test_the_log_stays_while_another_process_has_the_file_open(file: Path) -> None:
    other = Database(file)
    Database(file, sleep=lambda seconds: None).close()
    assert len(list(file.parent.iterdir())) == 3
    other.write([row()])
    other.close()
    assert list(file.parent.iterdir()) == [file]
