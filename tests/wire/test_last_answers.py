"""Last responses of a connection: they arrive, and nothing after them is a request."""

from __future__ import annotations

from threading import Event

import pytest

from tests.support import body
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import END, completion, http_chunk, streamed, whole
from tests.wire.client import Client, Response, connect, raw
from tests.wire.impatient import rest

LARGE = b"x" * 5_000_000
CHUNKED = raw(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")


def closing(request: bytes) -> bytes:
    """A request that is the connection's last."""
    return request.replace(b"\r\nhost: x", b"\r\nhost: x\r\nconnection: close", 1)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (closing(raw(LARGE, x_api_key="wrong")), 401),
        (raw(LARGE, x_api_key="wrong").replace(b"HTTP/1.1", b"HTTP/1.0"), 401),
        (closing(raw(LARGE)), 413),
        (closing(CHUNKED) + http_chunk(LARGE) + END, 413),
        (CHUNKED + http_chunk(b"x") + b"no length\r\n" + LARGE, 400),
        (CHUNKED + b"2\r\n{}\r\n0\r\nx: " + LARGE, 431),
        (b"POST / HTTP/1.1\r\ncontent-length: +5\r\n\r\n" + LARGE, 400),
        (b"POST / HTTP/1.1\r\nx: " + LARGE, 431),
    ],
    ids=["key", "http-1.0", "size", "chunks", "framing", "trailer", "no-http", "head"],
)
def test_a_client_that_sends_more_after_a_refusal_can_read_it(
    data: bytes, status: int, url: str
) -> None:
    with connect(url) as client:
        client.sendall(data[:100_000])
        Event().wait(0.05)  # it is refused by now
        client.sendall(data[100_000:])  # which a closed connection would answer with a reset
        said = rest(client)
    assert said.startswith(b"HTTP/1.1 %d " % status)
    assert said.count(b"request_id") == 1


@pytest.mark.parametrize("sends", [True, False], ids=["sends-it", "does-not"])
def test_a_refused_expectation_closes_the_connection(
    sends: bool, client: Client, backend: ScriptedBackend
) -> None:
    head, end, data = raw(body(), x_api_key="wrong", expect="100-continue").partition(b"\r\n\r\n")
    answer = Response.of(client.send(head + end))
    assert answer.error == (401, "authentication_error")
    assert answer.headers["connection"] == "close"
    client.socket.sendall(data if sends else raw(body()))
    assert rest(client.socket) == b""
    assert not backend.requests


def test_a_client_that_expects_100_continue_gets_it(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    head, end, data = raw(body(), expect="100-continue").partition(b"\r\n\r\n")
    client.socket.sendall(head + end)
    assert client.socket.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert Response.of(client.send(data)).status == 200


def test_http_1_0_gets_no_interim_response(client: Client, backend: ScriptedBackend) -> None:
    backend.says(whole(200, completion()))
    old = raw(body(), expect="100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
    client.socket.sendall(old)
    assert rest(client.socket).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_http_1_0_gets_no_chunks(stream: bool, client: Client, backend: ScriptedBackend) -> None:
    backend.says(streamed("Hello", " you") if stream else whole(200, completion()))
    old = raw(body(stream=stream)).replace(b"HTTP/1.1", b"HTTP/1.0")
    client.socket.sendall(old.replace(b"\r\nhost: x", b"\r\nconnection: keep-alive"))
    head, _, data = rest(client.socket).partition(b"\r\n\r\n")
    assert b"\r\ntransfer-encoding:" not in head
    assert b"\r\nconnection: close" in head
    assert data.startswith(b"event: message_start\n" if stream else b'{"id":')
    assert data.endswith(b'data: {"type":"message_stop"}\n\n' if stream else b"}")


def test_a_request_after_the_last_one_is_not_served(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(streamed("Hello"))
    client.socket.sendall(closing(raw(body(stream=True))) + raw(body(stream=True))[:-5])
    assert rest(client.socket).count(b"HTTP/1.1 ") == 1
    assert len(backend.requests) == 1


def test_a_flood_of_requests_in_one_packet_delays_no_other_client(
    client: Client, backend: ScriptedBackend, url: str
) -> None:
    client.socket.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10_000)
    other = Client(url)
    other.socket.settimeout(1)  # it was two seconds
    assert other.get("/health").status == 200
    other.close()


def test_pipelined_requests_are_served(client: Client) -> None:
    body = client.get("/health").body
    client.socket.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n" * 100)
    said = b""
    while said.count(body) < 100:  # the last response is read to its end
        said += client.socket.recv(65536)
    assert said.count(b"HTTP/1.1 200 OK") == 100
    assert client.get("/health").status == 200
