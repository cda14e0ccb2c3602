"""`llm-proxy run`: a command in the foreground, and a proxy that only this command uses.

    this process       starts both others and waits; it has the terminal, and ignores its signals
    ├─ the command     in the same process group, so Ctrl-C, Ctrl-Z and `fg` reach it as usual
    └─ the proxy       a fork of this process in a session of its own, which no Ctrl-C reaches

The three end together:

    what ends           what follows
    -----------------   -----------------------------------------------------------------------
    the command         the proxy gets a SIGTERM; this process exits with the command's status
    the proxy           the command gets a SIGTERM; this process reports the log, and exits with 1
    this process        a SIGKILL can do this: the proxy sends a SIGHUP to the command, as a
                        terminal does, a SIGTERM, because `nohup` ignores SIGHUP, and a SIGCONT,
                        because it may be stopped; then the proxy ends

The key is random. It is in the memory of this process and of the proxy, and in the environment of
the command, and in no file.
"""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import socket
import sys
import tempfile
import termios
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import click
from attrs import define, evolve, frozen

from pipeline.chain import Chain
from pipeline.config.schema import Config, Pipeline
from proxy import session_status
from proxy.client_environment import Changes
from proxy.session_status import Sessions, with_session_status
from stages.authenticate import Authenticate
from stages.events import HttpRequest

HOST = "127.0.0.1"
#: Signals that are passed on to the command, unless the terminal has sent them to both.
_PASSED_ON = {
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGTSTP,
    signal.SIGUSR1,
    signal.SIGUSR2,
}
_WAITED_FOR = _PASSED_ON | {signal.SIGCHLD}
_BACKLOG = 2048
#: Seconds that the command and the proxy get to end.
_END_TIMEOUT = 5.0


def run(
    config: Config, command: Sequence[str], environment: Callable[[str, str], Changes], log: Path
) -> int | None:
    """Run `command` until it ends; return its exit status, or None if the proxy ended first.

    `environment` gives the changes of the environment for a URL and a key. The proxy logs to `log`.
    Raises ClickException if the command cannot be started.
    """
    key = secrets.token_urlsafe(32)
    # It listens before the proxy is ready, so the command's first requests wait.
    listener = socket.create_server((HOST, 0), backlog=_BACKLOG)
    changes = environment(f"http://{HOST}:{listener.getsockname()[1]}", key)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    try:
        child = _start(command, changes.apply(os.environ), previous)
        process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(config, key, listener, child, log, previous)
        )
        process.start()
        listener.close()
        with _Terminal.saved() as terminal:
            status = _Supervisor(child, process).wait()
            terminal.restore = status is None or status < 0
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    return status if status is None or status >= 0 else 128 - status


def with_key(config: Config, key: str) -> Config:
    """Give the config with `key` as the only key of each `authenticate`."""

    def changed(pipeline: Pipeline) -> Pipeline:
        stages = tuple(
            evolve(stage, keys=(key,), named=None) if isinstance(stage, Authenticate) else stage
            for stage in pipeline.stages
        )
        return evolve(pipeline, stages=stages, chain=Chain.of(stages, HttpRequest))

    return evolve(config, pipelines=tuple(map(changed, config.pipelines)))


def create_log(path: Path | None) -> Path:
    """Create the log at `path`, or as a temporary file, so that only this user can read it.

    A file that exists is kept. Raises ClickException.
    """
    try:
        if path is None:
            descriptor, name = tempfile.mkstemp(prefix="llm-proxy-run-", suffix=".log")
        else:
            name = str(path)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        place = path or "a temporary file"
        raise click.ClickException(
            f"the log cannot be written to {place}: {error.strerror}\n"
            "  hint: choose a file in a folder that exists with `--log PATH`"
        ) from error
    os.close(descriptor)
    return Path(name)


def _start(command: Sequence[str], environ: dict[str, str], mask: Any) -> int:
    """Start the command with the terminal and the signals of this process; return its id."""
    try:
        return os.posix_spawnp(command[0], list(command), environ, setsigmask=mask)
    except OSError as error:
        hint = "check the name; `llm-proxy run --print` shows what would run"
        raise click.ClickException(
            f"{command[0]} cannot be started: {error.strerror}\n  hint: {hint}"
        ) from error


def _serve(
    config: Config, key: str, listener: socket.socket, child: int, log: Path, mask: Any
) -> None:
    """Serve in the forked process, until a SIGTERM or the end of the first process."""
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    with suppress(OSError):  # the command has ended, and so will this process
        _end_with_parent(os.pidfd_open(child))
    from proxy.serve import serve_in_background  # it takes 0.4 s; the command does not wait for it

    sessions = Sessions()  # reloads keep them
    serve_in_background(
        config,
        listener,
        lambda loaded: with_session_status(with_key(loaded, key), sessions, key),
        unlogged_path=session_status.PATH,
    )


def _end_with_parent(child: int) -> None:
    """End this process and the command when the first process dies. `child` is a pidfd."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        with suppress(ProcessLookupError):
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGCONT):
                signal.pidfd_send_signal(child, number)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


@frozen
class _Supervisor:
    """Waits for the command `child` and the proxy, and passes signals on."""

    child: int
    proxy: BaseProcess

    def wait(self) -> int | None:
        """Return the command's exit status, negative for a signal; None if the proxy ended."""
        while True:
            info = signal.sigwaitinfo(_WAITED_FOR)
            if info.si_signo != signal.SIGCHLD:
                if info.si_code <= 0:  # from a process, not from the terminal
                    self._send(info.si_signo)
                continue
            status = self._child_status()
            if status is not None:
                self._end_proxy()
                return status
            if not self.proxy.is_alive():
                self._end_child()
                return None

    def _child_status(self) -> int | None:
        """Return the exit status; None, while the command runs. Stop and continue with it."""
        pid, status = os.waitpid(self.child, os.WNOHANG | os.WUNTRACED)
        if not pid:
            return None
        if not os.WIFSTOPPED(status):
            return os.waitstatus_to_exitcode(status)
        os.kill(os.getpid(), signal.SIGSTOP)  # the shell notices, and takes the terminal
        self._send(signal.SIGCONT)
        return None

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.child, number)

    def _end_proxy(self) -> None:
        self.proxy.terminate()
        self.proxy.join(_END_TIMEOUT)
        self.proxy.kill()
        self.proxy.join()

    def _end_child(self) -> None:
        self._send(signal.SIGTERM)
        self._send(signal.SIGCONT)
        while signal.sigtimedwait({signal.SIGCHLD}, _END_TIMEOUT):
            if os.waitpid(self.child, os.WNOHANG)[0]:
                return
        self._send(signal.SIGKILL)
        os.waitpid(self.child, 0)


@define
class _Terminal:
    """The modes of the terminal, to restore after a command that could not."""

    modes: list[Any] | None
    restore: bool = False

    @classmethod
    def saved(cls) -> _Terminal:
        """Save the modes, if there is a terminal."""
        try:
            return cls(termios.tcgetattr(sys.__stdin__.fileno() if sys.__stdin__ else -1))
        except (termios.error, ValueError):
            return cls(None)

    def __enter__(self) -> _Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.restore and self.modes is not None and sys.__stdin__:
            with suppress(termios.error):
                termios.tcsetattr(sys.__stdin__.fileno(), termios.TCSADRAIN, self.modes)
