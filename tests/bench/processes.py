"""The processes that are measured, and what the operating system says of them.

Where there are two cores, what is measured has the first for itself; the fake backend and the
load, which is made in this process, share the second.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import psutil
from attrs import define, field, frozen

from tests.bench.proxy_config import ROOT


def proxy_of(python: str = sys.executable) -> str:
    """The `llm-proxy` of an interpreter's environment."""
    return str(Path(python).parent / "llm-proxy")


#: Seconds a process is given to begin or to end.
_LIMIT = 30.0


def cores() -> list[int]:
    """The cores this process may use; fewer than two where that cannot be found out or chosen."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))


@frozen
class Cores:
    """Which core is for what is measured, and which for the rest; None: any."""

    measured: int | None = None
    rest: int | None = None

    @classmethod
    def of(cls, allowed: Sequence[int]) -> Cores:
        """The first two of those that are allowed, if there are two."""
        return cls(allowed[0], allowed[1]) if len(allowed) > 1 else cls()


@contextlib.contextmanager
def on(core: int | None) -> Iterator[None]:
    """Be on one core, and give it to the processes that are started meanwhile."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@define(eq=False)
class Target:
    """Something that is measured. `process` is None where it is not known."""

    name: str
    url: str
    process: psutil.Process | None
    answered: int = 0
    at_rest: float | None = None
    """Bytes it holds when it has answered once."""
    _family: list[psutil.Process] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self._look_for_children()

    def cpu(self) -> float | None:
        """Seconds of CPU that it and its children have used."""
        if self.process is None:
            return None
        used = [each.cpu_times() for each in self._family]
        return float(sum(times.user + times.system for times in used))

    def memory(self) -> float | None:
        """Bytes of memory that it and its children hold."""
        if self.process is None:
            return None
        return float(sum(each.memory_info().rss for each in self._family))

    def pin(self, core: int) -> None:
        """Move it and its children to one core."""
        for each in self._family:
            for thread in each.threads():
                os.sched_setaffinity(thread.id, {core})

    def rest(self) -> None:
        """Wait until it has dealt with what came before: it may be busy with clients that left."""
        self._look_for_children()
        for _ in range(50):
            before = self.cpu()
            time.sleep(0.1)
            if before is None or (self.cpu() or 0) - before < 0.02:
                return

    def _look_for_children(self) -> None:
        # Once before each load: it takes milliseconds, which deltas would be late by.
        if self.process is not None:
            self._family = [self.process, *self.process.children(recursive=True)]


def peer(name: str, url: str) -> Target:
    """A proxy that runs already; its process is found by the port, if it may be looked for."""
    port = urlsplit(url).port
    found = None
    with contextlib.suppress(psutil.AccessDenied):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                found = connection.pid
    return Target(name, url, psutil.Process(found) if found else None)


@contextlib.contextmanager
def started(
    name: str,
    command: Sequence[str],
    port: int,
    core: int | None,
    environ: Mapping[str, str],
    log: IO[str] | None = None,
) -> Iterator[Target]:
    """A process of ours that listens on `port` when this begins, and has ended when this ends.

    `log` gets its standard error.
    """
    if _listens(port):
        raise SystemExit(f"another program listens on port {port}")
    quiet = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    with on(core):
        process = subprocess.Popen(
            command,
            env={**quiet, **environ},
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=log or subprocess.DEVNULL,  # what a log line costs to make is in the figures
        )
    try:
        _wait_for(port, process)
        yield Target(name, f"http://127.0.0.1:{port}", psutil.Process(process.pid))
    finally:
        process.terminate()
        try:
            process.wait(_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _LIMIT
    while not _listens(port):
        if time.monotonic() > end or process.poll() is not None:
            raise SystemExit(f"{process.args!r} does not listen on port {port}")
        time.sleep(0.002)


def _listens(port: int) -> bool:
    """Whether something does."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def free_port() -> int:
    """A port nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return int(bound.getsockname()[1])


def proxy_command(config: Path, port: int, python: str = sys.executable) -> list[str]:
    """`llm-proxy serve`, as a person starts it."""
    return [proxy_of(python), "serve", "--config", str(config), "--port", str(port)]
