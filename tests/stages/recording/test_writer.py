"""The writer's thread: the folder has a limit, and failures are logged once."""

from __future__ import annotations

import json
import logging
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.recording.writer import PATTERN, Writer
from tests.stages.recording.support import line
from tests.stages.usage.test_writer import Log, log  # noqa: F401 - a fixture

LIMIT = 20.0


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Writer]]:
    writers = []

    def make(folder: Path = tmp_path / "recordings", **changes: Any) -> Writer:
        writers.append(Writer(folder, **{"max_bytes": 1 << 20, **changes}))
        return writers[-1]

    yield make
    for writer in writers:
        writer.close()


def ids(folder: Path) -> list[str]:
    texts = [file.read_text() for file in sorted(folder.glob(PATTERN))]
    return [json.loads(line)["exchange"]["id"] for line in "".join(texts).splitlines()]


def test_close_writes_all_that_is_queued(make: Callable[..., Writer]) -> None:
    writer = make()
    for n in range(500):
        writer.add(line(str(n)), 100)
    writer.close()

    assert ids(writer.folder) == [str(n) for n in range(500)]
    [file] = writer.folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(writer.folder.stat().st_mode) == 0o700


def test_without_a_line_there_is_neither_a_folder_nor_a_thread(make: Callable[..., Writer]) -> None:
    before = threading.active_count()
    writer = make()

    assert threading.active_count() == before
    writer.close()
    assert not writer.folder.exists()


def test_the_oldest_lines_are_deleted_beyond_the_limit(
    make: Callable[..., Writer],
) -> None:
    writer = make(max_bytes=20_000)
    for n in range(300):
        writer.add(line(str(n), system="x" * 500), 500)
    writer.close()

    sizes = [file.stat().st_size for file in writer.folder.iterdir()]
    numbers = [int(id) for id in ids(writer.folder)]
    assert 10_000 < sum(sizes) <= 20_000
    assert numbers == list(range(numbers[0], 300))


def test_files_of_other_processes_count_and_other_files_stay(make: Callable[..., Writer]) -> None:
    writer = make(max_bytes=5_000)
    writer.folder.mkdir()
    (writer.folder / "exchanges-20200101T000000-1-000001.jsonl").write_text("x" * 4_900)
    (writer.folder / "notes.txt").write_text("y" * 9_000)
    writer.add(line("new"), 100)
    writer.close()

    assert ids(writer.folder) == ["new"]
    assert (writer.folder / "notes.txt").exists()


def test_a_deleted_file_is_replaced(make: Callable[..., Writer]) -> None:
    writer = make()
    writer._append(b"1\n")
    [file] = writer.folder.iterdir()
    file.unlink()
    writer._append(b"2\n")

    assert [each.read_text() for each in writer.folder.iterdir()] == ["2\n"]


def test_a_full_queue_loses_lines_and_is_logged_once(
    make: Callable[..., Writer],
    log: Log,  # noqa: F811
) -> None:
    writer = make(max_queued_bytes=1_000)
    for n in range(5):
        writer.add(line(str(n)), 1_001)
    writer.add(line("fits"), 1_000)
    writer.close()

    assert ids(writer.folder) == ["fits"]
    assert len(log.messages) == 2
    assert "do not fit into the queue" in log.messages[0]
    assert log.messages[1].endswith("5 were lost")


def test_a_line_that_is_larger_than_the_folder_is_lost(
    make: Callable[..., Writer],
    log: Log,  # noqa: F811
) -> None:
    writer = make(max_bytes=1_000)
    writer.add(line(system="x" * 1_000), 1_000)
    writer.close()

    assert not writer.folder.exists()
    assert "set a larger `recordings: {max_bytes}`" in log.messages[0]


def test_an_unusable_folder_is_logged_once_with_the_next_action(
    make: Callable[..., Writer],
    log: Log,  # noqa: F811
) -> None:
    writer = make(Path("/proc/recordings"))
    for _ in range(3):
        writer.add(line(), 100)
    writer.close()

    [message] = log.messages
    assert message.startswith("exchanges are not recorded in /proc/recordings: No such file or ")
    assert "set `recordings: {folder}`" in message
    assert writer.lost == 3


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    code = """
import logging, resource, sys
from pathlib import Path
from stages.recording.writer import Writer
from tests.stages.recording.support import line

logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
writer = Writer(Path(sys.argv[1]), 1 << 20)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, hard))  # after the imports write their caches
for n in range(100):
    writer.add(line(str(n), system="x" * (5_000 if n == 50 else 10)), 100)
writer.close()
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))  # at the exit, coverage writes its data
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    numbers = [int(id) for id in ids(tmp_path)]
    assert done.stdout.count("exchanges are not recorded") == 1
    assert 50 not in numbers
    assert {0, 49, 99} <= set(numbers)
    assert all(0 < file.stat().st_size <= 4_000 for file in tmp_path.iterdir())


def test_the_log_is_quiet_without_a_failure(make: Callable[..., Writer], log: Log) -> None:  # noqa: F811
    writer = make()
    writer.add(line(), 100)
    writer.close()

    assert not log.messages
    assert logging.getLogger("llm_proxy").isEnabledFor(logging.WARNING)
