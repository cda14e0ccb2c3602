"""The supervisor with workers that are stopped, hang or are killed. Real processes and sockets."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import until
from tests.wire.command import CLEAN, LIMIT, NO_BACKENDS, command
from tests.wire.impatient import rest as read_all
from tests.wire.life import Clients, runs, until_refused
from tests.wire.life import clients as clients
from tests.wire.life import temporary as temporary
from tests.wire.test_workers import begin_slow, children, started_children, write_stages


def test_the_folder_of_killed_processes_is_removed_at_the_next_start(
    tmp_path: Path, temporary: Path
) -> None:
    file = tmp_path / "pipelines.yaml"
    file.write_text(NO_BACKENDS)
    parent = str(temporary)

    def sockets() -> set[Path]:
        return set(temporary.glob("*/sock"))

    with command(file, "--workers", "2", until="", TMPDIR=parent) as proxy:
        until(lambda: len(sockets()) == 1, "there is no folder")
        dead = sockets()
        os.killpg(proxy.process.pid, signal.SIGKILL)
        proxy.ends()
    assert sockets() == dead
    with (
        command(file, "--workers", "2", until="", TMPDIR=parent),
        command(file, "--workers", "2", until="", TMPDIR=parent),
    ):
        until(lambda: len(sockets() - dead) == 2, "there are no new folders")
        until(lambda: len(list(temporary.iterdir())) == 2, "the folder is still there")


def test_a_dead_worker_is_replaced_while_another_one_is_stopped(
    tmp_path: Path, clients: Clients
) -> None:
    """Then a SIGTERM to the process group, so to each worker twice, lets requests finish."""
    with command(write_stages(tmp_path), "--workers", "2", until="") as proxy:
        stopped, dead = started_children(proxy.process.pid)
        os.kill(stopped, signal.SIGSTOP)
        os.kill(dead, signal.SIGKILL)
        proxy.says(f"worker {dead} died (signal 9, Killed): the supervisor starts a new one")
        slow = begin_slow(clients, proxy.url)
        os.kill(stopped, signal.SIGCONT)
        os.killpg(proxy.process.pid, signal.SIGTERM)
        until_refused(proxy.url)
        until(lambda: len(children(proxy.process.pid)) == 1, "the idle worker does not end")
        (tmp_path / "go").touch()
        assert read_all(slow.socket).endswith(b"end\r\n0\r\n\r\n")
        assert proxy.ends() == 0


def test_workers_that_end_late_are_killed_and_named(
    tmp_path: Path, temporary: Path, clients: Clients
) -> None:
    """One hangs, and one is stopped."""
    file = write_stages(tmp_path)
    text = file.read_text().replace("server: {", "server: {drain_timeout: 0, ")
    file.write_text(text + "  hang: {route: GET /hang, stages: [hanging_stage:Hang]}\n")
    (tmp_path / "hanging_stage.py").write_text(HANGING)
    with command(file, "--workers", "2", until="", TMPDIR=str(temporary)) as proxy:
        workers = started_children(proxy.process.pid)
        clients.new(proxy.url).socket.sendall(b"GET /hang HTTP/1.1\r\nhost: x\r\n\r\n")
        until((tmp_path / "pid").exists, "no worker hangs")
        for pid in workers:
            if pid != int((tmp_path / "pid").read_text()):
                os.kill(pid, signal.SIGSTOP)
        proxy.send_signal(signal.SIGTERM)
        assert proxy.ends() == 0
        late = [line for line in proxy.log if "has not ended in 12 s: killed" in line]
        assert all(any(f"worker {pid} " in line for line in late) for pid in workers)
        assert len(late) == 2
    assert list(temporary.iterdir()) == []


def test_it_ends_with_status_1_if_no_worker_can_start(tmp_path: Path, temporary: Path) -> None:
    """One worker ends with an exception, and the other one with a status."""
    file = write_stages(tmp_path, IN_A_WORKER.format(DIFFERENT_ENDS))
    with command(file, "--workers", "2", until="", TMPDIR=str(temporary)) as proxy:
        lines = [
            proxy.says("): the supervisor starts a new one in 1 s"),
            proxy.says("): no worker can start, so the proxy stops"),
        ]
        assert proxy.ends() == 1
    causes = {line.partition("died (")[2].partition(")")[0] for line in lines}
    assert causes == {"exit status 1", "exit status 3"}
    assert list(temporary.iterdir()) == []


def test_workers_that_die_early_are_restarted_after_growing_delays(
    tmp_path: Path, clients: Clients
) -> None:
    """The first one serves meanwhile."""
    file = write_stages(tmp_path, IN_A_WORKER.format("(FOLDER / 'first').mkdir()"))
    with command(file, "--workers", "2", until="") as proxy:
        for delay in (1, 2):
            proxy.says(f"died (exit status 1): the supervisor starts a new one in {delay} s")
        (tmp_path / "pids").mkdir()
        assert clients.new(proxy.url).get("/mark").status == 200


def test_a_worker_starts_as_soon_as_the_supervisor_has_files_again(
    tmp_path: Path, clients: Clients
) -> None:
    """Until then the other one serves."""
    with command(write_stages(tmp_path), "--workers", "2", until="") as proxy:
        pid = proxy.process.pid
        dead, other = started_children(pid)
        (tmp_path / "pids").mkdir()
        assert clients.new(proxy.url).get("/mark").status == 200
        _, maximum = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, maximum))
        os.kill(dead, signal.SIGKILL)
        proxy.says("a worker cannot start: Too many open files; the next attempt is in 2 s")
        assert clients.new(proxy.url).get("/mark").status == 200
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (maximum, maximum))
        until(lambda: len(children(pid)) == 2, "there is no new worker")
        assert other in children(pid)
        proxy.send_signal(signal.SIGTERM)
        assert proxy.ends() == 0


@pytest.mark.parametrize("files", [36, 40, 48])
def test_it_ends_in_a_line_if_it_has_too_few_files(
    files: int, tmp_path: Path, temporary: Path
) -> None:
    """Some workers may have started, and end with it."""
    few = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"]
    file = write_stages(tmp_path)
    with command(file, "--workers", "8", by=few, until="", TMPDIR=str(temporary)) as proxy:
        proxy.says("Error: workers cannot start: [Errno 24] Too many open files")
        proxy.says("hint: raise the limits")
        assert proxy.ends() == 1
        until(lambda: not group_members(proxy.process.pid), "a worker lives on")
        assert not [line for line in proxy.log if "Traceback" in line]
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_serves_without_stdin_and_stderr(workers: str, tmp_path: Path, clients: Clients) -> None:
    (tmp_path / "pids").mkdir()
    closed = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh"]
    file = write_stages(tmp_path)
    with command(file, "--workers", workers, by=closed, until="") as proxy:
        assert clients.new(proxy.url).get("/mark").status == 200
        (marked,) = (tmp_path / "pids").iterdir()
        for pid in (proxy.process.pid, marked.name):
            for number in (0, 2):
                assert str(Path(f"/proc/{pid}/fd/{number}").readlink()) == os.devnull


def test_no_signal_but_those_of_an_end_changes_the_workers(tmp_path: Path) -> None:
    """A hangup at the start reloads. SIGTTIN and SIGTTOU do nothing. No worker gets a Ctrl-C."""
    with command(write_stages(tmp_path), "--workers", "2", until="") as proxy:
        proxy.send_signal(signal.SIGHUP)  # it has printed the greeting
        for _ in range(2):
            proxy.says(" reloaded")
        workers = started_children(proxy.process.pid)
        for pid in workers:
            status = Path(f"/proc/{pid}/status").read_text()
            blocked = int(status.partition("SigBlk:")[2].split()[0], 16)
            assert blocked & 1 << signal.SIGINT - 1
        for number in (signal.SIGTTIN, signal.SIGTTOU):
            proxy.send_signal(number)
            proxy.send_signal(signal.SIGHUP)
            for _ in workers:
                proxy.says(" reloaded")  # so the signal before it was handled
            assert children(proxy.process.pid) == workers


def test_two_signals_at_the_same_time_end_it_at_once(tmp_path: Path, clients: Clients) -> None:
    with command(write_stages(tmp_path), "--workers", "2", until="") as proxy:
        slow = begin_slow(clients, proxy.url)
        proxy.send_signal(signal.SIGINT)
        proxy.send_signal(signal.SIGTERM)
        assert proxy.ends() == 0
        assert not read_all(slow.socket).endswith(b"0\r\n\r\n")


def test_a_hangup_at_the_start_of_one_process_reloads(tmp_path: Path) -> None:
    file = tmp_path / "pipelines.yaml"
    file.write_text(NO_BACKENDS)
    with command(file, until="") as proxy:  # it has printed the greeting
        proxy.send_signal(signal.SIGHUP)
        proxy.says(" reloaded")


def check_end_of_worker(supervisor: subprocess.Popen[str]) -> None:
    """Kill a supervisor that has printed the process id of its worker. The worker ends, too."""
    assert supervisor.stdout
    worker = int(supervisor.stdout.readline())
    assert runs(worker)
    supervisor.kill()
    supervisor.wait(LIMIT)
    until(lambda: not runs(worker), "the worker lives on")


def test_a_worker_that_hangs_ends_after_its_supervisor() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN], env=CLEAN, stdout=subprocess.PIPE, text=True
    ) as supervisor:
        check_end_of_worker(supervisor)


def test_a_worker_that_starts_ends_with_its_supervisor(tmp_path: Path) -> None:
    (tmp_path / "slow_module.py").write_text(SLOW_IMPORT)
    (tmp_path / "supervisor.py").write_text(STARTS_A_WORKER)
    with subprocess.Popen(
        [sys.executable, "supervisor.py"],
        cwd=tmp_path,
        env=CLEAN,
        stdout=subprocess.PIPE,
        text=True,
    ) as supervisor:
        check_end_of_worker(supervisor)
    assert not (tmp_path / "folder").exists()


def group_members(group: int) -> list[int]:
    """The processes of a group, without zombies."""
    result = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                result.append(int(folder.name))
    return result


#: A module that a worker imports for a long time.
SLOW_IMPORT = """
import multiprocessing, os, time

def work(): ...

if multiprocessing.current_process().name != "MainProcess":
    print(os.getpid(), flush=True)
    time.sleep(1000)
"""
STARTS_A_WORKER = """
import functools, multiprocessing, os, time
from proxy.signals import WorkerProcess

if __name__ == "__main__":
    import slow_module

    os.mkdir("folder")
    process = multiprocessing.get_context("spawn").Process(target=slow_module.work)
    WorkerProcess(process, functools.partial(os.rmdir, "folder")).start()
    time.sleep(1000)
"""
#: Code in the module of a stage, for worker processes only.
IN_A_WORKER = """
import multiprocessing

if multiprocessing.parent_process():
    {}
"""
#: What one of two workers does, each time it imports the module; and what all others do.
DIFFERENT_ENDS = """
    try:
        (FOLDER / 'first').symlink_to(str(os.getpid()))
    except FileExistsError:
        if os.readlink(FOLDER / 'first') != str(os.getpid()):
            os._exit(3)
    raise OSError
"""
#: A stage that blocks the event loop. It writes its process id into a file.
HANGING = """
import os
import time
from pathlib import Path

from attrs import frozen

from pipeline import Send, Stage
from stages.events import HttpRequest, HttpResponse


@frozen
class Hang(Stage[HttpRequest, HttpResponse]):
    async def handle(self, event: HttpRequest, forward: Send[HttpResponse]) -> None:
        file = Path(__file__).with_name("new")
        file.write_text(str(os.getpid()))
        file.rename(file.with_name("pid"))
        time.sleep(1000)
"""
#: A process whose child does not end on a SIGTERM.
ORPHAN = """
import multiprocessing, os, signal, time
from proxy.signals import end_with_supervisor

def work():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with_supervisor(0.1)
    print(os.getpid(), flush=True)
    time.sleep(1000)

multiprocessing.get_context("fork").Process(target=work).start()
time.sleep(1000)
"""
