"""Very many connections, and very large bodies, at one process: it serves on, in bounded memory."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from attrs import frozen

from proxy.serve import raise_open_files_limit
from tests.support import body
from tests.waiting import until
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import streamed
from tests.wire.client import Client, Response, connect, raw
from tests.wire.command import Command, command
from tests.wire.proxy import config_text

# Only Linux shows there the resources of another process. The code that is measured here, memory
# and descriptors of the command itself, is the same on macOS.
pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="it looks into /proc")

MEGABYTE = 1_000_000
FEW_FILES = ("sh", "-c", 'ulimit -Sn 256; exec "$@"', "sh")
SERVER = "server: {max_buffered_body_bytes: 100000000}"


@frozen
class Serving:
    """The command at work, as the system sees it."""

    command: Command
    backend: ScriptedBackend

    @property
    def url(self) -> str:
        """Its root."""
        return self.command.url

    @property
    def folder(self) -> Path:
        """Its folder in /proc."""
        return Path(f"/proc/{self.command.process.pid}")

    def files(self) -> int:
        """How many it has open."""
        return len(list((self.folder / "fd").iterdir()))

    def megabytes(self, name: str = "VmRSS") -> float:
        """Its memory now; VmHWM is the most since `forget_the_most`."""
        found = re.search(rf"{name}:\s+(\d+)", (self.folder / "status").read_text())
        assert found
        return int(found[1]) * 1024 / MEGABYTE

    def forget_the_most(self) -> None:
        """Reset VmHWM."""
        (self.folder / "clear_refs").write_text("5")

    def seconds_of_cpu(self) -> float:
        """What it has used."""
        spent = (self.folder / "stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, spent)) / os.sysconf("SC_CLK_TCK")

    def comes_down_to(self, files: int) -> bool:
        """Whether the process closes all but `files` files."""
        return until(lambda: self.files() <= files, "it keeps more files open")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    backend = ScriptedBackend()
    file = tmp_path_factory.mktemp("many") / "pipelines.yaml"
    text = config_text(backend.url).replace("max_body_bytes: 1000000", "max_body_bytes: 33554432")
    file.write_text(f"{SERVER}\n{text}")
    with command(file, by=FEW_FILES) as running:
        yield Serving(running, backend)
    backend.close()


@pytest.fixture
def client(serving: Serving) -> Iterator[Client]:
    """A client that has had a response."""
    serving.backend.responses = [[streamed("Hello")]]
    made = Client(serving.url)
    assert made.post(body(stream=True)).status == 200
    yield made
    made.close()


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    """Those that are put into it are closed."""
    made: list[socket.socket] = []
    yield made
    for each in made:
        each.close()


def test_the_limit_of_open_files_is_raised(serving: Serving) -> None:
    limits = (serving.folder / "limits").read_text()
    found = re.search(r"Max open files\s+(\d+)\s+(\d+)", limits)
    assert found
    assert found[1] == found[2] != "256"


def test_requests_are_served_next_to_ten_thousand_idle_connections(
    serving: Serving, client: Client, sockets: list[socket.socket]
) -> None:
    raise_open_files_limit()
    before, files = serving.megabytes(), serving.files()
    halves = (*[b""] * 8, b"POST /v1/mess", raw(body())[:-5])
    many = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1000)
    for n in range(many):
        sockets.append(connect(serving.url))
        sockets[-1].sendall(halves[n % len(halves)])
    for asked in (client, Client(serving.url)):
        assert asked.post(body(stream=True)).status == 200
    asked.close()
    assert serving.files() > many
    assert serving.megabytes() - before < 25 * many / 1000
    for each in sockets:
        each.close()
    assert serving.comes_down_to(files + 5)


def test_bodies_without_a_key_are_not_buffered(serving: Serving, client: Client) -> None:
    serving.forget_the_most()
    before = serving.megabytes()
    for _ in range(4):
        other = Client(serving.url)
        assert Response.of(other.send(raw(b"x" * 30 * MEGABYTE, x_api_key="wrong"))).status == 401
        other.close()
    assert serving.megabytes("VmHWM") - before < 10


def test_large_bodies_share_a_memory_budget(
    serving: Serving, client: Client, sockets: list[socket.socket]
) -> None:
    serving.forget_the_most()
    before = serving.megabytes()
    data = raw(b"x" * 30 * MEGABYTE)
    sockets += [connect(serving.url) for _ in range(6)]
    for each in sockets:
        each.sendall(data[:-5])
    for each in sockets[3:]:
        assert b" 529 " in each.recv(1000).partition(b"\r\n")[0]
    assert client.post(body(stream=True)).status == 200
    assert serving.megabytes("VmHWM") - before < 130
    for each in sockets[:3]:
        each.sendall(data[-5:])
        assert b" 400 " in each.recv(1000).partition(b"\r\n")[0]  # it is no JSON
    assert client.post(data.partition(b"\r\n\r\n")[2]).status == 400  # the budget is free again


def test_connected_clients_are_served_at_the_limit_of_open_files(
    serving: Serving, client: Client, sockets: list[socket.socket]
) -> None:
    pid, files, spent = serving.command.process.pid, serving.files(), serving.seconds_of_cpu()
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (files + 20, before[1]))
    try:
        sockets += [connect(serving.url) for _ in range(60)]
        with contextlib.suppress(ConnectionError):  # it is closed, and does not wait
            assert sockets[-1].recv(1) == b""
        assert client.post(body(stream=True)).status == 200
        Event().wait(0.3)
        assert serving.seconds_of_cpu() - spent < 0.2  # it does not try again and again
        for each in sockets:
            each.close()
        assert serving.comes_down_to(files)
        again = Client(serving.url)
        assert again.post(body(stream=True)).status == 200
        again.close()
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
