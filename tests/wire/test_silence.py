"""A backend that falls silent: the client is told, and the clock starts anew with each byte."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.support import body
from tests.wire.backend import Act, ScriptedBackend, Step
from tests.wire.chat import DONE, END, completion, delta, head, piece, sse, whole
from tests.wire.client import MODES, Client, error_in
from tests.wire.proxy import Lasting, declaration, lasting_proxy

IDLE = 0.25  # seconds


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lasting]:
    declared = partial(declaration, invoke=f"invoke: {{idle_timeout: {IDLE}}}")
    with lasting_proxy(tmp_path_factory.mktemp("impatient"), declared) as made:
        yield made


@MODES
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n"], ids=["nothing", "half-a-head"])
def test_silence_before_the_first_chunk_is_a_timeout(
    said: bytes, stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(said, Act.UNTIL_GONE)
    answer = client.post(body(stream=stream))
    assert answer.error == (504, "timeout_error")
    assert "`scripted` was silent for too long" in answer.json["error"]["message"]
    assert backend.is_gone()
    assert len(backend.requests) == 1


@pytest.mark.parametrize("said", [b"", b": comment\n\n", b"data: {"])
def test_silence_after_the_head_is_a_timeout(
    said: bytes, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(), *[piece(said)] if said else [], Act.UNTIL_GONE)
    assert client.post(body(stream=True)).error == (504, "timeout_error")
    assert backend.is_gone()


@pytest.mark.parametrize("status", [200, 500])
def test_silence_in_the_middle_of_a_whole_answer_is_a_timeout(
    status: int, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(status, "application/json"), piece(b'{"choi'), Act.UNTIL_GONE)
    assert client.post(body()).error == (504, "timeout_error")
    assert backend.is_gone()


def test_silence_in_the_middle_of_a_stream_is_an_error_event(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hello")), Act.UNTIL_GONE)
    events = client.post(body(stream=True)).events
    assert [event["type"] for event in events[2:]] == ["content_block_delta", "error"]
    assert error_in(events[-1])[0] == "timeout_error"
    assert backend.is_gone()


def test_the_proxy_serves_on_after_a_timeout(client: Client, backend: ScriptedBackend) -> None:
    backend.says(Act.UNTIL_GONE)
    backend.says(whole(200, completion()))
    assert client.post(body()).status == 504
    assert client.post(body()).status == 200


@pytest.mark.parametrize(
    "sign", [b": ping\n\n", b"\n", b"event: "], ids=["comment", "line", "half"]
)
def test_each_byte_of_the_backend_starts_the_clock_anew(
    sign: bytes, client: Client, backend: ScriptedBackend
) -> None:
    signs: list[Step] = [piece(sign), IDLE / 6] * 9  # longer than IDLE in all
    backend.says(head(), *signs, piece(b"\n"), sse(delta("stop", content="Hi")), DONE, END)
    assert client.post(body(stream=True)).events[-1]["type"] == "message_stop"
