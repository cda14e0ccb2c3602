"""Each fault of a backend, streamed and not: an error of the API or the right answer, and no more.

What each fault is called by is in test_faults.py, test_silence.py and test_certificates.py; here it
is that none is missing, and that after each of them the proxy is as it was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.support import body
from tests.waiting import logged
from tests.wire.backend import LIMIT, Act, ScriptedBackend, Step
from tests.wire.chat import DONE, END, completion, delta, head, http_chunk, sse, streamed, whole
from tests.wire.client import MODES, Client, error_in, raw
from tests.wire.proxy import config_text, proxy

# fmt: off
STATUSES = (
    201, 202, 203, 204, 205, 206, 226, 300, 301, 302, 303, 304, 305, 307, 308, 400,
    401, 402, 403, 404, 405, 406, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417,
    418, 421, 422, 424, 425, 426, 428, 429, 431, 451, 498, 499, 500, 501, 502, 503,
    504, 505, 507, 508, 511, 520, 521, 522, 523, 524, 525, 526, 529, 530, 599, 600,
    999,
)
# fmt: on
BODIES: dict[str, list[bytes]] = {
    "nothing": [b"content-length: 0\r\n\r\n"],
    "json": [b'content-type: application/json\r\n\r\n{"error": {"message": "No"}}'],
    "odd-json": [b'content-type: application/json\r\n\r\n[{"error": [1]}]'],
    "html": [b"content-type: text/html\r\n\r\n<html><h1>No"],
    "no-text": [b"content-type: application/json\r\n\r\n\xff\xfe\x00"],
    "events": [b'content-type: text/event-stream\r\n\r\ndata: {"error": "No"}\n\n'],
    "elsewhere": [b"location: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"],
    "retry": [b"retry-after: 5\r\nretry-after-ms: 5000\r\nx-should-retry: true\r\n\r\n"],
}


def recovers(url: str, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture) -> None:
    """Check that the next request succeeds, on a connection of its own, and wait for its log line.

    The log lines of earlier requests come before it.
    """
    backend.responses = [[whole(200, completion())]]
    client = Client(url)
    answer = client.post(body())
    client.close()
    assert answer.status == 200
    logged(caplog, answer.headers["request-id"])


#: With each body on a socket: without a body, redirects, and those that a client may repeat.
SPECIAL = (204, 301, 304, 307, 401, 429, 503)


def statuses(name: str) -> list[int]:
    """Each status is sent with one of the bodies; test_errors.py has all pairs."""
    redirects = range(300, 309) if name == "elsewhere" else ()
    each = STATUSES[list(BODIES).index(name) :: len(BODIES)]
    return sorted({*SPECIAL, *redirects, *each})


@MODES
@pytest.mark.parametrize("name", BODIES)
def test_each_status_but_success_is_an_error(
    name: str,
    stream: bool,
    url: str,
    backend: ScriptedBackend,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for status in statuses(name):
        backend.responses = [[b"HTTP/1.1 %d Whatever\r\n" % status, *BODIES[name], Act.CLOSE]]
        client = Client(url)
        answer = client.post(body(stream=stream))
        assert answer.error[0] >= 400, status
        assert "retry-after-ms" not in answer.headers
        client.close()
    assert len(backend.requests) == len(statuses(name))  # no redirect was followed
    recovers(url, backend, caplog)
    errors = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
    expected = ("refuses its key", "redirects to")
    assert [each for each in errors if not any(words in each for words in expected)] == []


LARGE = b"x" * 1_000_000
#: Bytes that the backend sends in place of a valid response, or before one.
BROKEN: dict[str, Sequence[Step]] = {
    "giant-status-line": [b"HTTP/1.1 200 " + LARGE + b"\r\n\r\n", Act.CLOSE],
    "giant-header": [b"HTTP/1.1 200 OK\r\nx: " + LARGE + b"\r\n\r\n", Act.CLOSE],
    "many-headers": [b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000 + b"\r\n", Act.CLOSE],
    "no-colon": [b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", Act.CLOSE],
    "bad-length": [b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n{}", Act.CLOSE],
    "short-length": [b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{}", Act.CLOSE],
    "long-length": [b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}", Act.CLOSE],
    "two-lengths": [b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}"],
    "length-and-chunks": [
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        Act.CLOSE,
    ],
    "unknown-coding": [b"HTTP/1.1 200 OK\r\ntransfer-encoding: x\r\n\r\n{}", Act.CLOSE],
    "bad-deflate": [whole(200, b"nonsense", content_encoding="deflate"), Act.CLOSE],
    "unknown-packing": [whole(200, b"nonsense", content_encoding="x"), Act.CLOSE],
    "switches-protocols": [b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\n\r\n", Act.CLOSE],
    "http-2": [b"\0\0\0\x04\0\0\0\0\0", Act.CLOSE],
    "tls": [b"\x15\x03\x01\x00\x02\x02\x28", Act.CLOSE],
    "http-0.9": [b"<html>Hello", Act.CLOSE],
    "only-line-ends": [b"\r\n" * 1000, Act.CLOSE],
    "continues-for-ever": [b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, Act.CLOSE],
    "hints-then-nothing": [b"HTTP/1.1 103 Early Hints\r\nlink: </>\r\n\r\n", Act.CLOSE],
    "wrong-type": [whole(200, LARGE, "application/octet-stream")],
    "array": [whole(200, b"[" * 100_000)],
    "number": [whole(200, b"9" * 100_000)],
}


@MODES
@pytest.mark.parametrize("steps", BROKEN.values(), ids=BROKEN)
def test_an_invalid_response_is_an_error(
    steps: Sequence[Step],
    stream: bool,
    url: str,
    client: Client,
    backend: ScriptedBackend,
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend.says(*steps)
    assert client.post(body(stream=stream)).error[0] in (500, 529)
    recovers(url, backend, caplog)
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


@MODES
@pytest.mark.parametrize("code", [100, 102, 103])
def test_interim_responses_are_ignored(
    code: int, stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    hint = b"HTTP/1.1 %d Wait\r\nlink: </x>\r\n\r\n" % code
    backend.says(hint * 3 + (streamed("Hello") if stream else whole(200, completion())))
    answer = client.post(body(stream=stream))
    assert answer.status == 200
    assert b"Hello" in answer.body


@pytest.mark.parametrize(
    ("stops", "begin", "more"),
    [
        (None, head(content_type="application/json"), http_chunk(b" " * 1_000_000)),
        (["END"], head(), sse(delta(content="x" * 1_000_000))),
        (["END"], head(), http_chunk((b": %b\n\n" % (b"x" * 1000)) * 1000)),
    ],
    ids=["json", "text", "comments"],
)
def test_an_endless_unstreamed_response_is_an_error(
    stops: list[str] | None, begin: bytes, more: bytes, client: Client, backend: ScriptedBackend
) -> None:
    """Where stop sequences are looked for here, it comes as a stream."""
    backend.says(begin, *[more] * 100, Act.CLOSE)
    answer = client.post(body(stop_sequences=stops))
    assert answer.error == (500, "api_error")
    assert "a response of more than 67108864 bytes" in answer.json["error"]["message"]
    assert backend.is_closed()


def test_an_endless_stream_ends_when_the_client_disconnects(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(), *[sse(delta(content="x" * 10_000))] * 10_000)
    client.send(raw(body(stream=True)))
    for _ in range(20):
        client.event()
    client.close()
    assert backend.is_closed(within=LIMIT)


def test_an_endless_line_is_an_error(client: Client, backend: ScriptedBackend) -> None:
    backend.says(head(), http_chunk(b"data: "), *[http_chunk(LARGE)] * 30, Act.CLOSE)
    answer = client.post(body(stream=True))
    assert answer.error == (500, "api_error")
    assert backend.is_closed(within=LIMIT)


@MODES
@pytest.mark.parametrize("name", ["dns", "tls", "refused", "tls-refused", "tls-silent"])
def test_a_backend_that_cannot_be_reached_is_overloaded(
    name: str, stream: bool, unreachable: tuple[ScriptedBackend, str]
) -> None:
    backend, url = unreachable
    backend.responses = [[b"HTTP/1.1 400 This is no TLS\r\n\r\n"]]
    client = Client(url)
    started = time.monotonic()
    answer = client.post(body(model=f"claude-{name}", stream=stream))
    assert time.monotonic() - started < LIMIT
    client.close()
    assert answer.error == (529, "overloaded_error")
    assert error_in(answer.json)[1].startswith(f"backend `{name}` cannot be reached")


def test_a_host_without_an_address_is_an_error(
    unreachable: tuple[ScriptedBackend, str], caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(unreachable[1])
    answer = client.post(body(model="claude-no-name"))
    client.close()
    assert answer.error == (500, "api_error")
    assert "backend `no-name` could not be called" in answer.json["error"]["message"]
    logged(caplog, answer.headers["request-id"])
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


@pytest.fixture(scope="module")
def unreachable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedBackend, str]]:
    """A proxy of backends that are not where they should be."""
    server, silent = ScriptedBackend(), ScriptedBackend()
    silent.says(Act.UNTIL_CLOSED)
    places = {
        "dns": "http://no-such-host.invalid/v1",
        "no-name": f"http://{'x' * 70}.invalid/v1",
        "tls": server.url.replace("http:", "https:"),
        "refused": "http://127.0.0.1:1/v1",
        "tls-refused": "https://127.0.0.1:1/v1",
        "tls-silent": silent.url.replace("http:", "https:"),
    }
    text = config_text(server.url)
    for name, place in places.items():
        entry = f'{{base_url: "{place}", connect_timeout: 1}}'
        text = text.replace("backends:\n", f"backends:\n  {name}: {entry}\n", 1)
        text = text.replace("models:\n", f"models:\n  claude-{name}: {{backend: {name}}}\n", 1)
    with proxy(tmp_path_factory.mktemp("unreachable"), text) as url:
        yield server, url
    for each in (server, silent):
        each.failures.clear()
        each.close()


@MODES
def test_a_call_that_ends_with_done_and_silence_is_complete(
    stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    if stream:
        backend.says(head(), sse(delta("stop", content="Hi")), DONE, Act.UNTIL_CLOSED)
    else:
        backend.says(whole(200, completion()).removesuffix(END), END, Act.UNTIL_CLOSED)
    assert client.post(body(stream=stream)).status == 200
