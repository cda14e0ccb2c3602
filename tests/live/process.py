"""A server as a process in a group of its own, which is ended with all of its children."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from attrs import define, field

from tests.live.environment import SetupError, last_line, say
from tests.live.servers import KEY, Place, Server

#: Seconds a process gets to end by itself.
_GRACE = 15.0


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
    return port


def end(process: subprocess.Popen[bytes], grace: float = _GRACE) -> None:
    """End a process and its group: SIGTERM, after `grace` seconds SIGKILL."""
    with contextlib.suppress(ProcessLookupError):
        if grace:
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@define(eq=False)
class Running:
    """A server that runs at `url`, its root, with its output in `log`."""

    server: Server
    place: Place
    port: int = field(factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its root, without `/v1`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """The file with its output."""
        return self.place.folder / "server.log"

    def start(self) -> None:
        """Start it; it is not ready then."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.server.command(self.place, self.port),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.server.environ},
                start_new_session=True,
            )

    def alive(self) -> None:
        """Raise SetupError where it has ended by itself."""
        if self._process is None or self._process.poll() is not None:
            raise SetupError(f"the server ended by itself; read {self.log}")

    def wait_until_ready(self) -> None:
        """Wait for its health. Raises SetupError after the server's limit, or at its end."""
        say(f"start {self.server.name} at {self.url} …")
        began = reported = time.monotonic()
        while not self._healthy():
            self.alive()
            now = time.monotonic()
            if now - began > self.server.start_limit:
                limit = self.server.start_limit
                raise SetupError(f"the server is not ready in {limit:g} s; read {self.log}")
            if now - reported > 10:
                reported = now
                say(f"  {now - began:.0f} s: {last_line(self.log)}")
            time.sleep(0.2)
        say(f"  ready in {time.monotonic() - began:.0f} s")

    def _healthy(self) -> bool:
        asked = urllib.request.Request(f"{self.url}/health")
        with contextlib.suppress(OSError), urllib.request.urlopen(asked, timeout=5) as response:
            return bool(response.status == 200)
        return False

    def requests_running(self) -> int:
        """How many requests it works on, by its own metrics."""
        headers = {"Authorization": f"Bearer {KEY}"}
        asked = urllib.request.Request(f"{self.url}/metrics", headers=headers)
        with urllib.request.urlopen(asked, timeout=10) as response:
            lines = response.read().decode().splitlines()
        return sum(
            int(float(line.split()[-1])) for line in lines if line.startswith(self.server.running)
        )

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process:
            end(self._process, grace=0)

    def stop(self) -> None:
        """End it, whatever state it is in."""
        if self._process:
            end(self._process)


@contextlib.contextmanager
def running(server: Server, place: Place) -> Iterator[Running]:
    """A server that is ready; it is ended in all cases."""
    it = Running(server, place)
    it.log.write_bytes(b"")
    try:
        it.start()
        it.wait_until_ready()
        yield it
    finally:
        it.stop()
        say(f"{server.name} has ended")
