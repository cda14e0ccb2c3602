"""The SQLite file of the usage record. Blocking: only the writer's thread and commands use it.

    table      a row
    --------   -----------------------------------------------------------------------------------
    attempt    one attempt (see rows.py); oldest first by rowid
    day        the sums of a day, by session, agent, key, pipeline, backend and models
    name       a text that attempts and days refer to, and the last day on which it was written
    cleared    how often all names were deleted

Several processes write to one file (WAL). A transaction has whole batches, so the sums are always
those of the attempts. The id 0 is the empty text.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from attrs import define, field

from stages.usage.opening import APPLICATION_ID, VERSION, check_version, open_existing
from stages.usage.rows import DAY, DISCONNECTED, FAILED, NAMES, Group, Row, Sums, names_of

#: Rows that one step of pruning deletes: a few milliseconds.
STEP = 1000
#: Pages that one step of pruning returns to the file system.
_FREED_PAGES = 1000
#: Bytes that the write-ahead log keeps between checkpoints.
_LOG_BYTES = 4 * 1024 * 1024
#: Further times that a file is closed while its write-ahead log is there.
_CLOSES = 3
_START, _END = NAMES.start, NAMES.stop
_OUTCOMES = (*FAILED, *DISCONNECTED)
#: Texts whose ids are in memory.
_MAX_IDS = 20_000

_INTEGERS = ", ".join(f"{name} INTEGER NOT NULL" for name in Group._fields)
_SCHEMA = f"""
CREATE TABLE name (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE, day INTEGER NOT NULL);
CREATE TABLE cleared (times INTEGER NOT NULL);
INSERT INTO cleared VALUES (0);
CREATE TABLE attempt ({", ".join(Row._fields)});
CREATE TABLE day (
    {_INTEGERS},
    {", ".join(f"{name} INTEGER NOT NULL" for name in Sums._fields)},
    PRIMARY KEY ({", ".join(Group._fields)})
) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""
_ATTEMPT = f"({', '.join('?' * len(Row._fields))})"
#: Rows of one INSERT, which may have 999 values. The thread waits for the interpreter's lock after
#: each statement, and the event loop has to give it.
_INSERTED = 999 // len(Row._fields)
_GROUP = ", ".join(Group._fields[1:])
#: How each field of Sums is computed. The parameters are ids of outcomes.
_SUMS = dict(
    requests="sum(outcome NOT IN (:retry, :fallback))",
    attempts="count(*)",
    errors="sum(outcome IN (:retry, :fallback, :error, :aborted))",
    disconnects="sum(outcome IN (:client_disconnected, :client_stalled))",
    **{name: f"sum({name})" for name in Sums._fields[4:]},
)
_ADD_DAYS = (
    f"INSERT INTO day SELECT time / {DAY}, {_GROUP}, {', '.join(_SUMS.values())} FROM attempt "
    f"WHERE rowid > :before GROUP BY 1, {_GROUP} ON CONFLICT DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in Sums._fields)
)
_ADD_NAME = (
    "INSERT INTO name (text, day) VALUES (?, ?) "
    "ON CONFLICT (text) DO UPDATE SET day = max(day, excluded.day)"
)


@define(eq=False)
class Database:
    """An open file. `busy_timeout` are seconds to wait for another process's transaction."""

    file: Path
    busy_timeout: float = 1.0
    sleep: Callable[[float], None] = time.sleep
    _connection: sqlite3.Connection = field(init=False)
    _opened: tuple[int, int] | None = field(default=None, init=False)
    """The device and inode of the open file."""
    _ids: dict[str, int] = field(factory=lambda: {"": 0}, init=False)
    """Ids of texts that were written on `_ids_day`. They are pruned only with all others."""
    _ids_day: int = field(default=0, init=False)
    _ids_cleared: int = field(default=0, init=False)
    """How often all names had been deleted then."""

    def __attrs_post_init__(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._create()
        self._connection = sqlite3.connect(
            self.file, timeout=self.busy_timeout, isolation_level=None
        )
        ready = False
        try:
            self._set_up()
            self._opened = self._at_path()
            ready = True
        finally:
            if not ready:
                self._connection.close()

    def _create(self) -> None:
        """Create the file for its owner only. It never opens an existing file.

        To close a file takes the locks away that SQLite has on it in this process. The write-ahead
        log and the shared memory of a file that was moved away do not belong to the new file.
        """
        others = [Path(f"{self.file}{suffix}") for suffix in ("-wal", "-shm")]
        stale = [path for path in others if path.exists()]  # before the new file has its own
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            for path in stale:
                path.unlink(missing_ok=True)

    def _set_up(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA auto_vacuum = INCREMENTAL")  # has an effect on a new file only
        self._use_wal()
        execute("PRAGMA synchronous = NORMAL")
        execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        execute("BEGIN IMMEDIATE")
        with self._connection:
            if check_version(self._connection) == 0:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    execute(statement)

    def _use_wal(self) -> None:
        """Switch to WAL. SQLite does not wait for another process that does the same."""
        end = time.monotonic() + self.busy_timeout
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL").fetchall()
                return
            except sqlite3.OperationalError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def moved(self) -> bool:
        """Whether the open file was deleted or moved away, so that nobody would read its rows."""
        return self._at_path() != self._opened

    def _at_path(self) -> tuple[int, int] | None:
        try:
            status = self.file.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def close(self) -> None:
        """Close the file. If this is the last process to close it, SQLite removes its log.

        When two close it at the same moment, SQLite takes neither for the last one: try again.
        """
        self._connection.close()
        for _ in range(_CLOSES):
            if not Path(f"{self.file}-wal").exists():
                return
            self.sleep(random.uniform(0, 0.05))  # noqa: S311 - no secret
            with contextlib.suppress(sqlite3.Error), closing(open_existing(self.file, 0)) as again:
                check_version(again)  # it reads, so the file is open

    def write(self, batch: Sequence[Row]) -> None:
        """Write these rows and add them to the sums, or do nothing and raise sqlite3.Error."""
        today = max(row.time for row in batch) // DAY
        written = False
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                self._write(batch, today)
            written = True
        finally:
            if not written:  # the ids of a transaction that was rolled back
                self._forget_ids()

    def _write(self, batch: Sequence[Row], today: int) -> None:
        execute = self._connection.execute
        cleared = execute("SELECT times FROM cleared").fetchone()[0]
        if (today, cleared) != (self._ids_day, self._ids_cleared) or len(self._ids) > _MAX_IDS:
            self._forget_ids()
            self._ids_day, self._ids_cleared = today, cleared
        ids = self._ids
        texts = set(_OUTCOMES).union(*map(names_of, batch))
        for text in texts.difference(ids):
            self._add_name(text)
        before = execute("SELECT coalesce(max(rowid), 0) FROM attempt").fetchone()[0]
        for n in range(0, len(batch), _INSERTED):
            part = batch[n : n + _INSERTED]
            values = [value for row in part for value in self._values(row)]
            execute(f"INSERT INTO attempt VALUES {', '.join([_ATTEMPT] * len(part))}", values)
        execute(_ADD_DAYS, {"before": before, **{name: ids[name] for name in _OUTCOMES}})

    def _values(self, row: Row) -> tuple[Any, ...]:
        """A row with ids in place of its texts."""
        ids = self._ids
        return (*row[:_START], *[ids[text] for text in names_of(row)], *row[_END:])

    def _add_name(self, text: str) -> None:
        self._connection.execute(_ADD_NAME, (text, self._ids_day))
        query = self._connection.execute("SELECT id FROM name WHERE text = ?", (text,))
        self._ids[text] = query.fetchone()[0]

    def _forget_ids(self) -> None:
        self._ids = {"": 0}

    def prune(self, oldest_time: int, oldest_day: int, max_bytes: int) -> bool:
        """Delete at most about STEP rows of each table; return whether there may be more to delete.

        Attempts sent before `oldest_time` (milliseconds) and sums before `oldest_day` go; then the
        oldest attempts and, without attempts, the oldest sums, until the file is within
        `max_bytes`. Texts go with the last row that may refer to them, at the end of its day.
        """
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:
            deleted = self._delete_attempts(oldest_time) + self._delete_days(oldest_day)
            if not deleted and self.used_bytes() > max_bytes:
                newest = (1 << 62) // DAY
                deleted = self._delete_attempts(newest * DAY) or self._delete_days(newest)
                deleted = deleted or self._clear_names()
            if deleted:
                deleted += self._delete_names()
        if deleted:
            # A script: `execute` would run one step of it, which frees one page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({_FREED_PAGES})")
        return bool(deleted)

    def newest_time(self) -> float | None:
        """Return when the newest attempt was sent, in seconds of Unix time; None without one."""
        query = "SELECT time FROM attempt ORDER BY rowid DESC LIMIT 1"
        row = self._connection.execute(query).fetchone()
        return None if row is None else row[0] / 1000

    def used_bytes(self) -> int:
        """The bytes of the file that have contents."""
        pages, free, size = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _delete_attempts(self, oldest_time: int) -> int:
        oldest = "SELECT rowid, time FROM attempt ORDER BY rowid LIMIT ?"
        return self._connection.execute(
            f"DELETE FROM attempt WHERE rowid IN (SELECT rowid FROM ({oldest}) WHERE time < ?)",
            (STEP, oldest_time),
        ).rowcount

    def _delete_days(self, oldest_day: int) -> int:
        """Delete sums of the oldest day, if it is before `oldest_day`: those of some sessions."""
        sessions = "SELECT DISTINCT session FROM day WHERE day = :day LIMIT :step"
        first = self._connection.execute("SELECT min(day) FROM day").fetchone()[0]
        if first is None or first >= oldest_day:
            return 0
        return self._connection.execute(
            f"DELETE FROM day WHERE day = :day AND session IN ({sessions})",
            {"day": first, "step": STEP},
        ).rowcount

    def _clear_names(self) -> int:
        """Delete all texts, when there is no row that may refer to them."""
        self._connection.execute("UPDATE cleared SET times = times + 1")
        return self._connection.execute("DELETE FROM name").rowcount

    def _delete_names(self) -> int:
        """Delete texts that were last written before the oldest row that is left."""
        first_day = self._connection.execute("SELECT min(day) FROM day").fetchone()[0]
        attempt = self._connection.execute(
            "SELECT min(time) FROM (SELECT time FROM attempt ORDER BY rowid LIMIT ?)", (STEP,)
        ).fetchone()[0]
        days = [] if first_day is None else [first_day]
        days += [] if attempt is None else [attempt // DAY - 1]  # a call may last beyond midnight
        unused = "SELECT id FROM name WHERE day < ? LIMIT ?"
        return self._connection.execute(
            f"DELETE FROM name WHERE id IN ({unused})", (min(days, default=0), STEP)
        ).rowcount
