"""Keep-alives of a silent backend, as a client sees them."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import pytest

from tests.grammar import check_grammar
from tests.support import body
from tests.wire.backend import Act, ScriptedBackend
from tests.wire.chat import DONE, END, completion, delta, head, sse, streamed, whole
from tests.wire.client import Client, error_in, raw
from tests.wire.proxy import SharedProxy, config_text, proxy_with_backend

INTERVAL = 0.05  # seconds


@pytest.fixture(scope="module")
def shared_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProxy]:
    def config_for(url: str) -> str:
        pinging = f"- translate-out: {{ping_interval: {INTERVAL}}}"
        return config_text(url).replace("- translate-out", pinging)

    with proxy_with_backend(tmp_path_factory.mktemp("pinging"), config_for) as shared:
        yield shared


def test_pitfall_22_a_silent_prompt_gets_keep_alives(
    client: Client, backend: ScriptedBackend
) -> None:
    read = Event()
    backend.says(read, streamed("Hello", " there"))
    client.send(raw(body(stream=True)))
    events = [client.event() for _ in range(4)]
    assert [event["type"] for event in events] == ["message_start", "ping", "ping", "ping"]
    read.set()
    while events[-1]["type"] != "message_stop":
        events.append(client.event())
    assert client.response.read() == b""
    check_grammar(events)
    texts = [event["delta"]["text"] for event in events if "delta" in event and "index" in event]
    assert "".join(texts) == "Hello there"


def test_pitfall_22_silent_thinking_gets_keep_alives(
    client: Client, backend: ScriptedBackend
) -> None:
    thought = Event()
    end = sse(delta("stop", content=" there")) + DONE + END
    backend.says(head(), sse(delta(content="Hello")), thought, end)
    client.send(raw(body(stream=True)))
    events = [client.event()]
    while events[-1]["type"] != "content_block_delta":  # a ping may come before, on a busy machine
        events.append(client.event())
    events += [client.event(), client.event()]
    assert [event["type"] for event in events[-2:]] == ["ping", "ping"]
    thought.set()
    while events[-1]["type"] != "message_stop":
        events.append(client.event())
    check_grammar(events)


@pytest.mark.parametrize("after", [[whole(429, {"error": {"message": "no"}})], [Act.RESET]])
def test_a_failure_after_keep_alives_is_an_error_event(
    after: list[bytes | Act], client: Client, backend: ScriptedBackend
) -> None:
    pinged = Event()
    backend.says(pinged, *after)
    client.send(raw(body(stream=True)))
    events = [client.event() for _ in range(3)]
    pinged.set()
    while events[-1]["type"] != "error":
        events.append(client.event())
    assert client.response.read() == b""
    check_grammar(events, whole=False)
    assert {event["type"] for event in events[2:-1]} <= {"ping"}
    error_in(events[-1])


def test_a_disconnect_during_keep_alives_ends_the_call(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(Act.UNTIL_CLOSED)
    client.send(raw(body(stream=True)))
    assert [client.event()["type"] for _ in range(2)] == ["message_start", "ping"]
    client.close()
    assert backend.is_closed()


def test_an_unstreamed_response_gets_no_keep_alives(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(INTERVAL * 4, whole(200, completion("Hello")))
    assert client.post(body()).json["content"][0]["text"] == "Hello"
