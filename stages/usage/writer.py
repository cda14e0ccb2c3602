"""Writes rows to the database in its own thread: the event loop never waits for a disk.

    state     a batch is           next
    -------   ------------------   -----------------------------------------------------------
    working   written              working; failing if SQLite or the system refuses: one log line
    failing   kept, and retried    working, when all is written: one log line

A disk that is full again and again is logged every ten minutes at most.

Rows wait in memory, at most `max_queued`; further rows are dropped and counted.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path

from attrs import define, field

from stages.usage.database import Database
from stages.usage.retention_clock import RetentionClock
from stages.usage.rows import DAY, Row

log = logging.getLogger("llm_proxy")

#: In the log line about rows that the end of the process lost. `llm-proxy run` looks for it.
LOST = "attempts are not in the usage record"
#: Seconds between two batches. A process that is killed loses the rows of this time.
FLUSH_INTERVAL = 0.5
#: Seconds between two attempts to write, while the writer is failing.
_RETRY_INTERVAL = 2.0
#: Seconds between two searches for old rows.
_PRUNE_INTERVAL = 60.0
#: Seconds between two log lines about failures.
_LOG_INTERVAL = 600.0
_MAX_BATCH = 1000
#: Seconds that the end of the process waits for the last batch.
_CLOSE_TIMEOUT = 3.0


@define(eq=False)
class Writer:
    """One writer for one file. `add` and `close` belong to the event loop's thread.

    The thread starts with the first row. `max_bytes` is about the size of the file on disk.
    """

    file: Path
    attempt_days: int
    sum_days: int
    max_bytes: int
    max_queued: int = 20_000
    flush_interval: float = FLUSH_INTERVAL
    retry_interval: float = _RETRY_INTERVAL
    busy_timeout: float = 1.0
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    dropped: int = field(default=0, init=False)
    """Rows that were not written, because the queue was full."""
    _queue: deque[Row] = field(factory=deque, init=False)
    _news: threading.Event = field(factory=threading.Event, init=False)
    _closing: threading.Event = field(factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _database: Database | None = field(default=None, init=False)
    _failing: bool = field(default=False, init=False)
    _logged: bool = field(default=False, init=False)
    """Whether the failure was logged."""
    _logged_at: float = field(default=-math.inf, init=False)
    _reported_drops: int = field(default=0, init=False)
    _pruned: float = field(default=0.0, init=False)
    _retention_clock: RetentionClock = field(factory=RetentionClock, init=False)
    _newest: float | None = field(default=None, init=False)
    """Unix time of the newest row when the file was opened."""

    def add(self, rows: Iterable[Row]) -> None:
        """Queue rows, without waiting."""
        for row in rows:
            if len(self._queue) < self.max_queued:
                self._queue.append(row)
            else:
                self.dropped += 1
        if self._queue and not self._news.is_set():
            self._news.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Write the queued rows and end the thread. Waits at most 3 seconds."""
        self._closing.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_TIMEOUT)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._news.wait()
            self._closing.wait(self.retry_interval if self._failing else self.flush_interval)
            self._news.clear()
            if self._flush():
                self._prune()
            else:
                self._news.set()
        if not self._flush():
            log.warning("%s: %d", LOST, len(self._queue))
        self._close_database()

    def _flush(self) -> bool:
        """Write all queued rows; return whether none is left."""
        while self._queue:
            batch = list(islice(self._queue, _MAX_BATCH))
            if not self._attempt(partial(_write, batch)):
                return False
            for _ in batch:
                self._queue.popleft()
        self._log_recovery()
        return True

    def _prune(self) -> None:
        now = self.clock()
        if 0 <= now - self._pruned < _PRUNE_INTERVAL:
            return
        self._pruned = now
        today = int(now * 1000) // DAY
        trusted = self._retention_clock.trusts(now, self.monotonic(), self._newest)
        limits = (
            int(now * 1000) - self.attempt_days * DAY if trusted else 0,
            today - self.sum_days if trusted else 0,
            self.max_bytes * 9 // 10 - self.max_bytes // 50,  # the rest is for the write-ahead log
        )
        more = [True]
        while more[0] and not self._closing.is_set():
            more[0] = False

            def step(database: Database) -> None:
                more[0] = database.prune(*limits)

            if not (self._attempt(step) and self._flush()):
                return

    def _attempt(self, work: Callable[[Database], None]) -> bool:
        """Do `work` with the open database; return whether that succeeded."""
        try:
            if self._database is not None and self._database.moved():
                self._close_database()
            if self._database is None:
                self._database = Database(self.file, self.busy_timeout)
                self._newest = self._database.newest_time()
            work(self._database)
        except (sqlite3.Error, OSError) as error:
            self._close_database()  # the file may be replaced
            self._log_failure(error)
            return False
        return True

    def _log_failure(self, error: Exception) -> None:
        now = self.monotonic()
        if not self._logged and now - self._logged_at >= _LOG_INTERVAL:
            self._logged, self._logged_at = True, now
            reason = getattr(error, "strerror", None) or error  # not the name of the file again
            log.warning("usage is not recorded: %s: %s; %s", self.file, reason, _hint(error))
        self._failing = True

    def _log_recovery(self) -> None:
        self._failing = False
        if self._logged:
            self._logged = False
            lost, self._reported_drops = self.dropped - self._reported_drops, self.dropped
            log.warning("usage is recorded again in %s; %d attempts were lost", self.file, lost)

    def _close_database(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _write(batch: list[Row], database: Database) -> None:
    database.write(batch)


def _hint(error: Exception) -> str:
    """The next action after an error."""
    text = str(error)
    if "locked" in text:
        return "another program has locked it; requests go on, and the rows wait in memory"
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return "move the file away, or set `usage: {file}` to another one"
    if "full" in text or "I/O" in text:
        return "free some space on its disk"
    return "let the proxy write to its folder, or set `usage: {file}` to another one"
