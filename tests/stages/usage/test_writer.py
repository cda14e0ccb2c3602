"""The writer's thread: no request waits for the file, and its failures are logged once."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.usage.database import Database
from stages.usage.report import read_usage
from stages.usage.writer import Writer
from tests.stages.usage.support import NOW, TODAY, query, row

LIMIT = 20.0  # seconds that nothing here takes, unless it hangs


class Log(logging.Handler):
    """The messages about usage, and a way to wait for one."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.news = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self.news:
            self.messages.append(record.getMessage())
            self.news.notify_all()

    def wait_for(self, words: str) -> None:
        with self.news:
            arrived = self.news.wait_for(lambda: any(words in m for m in self.messages), LIMIT)
        assert arrived, self.messages


@pytest.fixture
def log() -> Iterator[Log]:
    handler, logger = Log(), logging.getLogger("llm_proxy")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def make() -> Iterator[Callable[..., Writer]]:
    writers = []

    def make(file: Path, **changes: Any) -> Writer:
        quick = {"flush_interval": 0.01, "retry_interval": 0.01, "busy_timeout": 0.01}
        options: dict[str, Any] = {**quick, "clock": lambda: NOW, **changes}
        writers.append(Writer(file, 30, 400, 1 << 30, **options))
        return writers[-1]

    yield make
    for writer in writers:
        writer.close()


def attempts(file: Path) -> int:
    return sum(usage.sums.attempts for usage in read_usage(file, ["day"]))


def test_close_writes_all_that_is_queued(tmp_path: Path, make: Callable[..., Writer]) -> None:
    writer = make(tmp_path / "usage.db", flush_interval=1000.0)
    for _ in range(2500):
        writer.add([row()])
    writer.close()

    assert attempts(tmp_path / "usage.db") == 2500


def test_without_a_row_there_is_neither_a_file_nor_a_thread(
    tmp_path: Path, make: Callable[..., Writer]
) -> None:
    before = threading.active_count()
    writer = make(tmp_path / "usage.db")
    writer.add([])

    assert threading.active_count() == before
    writer.close()
    assert not list(tmp_path.iterdir())


def test_old_rows_are_pruned(tmp_path: Path, make: Callable[..., Writer]) -> None:
    writer = make(tmp_path / "usage.db", clock=lambda: NOW)
    writer.add([row(TODAY - 500), row(TODAY - 31), row(TODAY - 1)])
    writer.close()
    again = make(tmp_path / "usage.db", clock=lambda: NOW, flush_interval=0.0)
    again.add([row(TODAY)])
    while query(tmp_path / "usage.db", "SELECT count(*) FROM attempt") != [(2,)]:
        os.sched_yield()
    again.close()

    assert len(read_usage(tmp_path / "usage.db", ["day"])) == 3


def test_a_clock_that_jumps_forward_deletes_no_rows_at_once(
    tmp_path: Path, make: Callable[..., Writer], log: Log
) -> None:
    file = tmp_path / "usage.db"
    first = make(file)
    first.add([row(TODAY - 10), row(TODAY)])
    first.close()

    second = make(file, clock=lambda: NOW + 3000 * 86_400, monotonic=lambda: 0.0)
    second.add([row(TODAY + 3000)])
    log.wait_for("the clock is 3000 days later than before")
    second.close()

    assert query(file, "SELECT count(*) FROM attempt") == [(3,)]
    third = make(file, clock=lambda: NOW + 3000 * 86_400, flush_interval=0.0)
    third.add([row(TODAY + 3000)])
    while query(file, "SELECT count(*) FROM attempt") != [(2,)]:
        os.sched_yield()


def test_a_locked_file_is_logged_once_and_nothing_is_lost(
    tmp_path: Path, make: Callable[..., Writer], log: Log
) -> None:
    file = tmp_path / "usage.db"
    Database(file).close()
    lock = sqlite3.connect(file, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    writer = make(file)
    for _ in range(50):
        writer.add([row()])
    log.wait_for("usage is not recorded")
    assert "another program has locked it" in log.messages[0]
    writer.add([row()])
    lock.execute("ROLLBACK")
    lock.close()
    log.wait_for("usage is recorded again")
    writer.close()

    assert attempts(file) == 51
    assert len(log.messages) == 2
    assert log.messages[1].endswith("0 attempts were lost")


def test_a_file_that_stays_locked_has_a_bounded_queue(
    tmp_path: Path, make: Callable[..., Writer], log: Log
) -> None:
    file = tmp_path / "usage.db"
    Database(file).close()
    lock = sqlite3.connect(file, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    writer = make(file, max_queued=10)
    for _ in range(25):
        writer.add([row()])
    log.wait_for("usage is not recorded")
    assert writer.dropped == 15
    lock.close()
    log.wait_for("recorded again")
    writer.close()

    assert attempts(file) == 10
    assert log.messages[1].endswith("15 attempts were lost")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("broken", "move the file away"),
        ("foreign", "move the file away"),
        ("folder", "let the proxy write to its folder"),
        ("/proc/usage.db", "let the proxy write to its folder"),
    ],
)
def test_an_unusable_file_is_logged_once_with_the_next_action(
    place: str, words: str, tmp_path: Path, make: Callable[..., Writer], log: Log
) -> None:
    file = tmp_path / place
    if place == "broken":
        Database(file).close()
        file.write_bytes(file.read_bytes()[:100] + b"\xff" * 50_000)
    elif place == "foreign":
        file.write_bytes(b"This is not a database. " * 100)
    elif place == "folder":
        file.mkdir()
    writer = make(file)
    writer.add([row()])
    log.wait_for(words)
    writer.add([row()])
    writer.close()

    assert len(log.messages) == 2
    assert log.messages[0].count(str(file)) == 1
    assert log.messages[1] == "attempts are not in the usage record: 2"


def test_a_repaired_place_gets_the_rows_that_waited(
    tmp_path: Path, make: Callable[..., Writer], log: Log
) -> None:
    file = tmp_path / "usage.db"
    file.write_bytes(b"This is not a database. " * 100)
    writer = make(file)
    writer.add([row()])
    log.wait_for("not recorded")
    file.unlink()
    log.wait_for("recorded again")
    writer.close()

    assert attempts(file) == 1


@pytest.mark.parametrize("move", [Path.unlink, lambda file: file.rename(f"{file}.old")])
def test_a_file_that_is_moved_away_is_created_again(
    move: Callable[[Path], Any], tmp_path: Path, make: Callable[..., Writer]
) -> None:
    file = tmp_path / "usage.db"
    writer = make(file)
    writer.add([row(), row()])
    while not file.exists() or attempts(file) != 2:
        os.sched_yield()
    move(file)
    writer.add([row()])
    writer.close()

    assert attempts(file) == 1


WRITE = """
import logging, sys, time
from pathlib import Path
from stages.usage.writer import Writer
from tests.stages.usage.support import row

logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
writer = Writer(Path(sys.argv[1]), 30, 400, 1 << 30, flush_interval=0.1, retry_interval=0.05)
today = int(time.time() // 86400)
"""


def process(code: str, file: Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITE + code, str(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


def test_two_processes_write_to_one_new_file(tmp_path: Path) -> None:
    file = tmp_path / "usage.db"
    code = """
for n in range(3000):
    writer.add([row(today, session=f"s-{n % 7}")])
    if n % 100 == 0:
        time.sleep(0.01)
writer.close()
print(writer.dropped)
"""
    processes = [process(code, file) for _ in range(2)]

    assert [each.communicate(timeout=LIMIT)[0] for each in processes] == ["0\n", "0\n"]
    assert attempts(file) == 6000
    by_session = {usage.group: usage.sums.attempts for usage in read_usage(file, ["session"])}
    assert len(by_session) == 7
    assert query(file, "PRAGMA integrity_check") == [("ok",)]


def test_a_killed_process_loses_at_most_the_last_second(tmp_path: Path) -> None:
    """Rows have the time at which they were added; each printed time is that of a row."""
    code = """
while True:
    now = int(time.time() * 1000)
    writer.add([row(time=now)])
    print(now, flush=True)
    time.sleep(0.002)
"""
    running = process(code, tmp_path / "usage.db")
    assert running.stdout
    added = [int(running.stdout.readline())]
    while added[-1] < added[0] + 1000:
        added.append(int(running.stdout.readline()))
    running.send_signal(signal.SIGKILL)
    added += [int(line) for line in running.stdout.read().splitlines()]
    running.wait()
    running.stdout.close()

    written = [time for (time,) in query(tmp_path / "usage.db", "SELECT time FROM attempt")]
    assert written == added[: len(written)]
    assert added[-1] - written[-1] < 1000
    assert attempts(tmp_path / "usage.db") == len(written)


def test_a_full_disk_is_logged_once_and_the_file_stays_valid(tmp_path: Path) -> None:
    code = """
for n in range(30_000):
    writer.add([row(today, request=f"req_{n:024x}")])
    if n % 3000 == 0:
        time.sleep(0.1)
time.sleep(0.3)
writer.close()
"""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    running = process(code, tmp_path / "usage.db", preexec_fn=limit)
    text = running.communicate(timeout=LIMIT)[0]

    assert running.returncode == 0
    assert text.count("usage is not recorded") == 1
    assert "free some space" in text
    assert query(tmp_path / "usage.db", "PRAGMA integrity_check") == [("ok",)]
    [(rows,)] = query(tmp_path / "usage.db", "SELECT count(*) FROM attempt")
    assert attempts(tmp_path / "usage.db") == rows


def test_a_failure_soon_after_another_is_logged_if_it_lasts(
    tmp_path: Path, make: Callable[..., Writer], log: Log
) -> None:
    now, asked = [0.0], threading.Event()

    def monotonic() -> float:
        asked.set()
        return now[0]

    file = tmp_path / "usage.db"
    Database(file).close()
    lock = sqlite3.connect(file, isolation_level=None)
    writer = make(file, monotonic=monotonic)
    lock.execute("BEGIN EXCLUSIVE")
    writer.add([row()])
    log.wait_for("usage is not recorded")
    lock.execute("ROLLBACK")
    log.wait_for("usage is recorded again")

    now[0] = 10.0
    lock.execute("BEGIN EXCLUSIVE")
    asked.clear()
    writer.add([row()])
    assert asked.wait(LIMIT)
    assert len(log.messages) == 2, "it is too soon for a second line"
    log.messages.clear()
    now[0] = 601.0
    log.wait_for("usage is not recorded")
    lock.execute("ROLLBACK")
    lock.close()
    log.wait_for("usage is recorded again")
