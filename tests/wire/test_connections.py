"""Connections to the backend: kept, found closed, and never used for a request twice in vain."""

from __future__ import annotations

from threading import Event

import pytest

from tests.support import body
from tests.wire.backend import Act, ScriptedBackend
from tests.wire.chat import END, completion, delta, head, sse, streamed, whole
from tests.wire.client import MODES, Client, raw


def answer(stream: bool) -> bytes:
    """A good answer."""
    return streamed("Hello") if stream else whole(200, completion())


@MODES
def test_a_connection_is_kept_and_used_again(
    stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(answer(stream))
    assert [client.post(body(stream=stream)).status for _ in range(3)] == [200] * 3
    assert backend.connections == 1


@MODES
def test_a_kept_connection_is_used_again_after_a_refusal(
    stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(whole(429, {"error": {"message": "Slow down"}}))
    backend.says(answer(stream))
    assert client.post(body(stream=stream)).status == 429
    assert client.post(body(stream=stream)).status == 200
    assert backend.connections == 1


@MODES
def test_a_kept_connection_that_was_closed_costs_no_request(
    stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(answer(stream), Act.CLOSE)
    for _ in range(2):
        assert client.post(body(stream=stream)).status == 200
        assert backend.is_closed(backend.connections - 1)
    assert [request.connection for request in backend.requests] == [0, 1]


@MODES
@pytest.mark.parametrize("closing", [Act.CLOSE, Act.RESET])
def test_a_request_on_a_kept_connection_that_closes_is_repeated(
    closing: Act, stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(answer(stream))
    backend.says(closing)
    backend.says(answer(stream))
    for _ in range(2):
        assert client.post(body(stream=stream)).status == 200
    assert [request.connection for request in backend.requests] == [0, 0, 1]
    assert backend.requests[1].body == backend.requests[2].body


@MODES
@pytest.mark.parametrize("closing", [Act.CLOSE, Act.RESET])
def test_a_request_on_a_fresh_connection_is_not_repeated(
    closing: Act, stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(closing)
    backend.says(answer(stream))
    assert client.post(body(stream=stream)).error == (529, "overloaded_error")
    assert len(backend.requests) == 1


def test_a_request_is_sent_at_most_twice(client: Client, backend: ScriptedBackend) -> None:
    backend.says(whole(200, completion()))
    backend.says(Act.CLOSE)
    assert client.post(body()).status == 200
    assert client.post(body()).error == (529, "overloaded_error")
    assert [request.connection for request in backend.requests] == [0, 0, 1]


def test_a_request_is_not_repeated_after_the_first_byte(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    backend.says(head(), sse(delta(content="Hel")), Act.CLOSE)
    assert client.post(body()).status == 200
    assert client.post(body(stream=True)).events[-1]["type"] == "error"
    assert len(backend.requests) == 2


def test_many_requests_at_once_have_a_connection_each(url: str, backend: ScriptedBackend) -> None:
    hold = Event()
    backend.says(head(), sse(delta(content="Hello")), hold, sse(delta("stop")), END)
    clients = [Client(url) for _ in range(20)]
    for client in clients:
        client.send(raw(body(stream=True)))
    assert backend.connections == 20
    hold.set()
    assert all(b"message_stop" in client.response.read() for client in clients)
    for client in clients:
        client.close()
