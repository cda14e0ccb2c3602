"""A proxy that is asked to end, with a request in flight."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.grammar import parse_sse
from tests.support import body
from tests.waiting import logged
from tests.wire.backend import LIMIT, Act, ScriptedBackend
from tests.wire.chat import DONE, END, delta, head, sse
from tests.wire.client import Client, connect, error_in, raw
from tests.wire.proxy import config_text, proxy


@pytest.fixture
def backend() -> Iterator[ScriptedBackend]:
    made = ScriptedBackend()
    yield made
    made.close()


@contextlib.contextmanager
def ending(folder: Path, backend: ScriptedBackend, ahead: bytes = b"") -> Iterator[Client]:
    """A client with a stream in flight, of a proxy that has been asked to end."""
    with contextlib.ExitStack() as running:
        url = running.enter_context(proxy(folder, config_text(backend.url)))
        client = Client(url)
        client.send(raw(body(stream=True)) + ahead)
        assert client.event()["type"] == "message_start"
        end = threading.Thread(target=running.pop_all().close)
        end.start()
        with contextlib.suppress(ConnectionError):
            while True:  # until it listens no more
                connect(url).close()
        yield client
        client.close()
        end.join(LIMIT)
        assert not end.is_alive()


def test_a_request_in_flight_finishes(tmp_path: Path, backend: ScriptedBackend) -> None:
    hold = threading.Event()
    backend.says(head(), sse(delta(content="Hello")), hold, sse(delta("stop")), DONE, END)
    with ending(tmp_path, backend) as client:
        hold.set()
        assert parse_sse(client.response.read())[-1]["type"] == "message_stop"


def test_a_stream_that_takes_too_long_ends_with_an_error(
    tmp_path: Path, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hello")), Act.UNTIL_CLOSED)
    with ending(tmp_path, backend) as client:
        assert backend.is_closed()
        events = parse_sse(client.response.read())
        assert error_in(events[-1])[0] == "overloaded_error"
        assert "message_stop" not in {event["type"] for event in events}


def test_a_client_that_does_not_read_does_not_delay_the_end(
    tmp_path: Path, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    backend.says(head(), *[sse(delta(content="x" * 1_000_000))] * 40, Act.UNTIL_CLOSED)
    with ending(tmp_path, backend):
        logged(caplog, " POST /v1/messages 200 ")
    assert any(line.endswith(" outcome=aborted") for line in caplog.messages)
    assert "Exception in ASGI application" not in caplog.text


def test_it_is_not_ready_during_shutdown(tmp_path: Path, backend: ScriptedBackend) -> None:
    """It matters only when the question was sent before the first response was complete."""
    hold = threading.Event()
    backend.says(head(), sse(delta(content="Hello")), hold, sse(delta("stop")), DONE, END)
    with ending(tmp_path, backend, b"GET /health/ready HTTP/1.1\r\nhost: x\r\n\r\n") as client:
        hold.set()
        both = client.response.fp.read()
        first, second = both.split(b"HTTP/1.1 503 ")
        assert b"message_stop" in first
        assert b'"status":"stopping"' in second
