"""Clients that mean harm: they are refused or given up, and others are served meanwhile."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import TypeVar

import pytest
from attrs import frozen

from pipeline import Send, Stage
from proxy.http.limits import ConnectionLimits
from stages.messages_api.stream_events import MessageStart
from tests.support import body
from tests.wire.backend import LIMIT, Act, ScriptedBackend
from tests.wire.chat import DONE, END, completion, delta, head, piece, sse, whole
from tests.wire.client import Answer, Client, connect, raw
from tests.wire.proxy import Lasting, declaration, lasting_proxy, proxy

T = TypeVar("T")

#: 6 kB of a body have to come in its time.
IMPATIENT = ConnectionLimits(client_timeout=0.3, min_body_bytes_per_second=20_000, send_timeout=0.8)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lasting]:
    with lasting_proxy(tmp_path_factory.mktemp("impatient"), declaration, IMPATIENT) as made:
        yield made


def rest(connection: socket.socket) -> bytes:
    """All that comes until the proxy closes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def wait_for(logged: str, caplog: pytest.LogCaptureFixture) -> None:
    """Wait until a line of the log has these words."""
    ends = time.monotonic() + LIMIT
    while not any(logged in line for line in caplog.messages):
        assert time.monotonic() < ends, f"the log does not say {logged!r}"
        Event().wait(0.01)


def chunked(data: bytes = b"", **headers: str) -> bytes:
    """A POST whose body comes in chunks, of which `data` is what is sent."""
    top, end, _ = raw(b"", **headers).partition(b"\r\n\r\n")
    return top.replace(b"content-length: 0", b"transfer-encoding: chunked") + end + data


def drip(connection: socket.socket, data: bytes, size: int = 1) -> bytes:
    """Send byte after byte, or so many, until the proxy has had enough; what it said."""
    connection.settimeout(0.05)
    for n in range(0, len(data), size):
        try:
            connection.sendall(data[n : n + size])
            said = connection.recv(65536)
        except TimeoutError:
            continue
        connection.settimeout(LIMIT)
        return said + rest(connection)
    raise AssertionError("all of it was taken")


# ---- slow ones ----


def test_a_head_that_does_not_come_whole_is_a_timeout(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llm_proxy")
    with connect(url) as slow:
        said = drip(slow, b"POST /v1/messages HTTP/1.1\r\nx: " + b"y" * 1000)
    assert said.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b'"the request\'s head did not arrive within 0.3 seconds; send it again"' in said
    (line,) = [each.getMessage() for each in caplog.records if " 408 " in each.getMessage()]
    assert line.startswith("req_")
    assert line.encode().split()[0] in said


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "empty-line"])
def test_a_connection_that_asks_nothing_is_closed(sent: bytes, url: str) -> None:
    with connect(url) as idle:
        idle.sendall(sent)
        said = rest(idle)
    assert not said or b" 408 " in said


@pytest.mark.parametrize("sent", [b"", b"POST /v1/mess"], ids=["nothing", "half-a-head"])
def test_a_connection_that_asks_nothing_more_is_closed(sent: bytes, client: Client) -> None:
    assert client.get("/health").status == 200
    client.socket.sendall(sent)
    client.socket.settimeout(2)  # uvicorn by itself would wait longer
    assert rest(client.socket)[:13] == (b"HTTP/1.1 408 " if sent else b"")


@pytest.mark.parametrize(
    "begun",
    [raw(body())[:-5], chunked(b"5\r\nabcde\r\n"), chunked(b"ff\r\nabc"), chunked()],
    ids=["declared", "chunks", "in-a-chunk", "nothing"],
)
def test_a_body_that_stops_is_a_timeout(
    begun: bytes, client: Client, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llm_proxy")
    answer = Answer.of(client.send(begun))
    assert answer.error == (408, "invalid_request_error")
    assert "request's body arrived within 0.3 seconds" in answer.json["error"]["message"]
    assert answer.headers["connection"] == "close"
    assert rest(client.socket) == b""
    assert not backend.requests
    lines = [each for each in caplog.messages if answer.headers["request-id"] in each]
    assert [line.split()[1:4] for line in lines][-1:] == [["POST", "/v1/messages", "408"]]


@pytest.mark.parametrize("size", [1, 500])
def test_a_body_that_drips_is_a_timeout(size: int, url: str) -> None:
    with connect(url) as slow:
        slow.sendall(raw(body(system="x" * 300_000))[:-250_000])
        said = drip(slow, b" " * 400 * size, size)
    assert b" 408 " in said
    assert b"less than 6000 bytes of the request's body arrived within 0.3 seconds" in said


def test_a_body_that_moves_may_take_its_time(client: Client, backend: ScriptedBackend) -> None:
    backend.says(whole(200, completion()))
    data = raw(body(system="x" * 900_000))
    for n in range(0, len(data), 30_000):  # longer than the patience in all
        client.socket.sendall(data[n : n + 30_000])
        Event().wait(0.02)
    assert Answer.of(client.send(b"")).status == 200


def test_the_rest_of_a_refused_body_is_not_waited_for_for_ever(client: Client) -> None:
    assert Answer.of(client.send(raw(body(), x_api_key="wrong")[:-5])).status == 401
    assert rest(client.socket) == b""


def test_a_client_that_does_not_read_its_answer_is_given_up(
    client: Client, backend: ScriptedBackend
) -> None:
    much = sse(delta(content="x" * 1_000_000))
    backend.says(head(), *[much] * 60, Act.UNTIL_GONE)
    client.socket.sendall(raw(body(stream=True)))
    backend.request()
    assert backend.is_gone(within=LIMIT)


def test_a_client_that_does_not_read_a_finished_answer_is_given_up(
    client: Client, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llm_proxy")
    backend.says(whole(200, completion("x" * 12_000_000)))
    client.socket.sendall(raw(body()))
    wait_for("does not read", caplog)
    assert len(rest(client.socket)) < 12_000_000
    answered, given_up = [line.split(" ", 1) for line in caplog.messages if "req_" in line]
    assert " 200 " in answered[1]
    assert given_up == [answered[0], "client does not read: it has not got all of its answer"]


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "under-way"])
def test_a_client_that_reads_slowly_is_not_given_up(
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
    for _ in range(24):  # the system has room for the rest of it, and asks for no more meanwhile
        read = answer.read(10_000)
        Event().wait(0.05)
    while part := answer.read(250_000):
        read = read[-1000:] + part
    assert read.endswith(b"}" if finished else b"\n\n")
    assert finished or b"message_stop" in read


@frozen
class Stall(Stage[T, T]):
    """Has the whole proxy stand still for longer than its patience."""

    async def handle(self, event: T, forward: Send[T]) -> None:
        if isinstance(event, MessageStart):
            Event().wait(1)
        await forward(event)


def test_clients_do_not_pay_for_a_proxy_that_stood_still(
    tmp_path: Path, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    top, end = raw(body(), x_api_key="wrong")[:50], raw(body(), x_api_key="wrong")[50:]
    stalling = declaration(backend.url, stages=["tests.wire.test_abuse:Stall"])
    with proxy(tmp_path, stalling, IMPATIENT) as url, connect(url) as waiting:
        waiting.sendall(top)
        client = Client(url)
        client.socket.sendall(raw(body()))
        backend.request()
        Event().wait(0.2)
        waiting.sendall(end)
        assert waiting.recv(1000).startswith(b"HTTP/1.1 401 ")
        client.leave()


def test_a_client_that_waits_for_a_slow_backend_is_not_given_up(
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
    answer = Answer.of(client.send(data))
    assert answer.error == (431, "invalid_request_error")
    assert "larger than 65536 bytes or has more than 200 headers" in str(answer.json)
    assert rest(client.socket) == b""
    assert len([each for each in caplog.messages if each.startswith("req_")]) == 1


@pytest.mark.parametrize(
    "data",
    [b"5;" + b"x" * 1_000_000, b"0\r\nx: " + b"y" * 1_000_000, b"0" * 1_000_000],
    ids=["extension", "trailer", "zeros"],
)
def test_what_stands_between_two_pieces_of_a_body_is_limited_too(
    data: bytes, client: Client
) -> None:
    assert Answer.of(client.send(chunked(data))).error == (431, "invalid_request_error")


def test_a_trailer_is_no_header(client: Client) -> None:
    without = chunked(b"0\r\nx-api-key: client-key\r\n\r\n").replace(b"x-api-key", b"x-other", 1)
    assert Answer.of(client.send(without)).status == 401


@pytest.mark.parametrize("kind", ["declared", "chunked"])
def test_a_body_of_33_megabytes_is_refused_before_it_is_whole(kind: str, client: Client) -> None:
    data = b"x" * 1_100_000
    if kind == "declared":
        begun = raw(b"", content_length="33000000")
    else:
        begun = chunked(b"1f78a40\r\n" + data)
    assert Answer.of(client.send(begun)).error == (413, "request_too_large")
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
    client.leave()


@pytest.mark.parametrize("packed", [b"\x1f\x8b", b"{}"], ids=["truncated", "plain"])
def test_a_broken_gzip_body_is_refused(packed: bytes, client: Client) -> None:
    answer = client.post(packed, content_encoding="gzip")
    assert answer.error == (400, "invalid_request_error")
    assert answer.json["error"]["details"] == {"error_code": "request_body_encoding_invalid"}


# ---- two requests in one ----

SECOND = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
END_OF_CHUNKS = b"0\r\n\r\n"


def post(headers: bytes, data: bytes = b"", version: bytes = b"1.1") -> bytes:
    """A request, and behind it what must not be taken for another."""
    start = b"POST /v1/messages HTTP/" + version + b"\r\nhost: x\r\nx-api-key: client-key\r\n"
    return start + headers + b"\r\n\r\n" + data + SECOND


SMUGGLED = {
    "length-and-chunks": post(b"content-length: 5\r\ntransfer-encoding: chunked", END_OF_CHUNKS),
    "chunks-and-length": post(b"transfer-encoding: chunked\r\ncontent-length: 5", END_OF_CHUNKS),
    "two-lengths": post(b"content-length: 5\r\ncontent-length: 6", b"abcde"),
    "the-same-twice": post(b"content-length: 5\r\ncontent-length: 5", b"abcde"),
    "a-list-of-lengths": post(b"content-length: 5, 5", b"abcde"),
    "a-signed-length": post(b"content-length: +5", b"abcde"),
    "a-huge-length": post(b"content-length: 99999999999999999999999", b"abcde"),
    "unknown-coding": post(b"transfer-encoding: xchunked", END_OF_CHUNKS),
    "identity": post(b"transfer-encoding: identity", END_OF_CHUNKS),
    "chunked-not-last": post(b"transfer-encoding: chunked, identity", END_OF_CHUNKS),
    "chunked-twice": post(b"transfer-encoding: chunked\r\ntransfer-encoding: chunked"),
    "space-before-colon": post(b"transfer-encoding : chunked", END_OF_CHUNKS),
    "vertical-tab": post(b"transfer-encoding: \x0bchunked", END_OF_CHUNKS),
    "fold": post(b"x: a\r\n content-length: 5", b"abcde"),
    "fold-of-chunked": post(b"transfer-encoding:\r\n chunked", END_OF_CHUNKS),
    "bare-lf": post(b"x: a\ncontent-length: 5", b"abcde"),
    "bare-cr": post(b"x: a\rcontent-length: 5", b"abcde"),
    "nul": post(b"x: a\0b"),
    "no-colon": post(b"content-length"),
    "no-name": post(b": 5"),
    "extension-with-lf": post(b"transfer-encoding: chunked", b"5;a\nabcde\r\n0\r\n\r\n"),
    "empty-extension": post(b"transfer-encoding: chunked", b"5;\r\nabcde\r\n0\r\n\r\n"),
    "chunk-with-lf": post(b"transfer-encoding: chunked", b"5\nabcde\n0\n\n"),
    "chunk-with-0x": post(b"transfer-encoding: chunked", b"0x5\r\nabcde\r\n0\r\n\r\n"),
    "chunk-with-space": post(b"transfer-encoding: chunked", b"5 \r\nabcde\r\n0\r\n\r\n"),
    "huge-chunk": post(b"transfer-encoding: chunked", b"fffffffffffffffff\r\nabcde\r\n0\r\n\r\n"),
    "chunk-too-long": post(b"transfer-encoding: chunked", b"5\r\nabcdef\r\n0\r\n\r\n"),
    "trailer-with-length": post(b"transfer-encoding: chunked", b"0\r\ncontent-length: 7\r\n\r\n"),
    "bare-lf-everywhere": post(b"content-length: 5", b"abcde").replace(b"\r\n", b"\n"),
    "http-1.2": post(b"content-length: 0", version=b"1.2"),
    "http-2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SECOND,
    "space-first": b" GET / HTTP/1.1\r\n\r\n" + SECOND,
    "space-behind-the-line": b"GET / HTTP/1.1\r\n x: y\r\n\r\n" + SECOND,
    "not-ascii": b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n" + SECOND,
    "no-path": b"GET http://x HTTP/1.1\r\n\r\n" + SECOND,
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("data", SMUGGLED.values(), ids=SMUGGLED)
def test_what_could_be_read_as_two_requests_is_refused_and_nothing_behind_it_is_answered(
    data: bytes, client: Client, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answer = Answer.of(client.send(data))
    assert answer.error == (400, "invalid_request_error")
    assert rest(client.socket) == b""
    assert not backend.requests
    lines = [each for each in caplog.messages if " 400 " in each and each.startswith("req_")]
    assert [line.split()[0] for line in lines] == [answer.headers["request-id"]]


@pytest.mark.parametrize(
    ("name", "conflict"),
    [
        ("length-and-chunks", "both Transfer-Encoding and Content-Length"),
        ("chunks-and-length", "both Transfer-Encoding and Content-Length"),
        ("two-lengths", "more than one Content-Length"),
        ("the-same-twice", "more than one Content-Length"),
    ],
)
def test_a_conflict_of_lengths_is_named(name: str, conflict: str, client: Client) -> None:
    message = Answer.of(client.send(SMUGGLED[name])).json["error"]["message"]
    assert message.startswith(f"the request has {conflict}: send only one")


@pytest.mark.parametrize("encoding", ["", " ", "identity"])
def test_an_empty_content_encoding_is_identity(
    encoding: str, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    assert client.post(body(), content_encoding=encoding).status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"CONNECT a:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n",
        b"GET /health HTTP/1.0\r\n\r\n",
        b"GET /health\r\n\r\n",
    ],
    ids=["connect", "close", "http-1.0", "http-0.9"],
)
def test_behind_a_last_request_nothing_is_answered(data: bytes, client: Client) -> None:
    client.socket.sendall(data + SECOND)
    assert rest(client.socket).count(b"\r\nrequest-id: ") == 1


@pytest.mark.parametrize(
    "data",
    [
        b"GET http://elsewhere/health HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nabcde",
        b"GET /health HTTP/1.1\r\nhost: x\r\ntransfer-encoding:\tchunked\r\n\r\n5;a=b\r\nabcde\r\n"
        + END_OF_CHUNKS,
    ],
    ids=["absolute-form", "a-body", "an-extension"],
)
def test_what_is_odd_but_plain_is_one_request_and_what_is_behind_it_the_next(
    data: bytes, client: Client
) -> None:
    for _ in range(2):
        assert Answer.of(client.send(data, "GET")).status == 200
    assert client.get("/health").status == 200


def test_behind_an_offer_of_another_protocol_nothing_is_answered(client: Client) -> None:
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.socket.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nup")
    Event().wait(0.05)  # in two packets, so that the offer is not taken out
    client.socket.sendall(b"grade: websocket\r\n\r\n" + SECOND)
    said = rest(client.socket)
    assert said.startswith(b"HTTP/1.1 200")
    assert said.count(b"\r\nrequest-id: ") == 1


def test_nonsense_behind_a_request_does_not_stand_in_its_answer(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hello")), Act.UNTIL_GONE)
    client.send(raw(body(stream=True)))
    assert client.event()["type"] == "message_start"
    client.socket.sendall(b"\0\0\0")
    assert b"HTTP/1.1" not in rest(client.socket)
    assert backend.is_gone()


def test_a_bomb_of_json_is_refused_in_no_time(client: Client) -> None:
    bombs = [
        b'{"messages": [' + b"{}," * 330_000 + b"{}]}",
        b'{"messages": [{"role": "user", "content": [' + b"0," * 470_000 + b"0]}]}",
        b"[" * 990_000,
        b'{"a": 1e' + b"9" * 900_000 + b"}",
        b'{"a": ' + b"9" * 900_000 + b"}",
    ]
    for bomb in bombs:
        assert client.post(bomb).error == (400, "invalid_request_error")


def test_a_chunk_of_a_body_after_another_is_put_together(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    data = raw(body()).partition(b"\r\n\r\n")[2]
    pieces = b"".join(piece(data[n : n + 7]) for n in range(0, len(data), 7))
    assert Answer.of(client.send(chunked(pieces + END_OF_CHUNKS))).status == 200
