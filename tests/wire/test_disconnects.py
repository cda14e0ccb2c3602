"""A client that disconnects: its request must not keep the backend's GPU busy.

The limit is a second; what is measured is when the backend sees its connection closed.
"""

from __future__ import annotations

from threading import Event

import pytest

from tests.support import body
from tests.waiting import logged
from tests.wire.backend import Act, ScriptedBackend
from tests.wire.chat import delta, head, http_chunk, sse
from tests.wire.client import MODES, Client, connect, raw


def test_a_disconnect_in_a_stream_closes_the_backends_connection(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hello")), Act.UNTIL_CLOSED)
    client.send(raw(body(stream=True)))
    assert client.event()["type"] == "message_start"
    client.close()
    assert backend.is_closed()


@MODES
def test_a_disconnect_before_the_head_closes_the_backends_connection(
    stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(Act.UNTIL_CLOSED)
    client.socket.sendall(raw(body(stream=stream)))
    backend.request()
    client.close()
    assert backend.is_closed()


@MODES
def test_a_disconnect_after_the_head_closes_the_backends_connection(
    stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    sent = Event()
    content_type = "text/event-stream" if stream else "application/json"
    backend.says(
        head(content_type=content_type), http_chunk(b' {"choices"'), sent, Act.UNTIL_CLOSED
    )
    client.socket.sendall(raw(body(stream=stream)))
    backend.request()
    sent.set()
    client.close()
    assert backend.is_closed()


def test_a_disconnect_in_an_error_closes_the_backends_connection(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(500), http_chunk(b"It is not my"), Act.UNTIL_CLOSED)
    client.socket.sendall(raw(body()))
    backend.request()
    client.close()
    assert backend.is_closed()


def test_a_disconnect_without_reading_closes_the_backends_connection(
    client: Client, backend: ScriptedBackend
) -> None:
    much = sse(delta(content="x" * 1_000_000))
    backend.says(head(), *[much] * 40, Act.UNTIL_CLOSED)
    client.send(raw(body(stream=True)))  # only the head is read; then buffers fill up
    client.close()
    assert backend.is_closed()


def test_a_half_closed_connection_is_a_disconnect(client: Client, backend: ScriptedBackend) -> None:
    backend.says(Act.UNTIL_CLOSED)
    client.socket.sendall(raw(body()))
    backend.request()
    client.socket.shutdown(1)
    assert backend.is_closed()


def test_a_disconnect_in_the_body_calls_no_backend(
    url: str, client: Client, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "llm_proxy")
    with connect(url) as leaving:
        leaving.sendall(raw(body(), **{"x-claude-code-session-id": "in-the-body"})[:-5])
    assert client.get("/health").status == 200
    assert logged(caplog, "session=in-the-body", "outcome=client_disconnected")
    assert not backend.requests
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


def test_a_disconnect_does_not_disturb_another_client(
    url: str, client: Client, backend: ScriptedBackend
) -> None:
    hello, go_on = sse(delta(content="Hello")), Event()
    backend.says(head(), hello, Act.UNTIL_CLOSED)
    backend.says(head(), hello, go_on, sse(delta("stop", content=" there")), b"0\r\n\r\n")
    leaving = Client(url)
    leaving.send(raw(body(stream=True)))
    assert leaving.event()["type"] == "message_start"
    client.send(raw(body(stream=True)))
    assert client.event()["type"] == "message_start"
    leaving.close()
    assert backend.is_closed(0)
    go_on.set()
    assert b" there" in client.response.read()


@pytest.mark.parametrize("size", [70_000, 100_000, 200_000, 400_000])  # as it may be cut up
def test_a_disconnect_after_a_large_body_ends_the_call(
    size: int, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(Act.UNTIL_CLOSED)
    data = raw(body(system="x" * size), expect="100-continue")
    head, end, large = data.partition(b"\r\n\r\n")
    client.socket.sendall(head + end)
    assert client.socket.recv(1024).startswith(b"HTTP/1.1 100")  # the body is waited for
    client.socket.sendall(large)
    backend.request()
    client.close()
    assert backend.is_closed()


def test_a_disconnect_of_a_pipelining_client_ends_the_call(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(Act.UNTIL_CLOSED)
    client.socket.sendall(raw(body()))
    backend.request()
    client.socket.sendall(raw(body()))
    client.close()
    assert backend.is_closed()
    assert len(backend.requests) == 1
