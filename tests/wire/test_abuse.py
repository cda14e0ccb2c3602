"""Harmful clients: they are refused or disconnected, and other clients are served meanwhile."""

from __future__ import annotations

import gzip
import json
import logging
import re
import socket
from pathlib import Path
from threading import Event
from typing import TypeVar

import pytest
from attrs import frozen

from pipeline import Send, Stage
from stages.messages_api.stream_events import MessageStart
from tests.support import body
from tests.waiting import logged
from tests.wire.backend import LIMIT, Act, ScriptedBackend
from tests.wire.chat import DONE, END, completion, delta, head, sse, whole
from tests.wire.client import Client, Response, connect, raw
from tests.wire.impatient import IMPATIENT, chunked, rest
from tests.wire.impatient import shared_proxy as shared_proxy  # the fixture of this module
from tests.wire.proxy import config_text, proxy

T = TypeVar("T")


def drip(connection: socket.socket, data: bytes, size: int = 1) -> bytes:
    """Send `size` bytes at a time until the proxy responds. Return its response."""
    connection.settimeout(0.05)
    for n in range(0, len(data), size):
        try:
            connection.sendall(data[n : n + size])
            text = connection.recv(65536)
        except TimeoutError:
            continue
        connection.settimeout(LIMIT)
        return text + rest(connection)
    raise AssertionError("the proxy accepted all of it")


# ---- slow ones ----


def test_an_incomplete_head_is_a_timeout(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "llm_proxy")
    with connect(url) as slow:
        text = drip(slow, b"POST /v1/messages HTTP/1.1\r\nx: " + b"y" * 1000)
    assert text.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert (
        b'"the request\'s head did not arrive within 0.3 seconds; send the request again"' in text
    )
    (request_id,) = set(re.findall(r"req_\w+", text.decode()))
    assert logged(caplog, request_id).startswith(f"{request_id} - - 408 ")


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "empty-line"])
def test_an_idle_new_connection_is_closed(sent: bytes, url: str) -> None:
    with connect(url) as idle:
        idle.sendall(sent)
        text = rest(idle)
    assert not text or b" 408 " in text


@pytest.mark.parametrize("sent", [b"", b"POST /v1/mess"], ids=["nothing", "half-a-head"])
def test_an_idle_kept_connection_is_closed(sent: bytes, client: Client) -> None:
    assert client.get("/health").status == 200
    client.socket.sendall(sent)
    client.socket.settimeout(2)  # uvicorn by itself would wait longer
    assert rest(client.socket)[:13] == (b"HTTP/1.1 408 " if sent else b"")


@pytest.mark.parametrize(
    "begun",
    [raw(body())[:-5], chunked(b"5\r\nabcde\r\n"), chunked(b"ff\r\nabc"), chunked()],
    ids=["content-length", "chunks", "in-a-chunk", "nothing"],
)
def test_a_body_that_stops_is_a_timeout(
    begun: bytes, client: Client, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llm_proxy")
    answer = Response.of(client.send(begun))
    assert answer.error == (408, "invalid_request_error")
    assert "request's body arrived within 0.3 seconds" in answer.json["error"]["message"]
    assert answer.headers["connection"] == "close"
    assert rest(client.socket) == b""
    assert not backend.requests
    assert logged(caplog, f"{answer.headers['request-id']} POST /v1/messages 408 ")


@pytest.mark.parametrize("size", [1, 500])
def test_a_body_that_drips_is_a_timeout(size: int, url: str) -> None:
    with connect(url) as slow:
        slow.sendall(raw(body(system="x" * 300_000))[:-250_000])
        text = drip(slow, b" " * 400 * size, size)
    assert b" 408 " in text
    assert b"fewer than 6000 bytes of the request's body arrived within 0.3 seconds" in text


def test_a_steady_body_may_take_longer_than_the_timeout(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    data = raw(body(system="x" * 900_000))
    for n in range(0, len(data), 30_000):  # longer than the patience in all
        client.socket.sendall(data[n : n + 30_000])
        Event().wait(0.02)
    assert Response.of(client.send(b"")).status == 200


def test_reading_the_remaining_body_after_a_refusal_is_limited(client: Client) -> None:
    assert Response.of(client.send(raw(body(), x_api_key="wrong")[:-5])).status == 401
    assert rest(client.socket) == b""


def test_a_client_that_does_not_read_is_disconnected(
    client: Client, backend: ScriptedBackend
) -> None:
    much = sse(delta(content="x" * 1_000_000))
    backend.says(head(), *[much] * 60, Act.UNTIL_CLOSED)
    client.socket.sendall(raw(body(stream=True)))
    backend.request()
    assert backend.is_closed(within=LIMIT)


def test_a_client_that_does_not_read_a_complete_response_is_aborted(
    client: Client, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llm_proxy")
    backend.says(whole(200, completion("x" * 12_000_000)))
    client.socket.sendall(raw(body()))
    request_id, message = logged(caplog, "does not read").split(" ", 1)
    assert message == "client does not read: its response is incomplete"
    assert len(rest(client.socket)) < 12_000_000
    response, _ = [line for line in caplog.messages if request_id in line]
    assert " 200 " in response


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "under-way"])
def test_a_client_that_reads_slowly_gets_all(
    finished: bool, client: Client, backend: ScriptedBackend
) -> None:
    if finished:
        backend.says(whole(200, completion("x" * 6_000_000)))
    else:
        much = sse(delta(content="x" * 500_000))
        backend.says(head(), *[much] * 12, sse(delta("stop")), DONE, END)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 50_000)
    answer = client.send(raw(body(stream=not finished)))
    read = b""
    for _ in range(24):  # the system buffers the remaining bytes, and requests no more meanwhile
        read = answer.read(10_000)
        Event().wait(0.05)
    while part := answer.read(250_000):
        read = read[-1000:] + part
    assert read.endswith(b"}" if finished else b"\n\n")
    assert finished or b"message_stop" in read


@frozen
class Stall(Stage[T, T]):
    """Block the event loop for longer than the client timeout."""

    async def handle(self, event: T, forward: Send[T]) -> None:
        if isinstance(event, MessageStart):
            Event().wait(1)
        await forward(event)


def test_a_blocked_event_loop_times_no_client_out(tmp_path: Path, backend: ScriptedBackend) -> None:
    backend.says(whole(200, completion()))
    top, end = raw(body(), x_api_key="wrong")[:50], raw(body(), x_api_key="wrong")[50:]
    stalling = config_text(backend.url, stages=["tests.wire.test_abuse:Stall"])
    with proxy(tmp_path, stalling, IMPATIENT) as url, connect(url) as waiting:
        waiting.sendall(top)
        client = Client(url)
        client.socket.sendall(raw(body()))
        backend.request()
        Event().wait(0.2)
        waiting.sendall(end)
        assert waiting.recv(1000).startswith(b"HTTP/1.1 401 ")
        client.close()


def test_a_client_of_a_slow_backend_is_not_disconnected(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(), 1.0, sse(delta("stop", content="Hi")), END)
    assert client.post(body(stream=True)).events[-1]["type"] == "message_stop"


# ---- large ones ----


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /" + b"x" * 5_000_000,
        b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"y" * 5_000_000,
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 201 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 1_000_000,
        b"\r\n" * 3_000_000,
    ],
    ids=["line", "endless-line", "value", "endless-name", "many", "endless", "empty-lines"],
)
def test_a_head_that_is_too_large_is_refused(
    data: bytes, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llm_proxy")
    answer = Response.of(client.send(data))
    assert answer.error == (431, "invalid_request_error")
    assert "larger than 65536 bytes or has more than 200 headers" in str(answer.json)
    assert rest(client.socket) == b""
    assert logged(caplog, answer.headers["request-id"]).split()[1:4] == ["-", "-", "431"]


@pytest.mark.parametrize(
    "data",
    [b"5;" + b"x" * 1_000_000, b"0\r\nx: " + b"y" * 1_000_000, b"0" * 1_000_000],
    ids=["extension", "trailer", "zeros"],
)
def test_the_extensions_of_chunks_are_limited(data: bytes, client: Client) -> None:
    assert Response.of(client.send(chunked(data))).error == (431, "invalid_request_error")


def test_a_trailer_is_not_a_header(client: Client) -> None:
    without = chunked(b"0\r\nx-api-key: client-key\r\n\r\n").replace(b"x-api-key", b"x-other", 1)
    assert Response.of(client.send(without)).status == 401


@pytest.mark.parametrize("kind", ["content-length", "chunked"])
def test_a_body_of_33_megabytes_is_refused_before_its_end(kind: str, client: Client) -> None:
    data = b"x" * 1_100_000
    if kind == "content-length":
        begun = raw(b"", content_length="33000000")
    else:
        begun = chunked(b"1f78a40\r\n" + data)
    assert Response.of(client.send(begun)).error == (413, "request_too_large")
    assert rest(client.socket) == b""  # the rest is not waited for


def test_a_body_in_another_encoding_is_refused(client: Client) -> None:
    answer = client.post(b"\x1b", content_encoding="br")
    assert answer.error == (400, "invalid_request_error")
    assert "send gzip, or no encoding" in answer.json["error"]["message"]


@pytest.mark.parametrize("encoding", ["gzip", "X-GZIP"])
def test_a_gzip_body_is_accepted(encoding: str, client: Client, backend: ScriptedBackend) -> None:
    backend.says(whole(200, completion("Hi")))
    packed = gzip.compress(json.dumps(body()).encode())
    assert client.post(packed, content_encoding=encoding).status == 200
    assert backend.request().body["messages"] == body()["messages"]
    count = client.post(packed, "/v1/messages/count_tokens", content_encoding=encoding)
    assert count.status == 200


def test_a_gzip_body_that_unpacks_to_more_than_the_limit_is_refused(url: str) -> None:
    packed = gzip.compress(b" " * 40_000_000)  # before a connection waits for a request
    assert len(packed) < 50_000
    client = Client(url)
    assert client.post(packed, content_encoding="gzip").error == (413, "request_too_large")
    client.close()


@pytest.mark.parametrize("packed", [b"\x1f\x8b", b"{}"], ids=["truncated", "plain"])
def test_a_broken_gzip_body_is_refused(packed: bytes, client: Client) -> None:
    answer = client.post(packed, content_encoding="gzip")
    assert answer.error == (400, "invalid_request_error")
    assert answer.json["error"]["details"] == {"error_code": "request_body_encoding_invalid"}
