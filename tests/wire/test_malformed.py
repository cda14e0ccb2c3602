"""Malformed bodies, one after another, over connections that serve on."""

from __future__ import annotations

import pytest

from tests.malformed import MALFORMED
from tests.support import body
from tests.waiting import logged
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import completion, whole
from tests.wire.client import Client

GOOD = whole(200, completion())


#: Each eighth row. tests/stages/messages_api/test_malformed.py has all of them.
ROWS = MALFORMED[::8][:20]


def test_malformed_bodies_keep_the_connection_usable(
    client: Client, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.says(GOOD)
    wrong: list[tuple[object, ...]] = []
    ids = set()
    for name, data, status, kind, start in ROWS:
        response = client.post(data)
        message = response.json["error"]["message"]
        if response.error != (status, kind) or not message.startswith(start):
            wrong.append((name, response.error, message))
        ids.add(response.headers["request-id"])
        good = client.post(body())
        if good.status != 200:
            wrong.append((name, "the next request fails"))

    assert not wrong
    assert len(ids) == len(ROWS)
    assert len(backend.requests) == len(ROWS)
    logged(caplog, good.headers["request-id"])  # after the lines of all earlier requests
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


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
