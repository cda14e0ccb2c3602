"""Helpers of the tests of the command over its life."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import Factory, define

from tests.grammar import parse_sse
from tests.support import body
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import DONE, END, delta, head, sse
from tests.wire.client import Client, connect, raw
from tests.wire.proxy import config_text


@pytest.fixture
def backend() -> Iterator[ScriptedBackend]:
    temporary = ScriptedBackend()
    yield temporary
    temporary.close()


def config(backend: ScriptedBackend, options: str = "") -> str:
    """A config with these options of its backend."""
    return config_text(backend.url).replace("{base_url:", f"{{{options}base_url:", 1)


def write(folder: Path, backend: ScriptedBackend, server: str = "", options: str = "") -> Path:
    """A file with `config`, and these options of the server."""
    file = folder / "pipelines.yaml"
    temporary = folder / "new"
    temporary.write_text(f"server: {{{server}}}\n{config(backend, options)}")
    temporary.replace(file)  # as editors do
    return file


@define
class Clients:
    """Makes clients, and closes their connections."""

    temporary: list[Client] = Factory(list)

    def new(self, url: str) -> Client:
        """A client with a connection."""
        self.temporary.append(Client(url))
        return self.temporary[-1]

    def started(self, url: str) -> Client:
        """A client whose stream has begun."""
        client = self.new(url)
        client.send(raw(body(stream=True)))
        assert client.event()["type"] == "message_start"
        return client


@pytest.fixture
def clients() -> Iterator[Clients]:
    temporary = Clients()
    yield temporary
    for client in temporary.temporary:
        client.close()


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for TMPDIR with a short path: those of sockets have a limit."""
    with tempfile.TemporaryDirectory(prefix="t") as folder:
        yield Path(folder)


def texts(client: Client) -> list[str]:
    """The texts of the client's stream, which has to end well."""
    events = parse_sse(client.response.read())
    assert events[-1]["type"] == "message_stop"
    return [e["delta"]["text"] for e in events if e["type"] == "content_block_delta"]


def paused_stream(hold: threading.Event) -> tuple[Any, ...]:
    """A stream that says Hello, waits, and says the rest."""
    return head(), sse(delta(content="Hello")), hold, sse(delta("stop", content=" you")), DONE, END


def until_refused(url: str) -> None:
    """Wait until it listens no more."""
    with contextlib.suppress(ConnectionError):
        while True:
            connect(url).close()


def runs(pid: int) -> bool:
    """Whether there is such a process, other than a zombie.

    While other threads of a killed process end, its first thread is a zombie, and its sockets still
    accept connections.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        threads = [*Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z" or len(threads) > 1
