"""A real Redis or Valkey server for tests, and a client for its tests that is not the proxy's."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

BINARY = shutil.which("redis-server") or shutil.which("valkey-server")
#: Seconds that the server may take to start.
_START = 20.0
#: pip cannot install a server. Without one, a contributor can still run all other tests.
#: CONTRIBUTING.md lists what to install.
needs_server = pytest.mark.skipif(
    BINARY is None, reason="needs redis-server: apt-get install redis-server"
)


@define(eq=False)
class RedisServer:
    """A server without persistence, on a free port of this machine. The owner calls `stop`."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.start()

    @property
    def url(self) -> str:
        return f"valkey://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, empty, and wait until it responds."""
        assert BINARY
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(
            [BINARY, *options], cwd=self.folder, stdout=subprocess.DEVNULL
        )
        end = time.monotonic() + _START
        while time.monotonic() < end:
            with contextlib.suppress(OSError), Resp(self.port) as client:
                if client.call("PING") == b"PONG":
                    return
            time.sleep(0.01)
        raise AssertionError("redis-server does not respond")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it accept connections and respond to nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def running_redis() -> Iterator[RedisServer]:
    """Run a server on a free port."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        server = RedisServer(Path(folder), port)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """A server for the tests of a module, which has the mark `needs_server`."""
    with running_redis() as server:
        yield server


@pytest.fixture(name="server")
def empty_redis(redis_server: RedisServer) -> RedisServer:
    """The server of the module, without keys."""
    with Resp(redis_server.port) as client:
        client.call("FLUSHALL")
    return redis_server


class Resp:
    """Calls commands one after the other, in RESP2."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Resp:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def call(self, *arguments: str | bytes | float) -> Any:
        """The response to a command. Raises AssertionError for an error."""
        self.send(*arguments)
        return self.receive()

    def send(self, *arguments: str | bytes | float) -> None:
        parts = [a if isinstance(a, bytes) else str(a).encode() for a in arguments]
        text = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self.socket.sendall(b"*%d\r\n%s" % (len(parts), text))

    def receive(self) -> Any:
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"*":
            return [self.receive() for _ in range(int(rest))]
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        assert kind != b"-", rest.decode()
        return int(rest) if kind == b":" else rest
