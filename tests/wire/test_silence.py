"""A silent backend: the client gets a timeout, and each byte restarts the clock."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.support import body
from tests.wire.backend import Act, ScriptedBackend, Step
from tests.wire.chat import DONE, END, completion, delta, head, http_chunk, sse, whole
from tests.wire.client import MODES, Client, error_in
from tests.wire.proxy import SharedProxy, config_text, proxy_with_backend

IDLE = 0.25  # seconds


@pytest.fixture(scope="module")
def shared_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProxy]:
    config_for = partial(config_text, invoke=f"invoke: {{idle_timeout: {IDLE}}}")
    with proxy_with_backend(tmp_path_factory.mktemp("impatient"), config_for) as shared:
        yield shared


@MODES
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n"], ids=["nothing", "half-a-head"])
def test_silence_before_the_first_chunk_is_a_timeout(
    said: bytes, stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(said, Act.UNTIL_CLOSED)
    answer = client.post(body(stream=stream))
    assert answer.error == (504, "timeout_error")
    assert "`scripted` was silent for too long" in answer.json["error"]["message"]
    assert backend.is_closed()
    assert len(backend.requests) == 1


@pytest.mark.parametrize("said", [b"", b": comment\n\n", b"data: {"])
def test_silence_after_the_head_is_a_timeout(
    said: bytes, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(), *[http_chunk(said)] if said else [], Act.UNTIL_CLOSED)
    assert client.post(body(stream=True)).error == (504, "timeout_error")
    assert backend.is_closed()


@pytest.mark.parametrize("status", [200, 500])
def test_silence_in_an_unstreamed_response_is_a_timeout(
    status: int, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(status, "application/json"), http_chunk(b'{"choi'), Act.UNTIL_CLOSED)
    assert client.post(body()).error == (504, "timeout_error")
    assert backend.is_closed()


def test_silence_in_the_middle_of_a_stream_is_an_error_event(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hello")), Act.UNTIL_CLOSED)
    events = client.post(body(stream=True)).events
    assert [event["type"] for event in events[2:]] == ["content_block_delta", "error"]
    assert error_in(events[-1])[0] == "timeout_error"
    assert backend.is_closed()


def test_the_proxy_serves_on_after_a_timeout(client: Client, backend: ScriptedBackend) -> None:
    backend.says(Act.UNTIL_CLOSED)
    backend.says(whole(200, completion()))
    assert client.post(body()).status == 504
    assert client.post(body()).status == 200


@pytest.mark.parametrize(
    "sign", [b": ping\n\n", b"\n", b"event: "], ids=["comment", "line", "half"]
)
def test_each_byte_of_the_backend_restarts_the_timeout(
    sign: bytes, client: Client, backend: ScriptedBackend
) -> None:
    signs: list[Step] = [http_chunk(sign), IDLE / 6] * 9  # longer than IDLE in all
    backend.says(head(), *signs, http_chunk(b"\n"), sse(delta("stop", content="Hi")), DONE, END)
    assert client.post(body(stream=True)).events[-1]["type"] == "message_stop"
