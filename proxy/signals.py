"""Process signals: a second SIGINT or SIGTERM exits at once; SIGHUP and the terminal."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any

log = logging.getLogger("llm_proxy")

#: States in /proc: stopped, traced, zombie, dead.
_STOPPED = ("T", "t", "Z", "X")
EXIT_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})
#: Seconds between two checks of the supervisor while a worker starts.
_CHECK_INTERVAL = 0.1
_started = threading.Event()
"""Whether this worker has called `end_with_supervisor`."""


class WorkerProcess(SpawnProcess):
    """A process like `process`, which ends at once if the supervisor dies while it starts.

    It imports its modules for a second, with the socket of the port open. It does so while it reads
    the state of its pickle. The arguments are read before, and start a thread that checks the
    supervisor. At the end the thread calls `on_orphaned`, which has to be picklable.
    """

    def __init__(self, process: SpawnProcess, on_orphaned: Callable[[], None]) -> None:
        self.__dict__.update(process.__dict__)
        self._on_orphaned = on_orphaned

    def __reduce__(self) -> tuple[Any, ...]:
        return _new_process, (_Watch(self._on_orphaned),), self.__dict__


class _Watch:
    """Starts the thread when it is unpickled."""

    def __init__(self, on_orphaned: Callable[[], None]) -> None:
        self.on_orphaned = on_orphaned

    def __reduce__(self) -> tuple[Any, ...]:
        return _watch_supervisor, (os.getpid(), self.on_orphaned)


def _watch_supervisor(pid: int, on_orphaned: Callable[[], None]) -> None:
    def watch() -> None:
        while not _started.wait(_CHECK_INTERVAL):
            if os.getppid() != pid:
                on_orphaned()
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _new_process(_: None) -> WorkerProcess:
    return WorkerProcess.__new__(WorkerProcess)


def end_at_once_on_a_second_signal(worker: bool) -> None:
    """Exit at once on a second SIGINT or SIGTERM; after the first, requests finish.

    The default action is not enough: process 1 of a container has none. A worker ignores Ctrl-C,
    and a second SIGTERM, which it gets if the first one was for the whole process group. Its
    supervisor has both, too, and ends it. SIGHUP is blocked until Reload handles it.
    """

    def first(number: int, frame: FrameType | None) -> None:
        for exit_signal in EXIT_SIGNALS:
            signal.signal(exit_signal, signal.SIG_IGN if worker else _exit)
        previous[number](number, frame)

    previous: dict[int, Any] = {s: signal.signal(s, first) for s in EXIT_SIGNALS}
    if worker:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def _exit(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)


def end_with_supervisor(seconds: float) -> None:
    """Shut this worker down when its supervisor dies; its requests finish, but in `seconds`.

    Otherwise the workers of a killed supervisor would keep the port. See also WorkerProcess.
    """
    _started.set()
    if supervisor := multiprocessing.parent_process():
        threading.Thread(target=_end_after, args=(supervisor, seconds), daemon=True).start()


def _end_after(supervisor: Any, seconds: float) -> None:
    supervisor.join()  # waits on a pipe whose other end only the supervisor has
    log.warning("supervisor has died: this worker shuts down")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(seconds)
    log.error("worker %d has not ended in %g s: it exits", os.getpid(), seconds)
    os._exit(1)


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


def block_hangup() -> None:
    """Block SIGHUP until Reload handles it. With a terminal, it still ends this process."""
    if not has_terminal():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def has_terminal() -> bool:
    """Whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
