"""A client that leaves: its request must not keep the backend's GPU busy.

The limit is a second; what is measured is when the backend sees its connection closed.
"""

from __future__ import annotations

from threading import Event

import pytest

from tests.support import body
from tests.wire.backend import Act, ScriptedBackend
from tests.wire.chat import delta, head, piece, sse
from tests.wire.client import MODES, Client, connect, raw


def test_a_client_that_leaves_in_the_middle_of_a_stream_closes_the_backends_connection(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hello")), Act.UNTIL_GONE)
    client.send(raw(body(stream=True)))
    assert client.event()["type"] == "message_start"
    client.leave()
    assert backend.is_gone(within=1)


@MODES
def test_a_client_that_leaves_while_the_backend_is_silent_closes_its_connection(
    stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(Act.UNTIL_GONE)
    client.socket.sendall(raw(body(stream=stream)))
    backend.request()
    client.leave()
    assert backend.is_gone(within=1)


@MODES
def test_a_client_that_leaves_between_head_and_body_closes_the_backends_connection(
    stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    sent = Event()
    content_type = "text/event-stream" if stream else "application/json"
    backend.says(head(content_type=content_type), piece(b' {"choices"'), sent, Act.UNTIL_GONE)
    client.socket.sendall(raw(body(stream=stream)))
    backend.request()
    sent.set()
    client.leave()
    assert backend.is_gone(within=1)


def test_a_client_that_leaves_while_an_error_arrives_closes_the_backends_connection(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(500), piece(b"It is not my"), Act.UNTIL_GONE)
    client.socket.sendall(raw(body()))
    backend.request()
    client.leave()
    assert backend.is_gone(within=1)


def test_a_client_that_reads_nothing_and_leaves_closes_the_backends_connection(
    client: Client, backend: ScriptedBackend
) -> None:
    much = sse(delta(content="x" * 1_000_000))
    backend.says(head(), *[much] * 40, Act.UNTIL_GONE)
    client.send(raw(body(stream=True)))  # only the head is read; then buffers fill up
    client.leave()
    assert backend.is_gone(within=1)


def test_a_client_that_closes_only_its_side_is_taken_for_gone(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(Act.UNTIL_GONE)
    client.socket.sendall(raw(body()))
    backend.request()
    client.socket.shutdown(1)
    assert backend.is_gone(within=1)


def test_a_client_that_leaves_in_the_middle_of_its_body_asks_no_backend(
    url: str, client: Client, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "llm_proxy")
    with connect(url) as leaving:
        leaving.sendall(raw(body())[:-5])
    assert client.get("/health").status == 200
    assert not backend.requests
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


def test_one_client_leaving_does_not_disturb_another(
    url: str, client: Client, backend: ScriptedBackend
) -> None:
    hello, go_on = sse(delta(content="Hello")), Event()
    backend.says(head(), hello, Act.UNTIL_GONE)
    backend.says(head(), hello, go_on, sse(delta("stop", content=" there")), b"0\r\n\r\n")
    leaving = Client(url)
    leaving.send(raw(body(stream=True)))
    assert leaving.event()["type"] == "message_start"
    client.send(raw(body(stream=True)))
    assert client.event()["type"] == "message_start"
    leaving.leave()
    assert backend.is_gone(0, within=1)
    go_on.set()
    assert b" there" in client.answer.read()


@pytest.mark.parametrize("size", [70_000, 100_000, 200_000, 400_000])  # as it may be cut up
def test_a_client_that_leaves_after_a_large_body_closes_the_backends_connection(
    size: int, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(Act.UNTIL_GONE)
    data = raw(body(system="x" * size), expect="100-continue")
    head, end, large = data.partition(b"\r\n\r\n")
    client.socket.sendall(head + end)
    assert client.socket.recv(1024).startswith(b"HTTP/1.1 100")  # the body is waited for
    client.socket.sendall(large)
    backend.request()
    client.leave()
    assert backend.is_gone(within=1)


def test_a_client_that_has_asked_for_more_already_and_leaves_closes_the_backends_connection(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(Act.UNTIL_GONE)
    client.socket.sendall(raw(body()))
    backend.request()
    client.socket.sendall(raw(body()))
    client.leave()
    assert backend.is_gone(within=1)
    assert len(backend.requests) == 1
