"""Process signals: a second SIGINT or SIGTERM exits at once; SIGHUP and the terminal."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

log = logging.getLogger("llm_proxy")

#: States in /proc: stopped, traced, zombie, dead.
_STOPPED = ("T", "t", "Z", "X")
_EXIT_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def end_at_once_on_a_second_signal(worker: bool) -> None:
    """Exit at once on a second SIGINT or SIGTERM; after the first, requests finish.

    The default action is not enough: process 1 of a container has none. A worker ignores Ctrl-C,
    because its supervisor passes it on. SIGHUP is ignored until Reload installs its handler.
    """

    def first(number: int, frame: FrameType | None) -> None:
        for exit_signal in _EXIT_SIGNALS:
            signal.signal(exit_signal, lambda number, _: os._exit(128 + number))
        previous[number](number, frame)

    previous: dict[int, Any] = {s: signal.signal(s, first) for s in _EXIT_SIGNALS}
    if worker:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # a supervisor blocks it


def end_with_supervisor() -> None:
    """Shut this worker down when its supervisor dies; its requests finish.

    Otherwise the workers of a killed supervisor would keep the port.
    """
    if supervisor := multiprocessing.parent_process():
        threading.Thread(target=_end_after, args=(supervisor,), daemon=True).start()


def _end_after(supervisor: Any) -> None:
    supervisor.join()  # waits on a pipe whose other end only the supervisor has
    log.warning("supervisor has died: this worker shuts down")
    os.kill(os.getpid(), signal.SIGTERM)


def supervisor_is_dead() -> bool:
    """Whether this process is a worker whose supervisor has died."""
    supervisor = multiprocessing.parent_process()
    return supervisor is not None and not supervisor.is_alive()


def supervisor_is_stopped() -> bool:
    """Whether the supervisor is stopped or dead. Without /proc only whether it is dead."""
    supervisor = multiprocessing.parent_process()
    try:
        stat = Path(f"/proc/{supervisor.pid if supervisor else os.getppid()}/stat").read_text()
    except OSError:
        return supervisor_is_dead()
    return stat.rpartition(")")[2].split()[0] in _STOPPED


def has_terminal() -> bool:
    """Whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
