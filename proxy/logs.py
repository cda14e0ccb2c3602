"""The log: one line to stderr for whatever happens."""

from __future__ import annotations

import logging
import time


def set_up() -> None:
    """Let the log go to stderr, from INFO on.

    Each request has a line. What no line shows is not asked for, as the logging HOWTO has it under
    "Optimization": half of what a line costs.
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.logAsyncioTasks = False  # type: ignore[attr-defined]  # since Python 3.12
    logging._srcfile = None  # where it was called from
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


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
