"""Writes exchanges in a thread of its own: the event loop never waits for a disk.

Each process writes its own files: a line may be too long to be appended in one step. The name of a
file is `exchanges-TIME-PROCESS-NUMBER.jsonl`, so the names are in the order of time. Before a line
is written, the oldest files of the folder are deleted, until the line is within `max_bytes`.

If a line cannot be written, it is lost, and so is a line that does not fit into the queue. The log
reports the first of them, and when lines are written again, how many were lost.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from attrs import define, field

from stages.recording.lines import Line

log = logging.getLogger("llm_proxy")

PATTERN = "exchanges-*.jsonl"
#: In the log lines about lost exchanges. `llm-proxy run` looks for it.
LOST = "exchanges are not recorded in"
#: A file is at most this part of the folder's limit, so that little is deleted at a time.
_FILES = 8
_MAX_QUEUED_BYTES = 64 * 1024 * 1024
#: Seconds between two log lines about failures.
_LOG_INTERVAL = 600.0
#: Seconds that the end of the process waits for the last lines.
_CLOSE_TIMEOUT = 3.0


@define(eq=False)
class Writer:
    """One writer for one folder. `add` and `close` belong to the event loop's thread.

    The thread starts with the first line. `max_bytes` is the size of all files in the folder.
    """

    folder: Path
    max_bytes: int
    redact: bool = True
    max_queued_bytes: int = _MAX_QUEUED_BYTES
    lost: int = field(default=0, init=False)
    """Lines that were not written since the log reported it."""
    _queue: deque[tuple[Line, int]] = field(factory=deque, init=False)
    _queued_bytes: int = field(default=0, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _news: threading.Event = field(factory=threading.Event, init=False)
    _closing: bool = field(default=False, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _file: int | None = field(default=None, init=False)
    _path: Path = field(default=Path(), init=False)
    _written: int = field(default=0, init=False)
    """Bytes of the file."""
    _number: int = field(default=0, init=False)
    _logged: bool = field(default=False, init=False)
    _logged_at: float = field(default=-math.inf, init=False)

    def add(self, line: Line, size: int) -> None:
        """Queue a line of about `size` bytes, without waiting."""
        with self._lock:
            fits = self._queued_bytes + size <= self.max_queued_bytes
            if fits:
                self._queued_bytes += size
                self._queue.append((line, size))
        if not fits:
            self._lose("the disk is too slow: lines do not fit into the queue", "record less")
        self._news.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="record", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Write the queued lines and end the thread. Waits at most 3 seconds."""
        self._closing = True
        self._news.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_TIMEOUT)
        if self._queue:
            log.warning("%s %s: %d", LOST, self.folder, len(self._queue))

    def _run(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            while self._queue:
                line, size = self._queue.popleft()
                self._write(line)
                with self._lock:
                    self._queued_bytes -= size
            if self._closing and not self._queue:
                self._close_file()
                return

    def _write(self, line: Line) -> None:
        try:
            data = line.encoded(self.redact)
        except ValueError as error:
            return self._lose(f"a request is not valid JSON: {error}", "report this as a bug")
        if len(data) > self.max_bytes:
            hint = "set a larger `recordings: {max_bytes}`"
            return self._lose(f"an exchange has {len(data):,} bytes", hint)
        try:
            self._append(data)
        except OSError as error:
            self._close_file()
            hint = "free some space, or set `recordings: {folder}`"
            return self._lose(error.strerror or str(error), hint)
        self._log_recovery()

    def _append(self, data: bytes) -> None:
        full = self._written + len(data) > self.max_bytes // _FILES and self._written
        if self._file is not None and (full or not self._path.exists()):
            self._close_file()  # another process may have deleted it
        self._delete_oldest(self.max_bytes - len(data))
        file = self._open_file() if self._file is None else self._file
        try:
            _write_all(file, data)
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, self._written)  # no half line
                if not self._written:
                    self._path.unlink()
            raise
        self._written += len(data)

    def _open_file(self) -> int:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._number += 1
        now = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        self._path = self.folder / f"exchanges-{now}-{os.getpid()}-{self._number:06}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._file, self._written = os.open(self._path, flags, 0o600), 0
        return self._file

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _delete_oldest(self, max_bytes: int) -> None:
        """Delete files until those that stay have at most `max_bytes`."""
        sizes = {}
        for file in sorted(self.folder.glob(PATTERN)):
            with suppress(FileNotFoundError):  # another process may have deleted it
                sizes[file] = file.stat().st_size
        total = sum(sizes.values())
        for file, size in sizes.items():
            if total <= max_bytes:
                return
            if file == self._path:
                self._close_file()
            file.unlink(missing_ok=True)
            total -= size

    def _lose(self, reason: str, hint: str) -> None:
        with self._lock:
            self.lost += 1
        now = time.monotonic()
        if not self._logged and now - self._logged_at >= _LOG_INTERVAL:
            self._logged, self._logged_at = True, now
            log.warning("%s %s: %s; %s", LOST, self.folder, reason, hint)

    def _log_recovery(self) -> None:
        if self._logged:
            self._logged, lost = False, self.lost
            self.lost = 0
            log.warning("exchanges are recorded again in %s; %d were lost", self.folder, lost)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
