"""Malformed bodies, one after another, over connections that serve on."""

from __future__ import annotations

import pytest

from tests.malformed import MALFORMED
from tests.support import body
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import completion, whole
from tests.wire.client import Client

GOOD = whole(200, completion())


def test_malformed_bodies_keep_the_connection_usable(
    client: Client, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.says(GOOD)
    answers = [client.post(row[1]) for row in MALFORMED]
    assert [answer.error for answer in answers] == [(row[2], row[3]) for row in MALFORMED]
    messages = [answer.json["error"]["message"] for answer in answers]
    assert not [m for m, row in zip(messages, MALFORMED, strict=True) if not m.startswith(row[4])]
    assert all(answer.status < 500 for answer in answers)
    ids = {answer.headers["request-id"] for answer in answers}
    assert len(ids) == len(MALFORMED)
    assert client.post(body()).status == 200
    assert len(backend.requests) == 1
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


@pytest.mark.parametrize("row", MALFORMED[::8], ids=[row[0] for row in MALFORMED[::8]])
def test_a_malformed_body_is_refused_and_the_next_request_is_served(
    row: tuple[str, bytes, int, str, str], client: Client, backend: ScriptedBackend
) -> None:
    backend.says(GOOD)
    assert client.post(row[1]).error == row[2:4]
    assert client.post(body()).status == 200
    assert len(backend.requests) == 1


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/messages HTTP/9.9\r\n\r\n",
        b"BREW /v1/messages HTTP/1.1\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\ncontent-length: ten\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\ncontent-length: %b\r\n\r\n" % (b"9" * 5000),
        b"POST /v1/messages HTTP/1.1\r\nbad header: 1\r\n\r\n",
        b"POST /\xff HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
    ids=["version", "method", "length", "lengths", "huge", "header", "path", "tls"],
)
def test_bytes_that_are_not_http_are_a_400_and_close_the_connection(
    head: bytes, url: str, client: Client
) -> None:
    assert client.send(head).status == 400
    assert client.response.read()
    assert client.socket.recv(1) == b""
    another = Client(url)
    assert another.get("/health").status == 200
    another.close()
