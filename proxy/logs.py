"""The log: one line to stderr for whatever happens."""

from __future__ import annotations

import logging
import os
import time
import traceback


def set_up() -> None:
    """Let the log go to stderr, from INFO on.

    The proxy's own from DEBUG on, if LLM_PROXY_LOG says so: there are texts of requests in it.

    Each request has a line. What no line shows is not asked for, as the logging HOWTO has it under
    "Optimization": half of what a line costs.
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.logAsyncioTasks = False  # type: ignore[attr-defined]  # since Python 3.12
    logging._srcfile = None  # where it was called from
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if os.environ.get("LLM_PROXY_LOG", "").lower() == "debug":
        logging.getLogger("llm_proxy").setLevel(logging.DEBUG)


def without_texts(error: BaseException) -> str:
    """The traceback of an exception, and of those behind it, without what they say.

    Exceptions of Python and of libraries quote values: a missing key, what cannot be parsed. In
    the proxy it would be somebody's prompt. At DEBUG the log has all of it.
    """
    lines = traceback.format_tb(error.__traceback__)
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    text = "".join(lines) + f"{kind} (LLM_PROXY_LOG=debug shows its text)"
    if isinstance(error, BaseExceptionGroup):
        text = "\n".join([text, *("in it:\n" + without_texts(each) for each in error.exceptions)])
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{without_texts(before)}\nand then:\n{text}" if before else text


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
