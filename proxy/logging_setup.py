"""The log: one line to stderr for whatever happens, and no wait for who reads it."""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
import time
import traceback

from proxy.access_log import JsonFormatter

#: Bytes that wait for a reader at most; further lines are dropped.
_MAX_PENDING = 1024 * 1024
#: Seconds that the end of the process waits for a reader.
_LAST_FLUSH = 1.0


def set_up() -> logging.Handler:
    """Let the log go to stderr, from INFO on.

    The proxy's own from DEBUG on, if LLM_PROXY_LOG says so: there are texts of requests in it.

    Each request has a line. What no line shows is not asked for, as the logging HOWTO has it under
    "Optimization": half of what a line costs.
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.logAsyncioTasks = False  # type: ignore[attr-defined]  # since Python 3.12
    logging._srcfile = None  # where it was called from
    handler = NonBlockingHandler(sys.stderr.fileno())
    json_lines = os.environ.get("LLM_PROXY_LOG_FORMAT", "").lower() == "json"
    handler.setFormatter(JsonFormatter() if json_lines else _Formatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if os.environ.get("LLM_PROXY_LOG", "").lower() == "debug":
        logging.getLogger("llm_proxy").setLevel(logging.DEBUG)
    return handler


class NonBlockingHandler(logging.Handler):
    """Writes lines to a pipe, terminal or file, and does not wait for who reads it.

    the reader                a line
    -----------------------   ------------------------------------------------------------------
    reads all                 is written when it is logged, so that nothing is lost in a crash
    is slow, or has stopped   is pending: a thread writes it as soon as it is read
    the same for longer       is dropped when `max_pending` bytes are pending; after these, a line
                              counts what was dropped

    A thread for all lines (`logging.handlers.QueueListener`) would cost twice the time for each,
    and a crash would lose the last ones.
    """

    def __init__(self, file: int, max_pending: int = _MAX_PENDING) -> None:
        super().__init__()
        self._file = file
        self._max_pending = max_pending
        self._poll = select.poll()
        self._poll.register(file, select.POLLOUT)
        # Guarded by a lock of its own: `logging.shutdown` has the handler's when it calls `flush`.
        self._guard = threading.Lock()
        self._pending = bytearray()
        self._dropped = 0
        self._writer: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or keep it for later, or drop it."""
        try:
            line = self.format(record)
        except (TypeError, ValueError):  # arguments that do not fit the format
            self.handleError(record)
            return
        data = f"{line}\n".encode(errors="backslashreplace")
        with self._guard:
            if self._writer is None:
                data = self._write_ready(data)
            if len(self._pending) + len(data) > self._max_pending:
                self._dropped += 1
            elif data:
                self._pending += data
                self._start_writer()

    def flush(self) -> None:
        """Wait until pending lines are written, but not longer than `_LAST_FLUSH`."""
        if writer := self._writer:
            writer.join(_LAST_FLUSH)

    def _write_ready(self, data: bytes) -> bytes:
        """Write what the reader takes at once; the rest."""
        try:
            while data and self._poll.poll(0):  # then it takes PIPE_BUF bytes
                data = data[os.write(self._file, data[: select.PIPE_BUF]) :]
        except OSError:  # nobody will read it any more
            self._dropped += 1
            return b""
        return data

    def _start_writer(self) -> None:
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_pending, daemon=True)
            self._writer.start()

    def _write_pending(self) -> None:
        while data := self._take_pending():
            try:
                while data:
                    data = data[os.write(self._file, data) :]
            except OSError:
                self._dropped += 1

    def _take_pending(self) -> memoryview | None:
        """What is to be written next; None if that is nothing, which ends the thread."""
        with self._guard:
            data, self._pending = self._pending, bytearray()
            if self._dropped and data:
                words = f"{self._dropped} lines of the log were dropped: nobody read them"
                record = logging.LogRecord("llm_proxy", logging.WARNING, "", 0, words, None, None)
                data += f"{self.format(record)}\n".encode()
                self._dropped = 0
            if not data:
                self._writer = None
            return memoryview(data) if data else None


def traceback_without_messages(error: BaseException) -> str:
    """The traceback of an exception, and of those behind it, without what they say.

    Exceptions of Python and of libraries quote values: a missing key, what cannot be parsed. In
    the proxy it would be somebody's prompt. At DEBUG the log has all of it.
    """
    lines = traceback.format_tb(error.__traceback__)
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    text = "".join(lines) + f"{kind} (LLM_PROXY_LOG=debug shows its text)"
    if isinstance(error, BaseExceptionGroup):
        text = "\n".join(
            [text, *("in it:\n" + traceback_without_messages(each) for each in error.exceptions)]
        )
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{traceback_without_messages(before)}\nand then:\n{text}" if before else text


class _Formatter(logging.Formatter):
    """Spells the time out once a second."""

    _second = -1
    _spelt = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """The local time, with milliseconds."""
        second = int(record.created)
        if second != self._second:
            self._spelt = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
            self._second = second
        return f"{self._spelt},{int(record.msecs):03d}"
