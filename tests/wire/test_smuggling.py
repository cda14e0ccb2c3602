"""Bytes that could be read as two requests, or that follow a last one."""

from __future__ import annotations

import logging
import socket
from threading import Event

import pytest

from tests.support import body
from tests.waiting import logged
from tests.wire.backend import Act, ScriptedBackend
from tests.wire.chat import completion, delta, head, http_chunk, sse, whole
from tests.wire.client import Client, Response, raw
from tests.wire.impatient import chunked, rest
from tests.wire.impatient import shared_proxy as shared_proxy  # the fixture of this module

SECOND = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
END_OF_CHUNKS = b"0\r\n\r\n"


def post(headers: bytes, data: bytes = b"", version: bytes = b"1.1") -> bytes:
    """A request, and after it bytes that must not become another one."""
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
def test_ambiguous_requests_are_refused_and_end_the_connection(
    data: bytes, client: Client, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answer = Response.of(client.send(data))
    assert answer.error == (400, "invalid_request_error")
    assert rest(client.socket) == b""
    assert not backend.requests
    assert " 400 " in logged(caplog, answer.headers["request-id"])


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
    message = Response.of(client.send(SMUGGLED[name])).json["error"]["message"]
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
def test_nothing_after_the_last_request_is_served(data: bytes, client: Client) -> None:
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
def test_odd_but_unambiguous_requests_are_served(data: bytes, client: Client) -> None:
    for _ in range(2):
        assert Response.of(client.send(data, "GET")).status == 200
    assert client.get("/health").status == 200


def test_nothing_after_an_upgrade_is_served(client: Client) -> None:
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.socket.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nup")
    Event().wait(0.05)  # in two packets, so that the offer is not taken out
    client.socket.sendall(b"grade: websocket\r\n\r\n" + SECOND)
    said = rest(client.socket)
    assert said.startswith(b"HTTP/1.1 200")
    assert said.count(b"\r\nrequest-id: ") == 1


def test_garbage_after_a_request_is_not_in_its_response(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hello")), Act.UNTIL_CLOSED)
    client.send(raw(body(stream=True)))
    assert client.event()["type"] == "message_start"
    client.socket.sendall(b"\0\0\0")
    assert b"HTTP/1.1" not in rest(client.socket)
    assert backend.is_closed()


def test_deep_json_is_refused_fast(client: Client) -> None:
    bombs = [
        b'{"messages": [' + b"{}," * 330_000 + b"{}]}",
        b'{"messages": [{"role": "user", "content": [' + b"0," * 470_000 + b"0]}]}",
        b"[" * 990_000,
        b'{"a": 1e' + b"9" * 900_000 + b"}",
        b'{"a": ' + b"9" * 900_000 + b"}",
    ]
    for bomb in bombs:
        assert client.post(bomb).error == (400, "invalid_request_error")


def test_the_chunks_of_a_body_are_joined(client: Client, backend: ScriptedBackend) -> None:
    backend.says(whole(200, completion()))
    data = raw(body()).partition(b"\r\n\r\n")[2]
    pieces = b"".join(http_chunk(data[n : n + 7]) for n in range(0, len(data), 7))
    assert Response.of(client.send(chunked(pieces + END_OF_CHUNKS))).status == 200
