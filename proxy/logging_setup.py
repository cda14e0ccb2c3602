"""The log on stderr: its format, and a handler that never waits for the reader."""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Mapping

from proxy.access_log import JsonFormatter
from stages.wire.printable import printable

#: Most bytes that wait for the reader; further lines are dropped.
_MAX_PENDING = 1024 * 1024
#: Seconds that the end of the process waits for the reader.
_FLUSH_TIMEOUT = 1.0


#: What the variables of the log may be, in lower case; the last value is not the default.
_VALUES = {"LLM_PROXY_LOG": ("info", "debug"), "LLM_PROXY_LOG_FORMAT": ("text", "json")}


def unknown_values(environ: Mapping[str, str]) -> list[str]:
    """Return a message for each variable of the log with a value that has no effect."""
    return [
        f"{name}={printable(value[:40])} has no effect: set it to `{values[-1]}`"
        for name, values in _VALUES.items()
        if (value := environ.get(name, "")) and value.lower() not in values
    ]


def set_up() -> logging.Handler:
    """Log to stderr from level INFO, and return the handler. LLM_PROXY_LOG_FORMAT=json: as JSON.

    With LLM_PROXY_LOG=debug the proxy's own loggers log from DEBUG. Debug lines contain texts of
    requests.

    Each request logs a line. Attributes of records that the format does not use are turned off
    (logging HOWTO, "Optimization"): they take half of a line's time.
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.logAsyncioTasks = False  # type: ignore[attr-defined]  # since Python 3.12
    logging._srcfile = None  # the caller's file and line
    handler = NonBlockingHandler(sys.stderr.fileno())
    json_lines = os.environ.get("LLM_PROXY_LOG_FORMAT", "").lower() == "json"
    handler.setFormatter(JsonFormatter() if json_lines else _Formatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if os.environ.get("LLM_PROXY_LOG", "").lower() == "debug":
        logging.getLogger("llm_proxy").setLevel(logging.DEBUG)
    return handler


class NonBlockingHandler(logging.Handler):
    """Writes lines to a pipe, terminal or file, and never waits for its reader.

    the reader                a line
    -----------------------   ------------------------------------------------------------------
    reads everything          is written when it is logged, so that a crash loses nothing
    is slow, or has stopped   is pending: a thread writes it as soon as the reader continues
    the same for longer       is dropped while `max_pending` bytes are pending; after these, one
                              line counts the dropped lines

    A thread for all lines (`logging.handlers.QueueListener`) would take twice the time per line,
    and a crash would lose the last lines.
    """

    def __init__(self, file: int, max_pending: int = _MAX_PENDING) -> None:
        super().__init__()
        self._file = file
        self._max_pending = max_pending
        self._poll = select.poll()
        self._poll.register(file, select.POLLOUT)
        # A separate lock: `logging.shutdown` holds the handler's when it calls `flush`.
        self._pending_lock = threading.Lock()
        self._pending = bytearray()
        self._dropped = 0
        self._writer: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, keep it for the thread, or drop it."""
        try:
            line = self.format(record)
        except (TypeError, ValueError):  # the arguments do not fit the format
            self.handleError(record)
            return
        data = f"{line}\n".encode(errors="backslashreplace")
        with self._pending_lock:
            if self._writer is None:
                data = self._write_ready(data)
            if len(self._pending) + len(data) > self._max_pending:
                self._dropped += 1
            elif data:
                self._pending += data
                self._start_writer()

    def flush(self) -> None:
        """Wait until pending lines are written, at most `_FLUSH_TIMEOUT` seconds."""
        if writer := self._writer:
            writer.join(_FLUSH_TIMEOUT)

    def _write_ready(self, data: bytes) -> bytes:
        """Write as much as the reader takes at once; return the remaining bytes."""
        try:
            while data and self._poll.poll(0):  # a ready pipe takes PIPE_BUF bytes
                data = data[os.write(self._file, data[: select.PIPE_BUF]) :]
        except OSError:  # the reader has closed the pipe
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
        """Return the next bytes to write, or None if there are none, which ends the thread."""
        with self._pending_lock:
            data, self._pending = self._pending, bytearray()
            if self._dropped and data:
                message = f"dropped {self._dropped} log lines: the log's reader is too slow"
                record = logging.LogRecord("llm_proxy", logging.WARNING, "", 0, message, None, None)
                data += f"{self.format(record)}\n".encode()
                self._dropped = 0
            if not data:
                self._writer = None
            return memoryview(data) if data else None


def traceback_without_messages(error: BaseException, shown: tuple[BaseException, ...] = ()) -> str:
    """Return the traceback of an exception and of its causes, without their messages.

    Exceptions of Python and of libraries quote values, such as a missing key or unparsable text:
    here these may be parts of a prompt. At DEBUG the log has the messages too. `shown` are left
    out: an error may be its own cause.
    """
    shown = (*shown, error)
    lines = traceback.format_tb(error.__traceback__)
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    text = "".join(lines) + f"{kind} (set LLM_PROXY_LOG=debug to see its message)"
    if isinstance(error, BaseExceptionGroup):
        parts = (traceback_without_messages(part, shown) for part in error.exceptions)
        text = "\n".join([text, *(f"contains:\n{part}" for part in parts)])
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is None or cause in shown:
        return text
    return f"{traceback_without_messages(cause, shown)}\nwhich led to:\n{text}"


class _Formatter(logging.Formatter):
    """Formats the time once per second."""

    _second = -1
    _formatted = ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. The base class needs eight more calls for it."""
        if record.exc_info or record.exc_text or record.stack_info:
            return super().format(record)
        return f"{self.formatTime(record)} {record.getMessage()}"

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Return the local time with milliseconds."""
        second = int(record.created)
        if second != self._second:
            self._formatted = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
            self._second = second
        return f"{self._formatted},{int(record.msecs):03d}"
