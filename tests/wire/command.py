"""The installed command with a scripted backend, and its log."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import define, field, frozen

from tests import secrets

#: Nothing the command is waited for takes so long, in seconds, unless it hangs.
LIMIT = 30.0

COMMAND = [str(Path(sys.executable).with_name("llm-proxy")), "serve"]
#: The environment without variables that change how the proxy starts. Without coverage too: it
#: doubles the CPU time of a start, and a process that is killed writes no data.
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("PROXY_", "LLM_PROXY_", "DATABRICKS_", "COVERAGE_"))
}


def measured() -> dict[str, str]:
    """Return the same environment with coverage: for a command that is cheap and ends cleanly."""
    return CLEAN | {name: v for name, v in os.environ.items() if name.startswith("COVERAGE_")}


#: Serves `/v1/models`, `/health` and nothing else: without a backend it does not import LangChain.
NO_BACKENDS = """
models: {}
pipelines:
  models: {route: GET /v1/models, stages: [authenticate: {keys: [client-key]}, list-models]}
"""


@define(eq=False)
class Command:
    """`llm-proxy serve` with its log; `url` is its root."""

    process: subprocess.Popen[str]
    url: str
    log: list[str] = field(factory=list)
    _news: threading.Condition = field(factory=threading.Condition)
    _seen: int = 0

    def follow(self) -> None:
        """Take the log down until it ends."""
        assert self.process.stderr
        for line in self.process.stderr:
            with self._news:
                self.log.append(line.rstrip("\n"))
                secrets.printed(line)
                self._news.notify_all()
        with self._news:
            self.log.append("(the end)")
            self._news.notify_all()

    def says(self, words: str, within: float = LIMIT) -> str:
        """Wait for a line with these words, after the last one that was waited for."""

        def found() -> bool:
            while self._seen < len(self.log):
                self._seen += 1
                if words in self.log[self._seen - 1]:
                    return True
            return False

        with self._news:
            assert self._news.wait_for(found, within), f"{words!r} is not in {self.log}"
            return self.log[self._seen - 1]

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ends(self) -> int:
        """Wait for its end; its exit status."""
        return self.process.wait(LIMIT)


@frozen
class Reloadable:
    """The command for many tests. Each loads its own config with `load`."""

    proxy: Command
    file: Path

    @property
    def url(self) -> str:
        """Its root."""
        return self.proxy.url

    def write(self, text: str, server: str = "") -> None:
        """Write a config without a section `server`. `server` are more options of that."""
        self.file.write_text(f"server: {{{RELOADABLE}{server}}}\n{text}")

    def load(self, text: str, server: str = "") -> str:
        """Write a config and serve it; the line of the log that says so."""
        self.write(text, server)
        self.proxy.send_signal(signal.SIGHUP)
        return self.proxy.says(" reloaded")


@contextlib.contextmanager
def killed_with_tests(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill the process group of `process` at the end, or when the tests are killed before it.

    A shell waits for the end of a pipe that only this process writes to.
    """
    guard = subprocess.Popen(
        ["sh", "-c", f"read _; kill -9 -- -{process.pid}"],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.kill()
        guard.wait()
        assert guard.stdin
        guard.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def replicas_of(file: Path) -> Iterator[list[Command]]:
    """Start two commands with the same config, and wait until each has opened a backend."""
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(command(file, until="", at_most=6 * LIMIT)) for _ in "12"]
        for replica in running:
            replica.says("is open after", 2 * LIMIT)
        yield running


#: It listens for everybody, so that a config without keys is refused.
RELOADABLE = "host: 0.0.0.0, reload: false, "


@contextlib.contextmanager
def command(
    file: Path,
    *arguments: str,
    by: Sequence[str] = (),
    at_most: float = 2 * LIMIT,
    until: str = "is open after",
    measure: bool = False,
    **variables: str,
) -> Iterator[Command]:
    """Serve the config `file` on a free port, started `by` this. Kill it at the end.

    It is killed after `at_most` seconds too. It is ready when its log has `until`; if that is
    empty, at once: its port accepts connections. `measure`: with coverage. `variables` are added
    to its environment.
    """
    at = ["--config", str(file), "--port", "0"]
    process = subprocess.Popen(
        [*by, *COMMAND, *at, *arguments],
        env={**(measured() if measure else CLEAN), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # its workers are killed with it
    )
    guard = contextlib.ExitStack()
    guard.enter_context(killed_with_tests(process))
    watchdog = threading.Timer(at_most, process.kill)
    watchdog.start()
    assert process.stdout
    running = Command(process, process.stdout.readline().split()[-1])
    follower = threading.Thread(target=running.follow, daemon=True)
    follower.start()
    try:
        if until:
            running.says(until)
        yield running
    finally:
        watchdog.cancel()
        guard.close()
        follower.join(LIMIT)
        secrets.printed(process.stdout.read())
        process.stdout.close()
        assert process.stderr
        process.stderr.close()
