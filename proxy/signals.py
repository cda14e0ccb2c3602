"""What signals do: end the proxy, at once the second time; SIGHUP, when its terminal is gone."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from types import FrameType
from typing import Any

log = logging.getLogger("llm_proxy")

_ENDING = (signal.SIGINT, signal.SIGTERM)


def end_at_once_on_a_second_signal(worker: bool) -> None:
    """Let a second signal that asks for the end do so at once; the first lets requests finish.

    Not by the default action: process 1 of a container has none. A worker leaves Ctrl-C to its
    supervisor, who tells it. SIGHUP does no harm from here on; what it does comes later.
    """

    def first(number: int, frame: FrameType | None) -> None:
        for each in _ENDING:
            signal.signal(each, lambda number, _: os._exit(128 + number))
        before[number](number, frame)

    before: dict[int, Any] = {each: signal.signal(each, first) for each in _ENDING}
    if worker:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # blocked by a supervisor


def end_with_supervisor() -> None:
    """Let this worker finish its requests and end when the process that started it dies.

    Otherwise workers of a supervisor that was killed would keep the port.
    """
    if supervisor := multiprocessing.parent_process():
        threading.Thread(target=_end_after, args=(supervisor,), daemon=True).start()


def _end_after(supervisor: Any) -> None:
    supervisor.join()  # it waits for a pipe whose other end only the supervisor has
    log.warning("the supervisor is gone: this worker ends")
    os.kill(os.getpid(), signal.SIGTERM)


def has_terminal() -> bool:
    """Whether there is a terminal that this process belongs to."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
