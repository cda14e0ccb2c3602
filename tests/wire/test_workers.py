"""Workers, signals and the terminal. Real processes, real sockets."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import termios
import threading
from pathlib import Path

import pytest

from tests import secrets
from tests.waiting import until
from tests.wire.client import Client, connect
from tests.wire.command import CLEAN, COMMAND, LIMIT, NO_BACKENDS, command, measured
from tests.wire.impatient import rest as read_all
from tests.wire.life import Clients, runs, until_refused
from tests.wire.life import clients as clients
from tests.wire.life import temporary as temporary


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_ends_with_its_terminal(workers: str, tmp_path: Path) -> None:
    ours, its = pty.openpty()
    file = tmp_path / "pipelines.yaml"
    file.write_text(NO_BACKENDS)
    at = ["--config", str(file), "--port", "0", "--workers", workers]
    with subprocess.Popen(
        [*COMMAND, *at],
        env=measured(),
        stdin=its,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        text=True,
    ) as process:
        os.close(its)
        assert process.stdout
        url = process.stdout.readline().split()[-1]
        client = Client(url)
        assert client.get("/health").status == 200
        client.close()
        os.close(ours)
        try:
            assert process.wait(LIMIT) in (0, -signal.SIGTERM)
        finally:
            process.kill()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_signal_ends_it_at_once(workers: str, tmp_path: Path, clients: Clients) -> None:
    file = write_stages(tmp_path)
    with command(file, "--workers", workers, until="", measure=True) as proxy:
        slow = begin_slow(clients, proxy.url)
        proxy.send_signal(signal.SIGTERM)
        until_refused(proxy.url)
        proxy.send_signal(signal.SIGTERM)
        proxy.ends()
        assert not read_all(slow.socket).endswith(b"0\r\n\r\n")


def test_workers_serve_and_are_replaced_and_end_together(tmp_path: Path, clients: Clients) -> None:
    file = write_stages(tmp_path)
    pids = tmp_path / "pids"
    pids.mkdir()

    def served(url: str) -> set[int]:
        """Send requests until two workers have responded. Return their process ids."""

        def both() -> bool:
            assert clients.new(url).get("/mark").status == 200
            return len(list(pids.iterdir())) == 2

        until(both, "only one worker responds", within=2 * LIMIT)
        return {int(file.name) for file in pids.iterdir()}

    with command(file, "--workers", "2", at_most=4 * LIMIT, until="", measure=True) as proxy:
        first = served(proxy.url)
        assert len(first - {proxy.process.pid}) == 2
        dead = min(first)
        os.kill(dead, signal.SIGSTOP)
        threading.Event().wait(1)  # the supervisor checks the health of each twice a second
        os.kill(dead, signal.SIGKILL)
        proxy.says(f"worker {dead} died")
        (pids / str(dead)).unlink()
        now = served(proxy.url)
        assert len(now - {proxy.process.pid}) == 2
        assert dead not in now

        slow = begin_slow(clients, proxy.url)
        proxy.send_signal(signal.SIGHUP)
        proxy.says(" reloaded")
        proxy.says(" reloaded")
        proxy.send_signal(signal.SIGTERM)
        until_refused(proxy.url)
        (tmp_path / "go").touch()
        assert read_all(slow.socket).endswith(b"end\r\n0\r\n\r\n")
        assert proxy.ends() == 0
        for pid in now:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


def test_row_a8_workers_survive_a_hangup_and_end_with_the_parent(
    tmp_path: Path, temporary: Path, clients: Clients
) -> None:
    """When it is killed they end as on SIGTERM."""
    at = ["--config", str(write_stages(tmp_path)), "--port", "0", "--workers", "2"]
    log = tmp_path / "log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*COMMAND, *at],
            env=CLEAN | {"TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdout
        url = process.stdout.readline().split()[-1]
        try:
            workers = started_children(process.pid)
            for pid in workers:
                os.kill(pid, signal.SIGHUP)
            slow = begin_slow(clients, url)
            assert children(process.pid) == workers
        finally:
            process.kill()
        until_refused(url)
        (tmp_path / "go").touch()
        assert read_all(slow.socket).endswith(b"end\r\n0\r\n\r\n")
        until_gone(workers)
    with pytest.raises(ConnectionError):
        connect(url)
    secrets.printed(log.read_text())
    assert "Traceback" not in log.read_text()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("replaced", [False, True], ids=["while starting", "after a replacement"])
def test_row_a8_workers_end_with_a_supervisor_that_is_killed(
    replaced: bool, tmp_path: Path, temporary: Path
) -> None:
    at = ["--config", str(write_stages(tmp_path)), "--port", "0", "--workers", "2"]
    with subprocess.Popen(
        [*COMMAND, *at],
        env=CLEAN | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        url = process.stdout.readline().split()[-1]
        try:
            workers = started_children(process.pid)
            if replaced:
                os.kill(workers[0], signal.SIGKILL)
                until(lambda: workers[0] not in started_children(process.pid), "none is new")
                workers = started_children(process.pid)
            process.kill()
            until_gone(workers)
            until_refused(url)
            assert list(temporary.iterdir()) == []
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """The workers of a supervisor."""
    workers = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if b"fork" in Path(f"/proc/{child}/cmdline").read_bytes():
                workers.append(int(child))
    return workers


def started_children(pid: int) -> list[int]:
    """The same, as soon as there are two."""
    until(lambda: len(children(pid)) >= 2, "there are no workers")
    return children(pid)


def until_gone(pids: list[int]) -> None:
    """Wait until none of these processes runs. Process 1 may be slow to reap them."""
    assert len(pids) == 2
    until(lambda: not any(map(runs, pids)), "workers live on")


def write_stages(folder: Path, code: str = "") -> Path:
    """Write a config with the stages below, and with `code` in their module. Return its file."""
    file = folder / "pipelines.yaml"
    file.write_text(NO_LANGCHAIN)
    (folder / "stages_of_test.py").write_text(STAGES + code)
    return file


def begin_slow(clients: Clients, url: str) -> Client:
    """Return a client whose response of `Slow` has begun."""
    slow = clients.new(url)
    slow.socket.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
    assert slow.socket.recv(15) == b"HTTP/1.1 200 OK"
    return slow


NO_LANGCHAIN = """
server: {allowed_hosts: [x]}
models: {}
pipelines:
  mark: {route: GET /mark, stages: [stages_of_test:Mark]}
  slow: {route: GET /slow, stages: [stages_of_test:Slow]}
"""
#: `Mark` touches a file with the id of its process. `Slow` ends when there is a file `go`.
STAGES = """
import os
from pathlib import Path

import anyio
from attrs import frozen

from pipeline import Send, Stage
from stages.events import HttpRequest, HttpResponse, ResponseBody, ResponseStart

FOLDER = Path(__file__).parent


@frozen
class Mark(Stage[HttpRequest, HttpResponse]):
    async def handle(self, event: HttpRequest, forward: Send[HttpResponse]) -> None:
        (FOLDER / "pids" / str(os.getpid())).touch()
        await forward(ResponseStart(200, {}))
        await forward(ResponseBody(b"marked"))


@frozen
class Slow(Stage[HttpRequest, HttpResponse]):
    async def handle(self, event: HttpRequest, forward: Send[HttpResponse]) -> None:
        await forward(ResponseStart(200, {}))
        await forward(ResponseBody(b"begin", more=True))
        while not (FOLDER / "go").exists():
            await anyio.sleep(0.01)
        await forward(ResponseBody(b"end"))
"""
