"""Streams through the proxy, as the bytes come."""

from __future__ import annotations

import json
from threading import Event

import pytest

from tests.grammar import parse_sse
from tests.support import body
from tests.wire.backend import Act, ScriptedBackend
from tests.wire.chat import (
    DONE,
    END,
    HELLO,
    completion,
    delta,
    head,
    http_chunk,
    sse,
    streamed,
    whole,
)
from tests.wire.client import Client, raw


def types(events: list[dict[str, object]]) -> list[object]:
    """The types of events, deltas of one block in one."""
    found = [event["type"] for event in events]
    return [each for n, each in enumerate(found) if n == 0 or each != found[n - 1]]


WHOLE = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
]


def test_each_delta_is_sent_before_the_next_arrives(
    client: Client, backend: ScriptedBackend
) -> None:
    words = ["One", " two", " three"]
    holds = [Event() for _ in words]
    steps = [
        step
        for word, hold in zip(words, holds, strict=True)
        for step in (sse(delta(content=word)), hold)
    ]
    backend.says(head(), *steps, sse(delta("stop")), DONE, END)
    client.send(raw(body(stream=True)))
    assert [client.event()["type"] for _ in range(2)] == WHOLE[:2]
    for word, hold in zip(words, holds, strict=True):
        assert client.event()["delta"] == {"type": "text_delta", "text": word}
        hold.set()
    assert types(parse_sse(client.response.read())) == WHOLE[3:]


def test_the_head_is_sent_with_the_first_content(client: Client, backend: ScriptedBackend) -> None:
    hold = Event()
    backend.says(head(), HELLO, hold, sse(delta("stop")), DONE, END)
    answer = client.send(raw(body(stream=True)))
    assert answer.getheader("content-type") == "text/event-stream; charset=utf-8"
    assert answer.getheader("cache-control") == "no-cache"
    assert answer.getheader("x-accel-buffering") == "no"
    assert answer.getheader("transfer-encoding") == "chunked"
    assert client.event()["type"] == "message_start"
    hold.set()
    assert types(parse_sse(answer.read())) == WHOLE[1:]


def test_a_stream_obeys_the_grammar_and_its_connection_is_used_again(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(streamed("Hello", " there"))
    for _ in range(2):
        events = client.post(body(stream=True)).events
        assert types(events) == WHOLE
        texts = [e["delta"]["text"] for e in events if "delta" in e and "index" in e]
        assert "".join(texts) == "Hello there"
    assert backend.connections == 1


#: Texts may hold what some line splitters take for the end of a line.
ODD = "Ünï 漢\u2028\u2029\u0085\x0b字 🙂"


@pytest.mark.parametrize("size", [1, 7, 100])
def test_pieces_of_any_size_make_the_same_events(
    size: int, client: Client, backend: ScriptedBackend
) -> None:
    said = json.dumps(delta(content=ODD), ensure_ascii=False)
    data = f": hi\n\nevent: x\nid: 1\ndata: {said}\r\n\r\ndata: [DONE]".encode()
    pieces = [http_chunk(data[n : n + size]) for n in range(0, len(data), size)]
    backend.says(head(), *pieces, END)
    events = client.post(body(stream=True)).events
    assert types(events) == WHOLE
    assert events[2]["delta"]["text"] == ODD


def test_nothing_after_the_end_delays_the_response(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta("stop", content="Hi")), DONE, Act.UNTIL_CLOSED)
    assert types(client.post(body(stream=True)).events) == WHOLE
    assert backend.is_closed()


def test_a_fast_backend_is_streamed_too(client: Client, backend: ScriptedBackend) -> None:
    backend.says(whole(200, completion("Hello")))
    events = client.post(body(stream=True)).events
    assert types(events) == WHOLE
    assert events[2]["delta"]["text"] == "Hello"


def test_a_response_without_a_content_type_is_accepted(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(streamed("Hello").replace(b"content-type: text/event-stream\r\n", b""))
    assert types(client.post(body(stream=True)).events) == WHOLE


def test_a_stream_with_a_finish_reason_needs_no_done(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hi"), delta("stop")), END)
    assert types(client.post(body(stream=True)).events) == WHOLE


def test_two_streams_at_once_do_not_mix(url: str, backend: ScriptedBackend) -> None:
    holds = [Event(), Event()]
    for word, hold in zip(["one", "two"], holds, strict=True):
        backend.says(head(), sse(delta(content=word)), hold, sse(delta("stop")), END)
    clients = [Client(url), Client(url)]
    for number, client in enumerate(clients):
        client.send(raw(body(stream=True)))
        backend.request(number)
    for client, hold, word in zip(reversed(clients), reversed(holds), ["two", "one"], strict=True):
        hold.set()
        assert word in str(parse_sse(client.response.read()))
        client.close()
