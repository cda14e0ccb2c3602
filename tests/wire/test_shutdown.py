"""A proxy that is asked to end, with a request under way."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.grammar import parse_sse
from tests.support import body
from tests.wire.support import (
    DONE,
    END,
    LIMIT,
    Act,
    Client,
    ScriptedBackend,
    connect,
    declaration,
    delta,
    head,
    proxy,
    raw,
    sse,
)


@pytest.fixture
def backend() -> Iterator[ScriptedBackend]:
    made = ScriptedBackend()
    yield made
    made.close()


@contextlib.contextmanager
def ending(folder: Path, backend: ScriptedBackend) -> Iterator[Client]:
    """A client with a stream under way, of a proxy that has been asked to end."""
    with contextlib.ExitStack() as running:
        url = running.enter_context(proxy(folder, declaration(backend.url)))
        client = Client(url)
        client.send(raw(body(stream=True)))
        assert client.event()["type"] == "message_start"
        end = threading.Thread(target=running.pop_all().close)
        end.start()
        with contextlib.suppress(ConnectionError):
            while True:  # until it listens no more
                connect(url).close()
        yield client
        client.leave()
        end.join(LIMIT)
        assert not end.is_alive()


def test_what_is_under_way_is_finished(tmp_path: Path, backend: ScriptedBackend) -> None:
    hold = threading.Event()
    backend.says(head(), sse(delta(content="Hello")), hold, sse(delta("stop")), DONE, END)
    with ending(tmp_path, backend) as client:
        hold.set()
        assert parse_sse(client.answer.read())[-1]["type"] == "message_stop"


def test_what_takes_too_long_is_broken_off_and_looks_so(
    tmp_path: Path, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hello")), Act.UNTIL_GONE)
    with ending(tmp_path, backend) as client:
        assert backend.is_gone(within=5)
        with pytest.raises(http.client.IncompleteRead) as caught:
            client.answer.read()
        assert b"message_stop" not in caught.value.partial
