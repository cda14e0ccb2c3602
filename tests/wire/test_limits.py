"""Limits of a response over sockets: the window, stop sequences, and the reported usage."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.grammar import check_grammar
from tests.support import body
from tests.wire.agents import create, sdk
from tests.wire.backend import Act, ScriptedBackend
from tests.wire.chat import DONE, END, completion, delta, head, sse, streamed, whole
from tests.wire.client import Client
from tests.wire.proxy import config_text, proxy

EXCESS = (
    "This model's maximum context length is 120 tokens. However, you requested 140 tokens "
    "(40 in the messages, 100 in the completion). Please reduce the length of the messages."
)


def test_a_stop_sequence_ends_the_stream_and_the_backend_call(
    client: Client, backend: ScriptedBackend
) -> None:
    parts = [sse(delta(content=each)) for each in ("One E", "N", "D two")]
    backend.says(head(), *parts, Act.UNTIL_CLOSED)
    events = client.post(body(stream=True, stop_sequences=["END"])).events
    check_grammar(events)
    texts = [each["delta"]["text"] for each in events if each["type"] == "content_block_delta"]
    assert "".join(texts) == "One "
    assert events[-2]["delta"]["stop_reason"] == "stop_sequence"
    assert events[-2]["delta"]["stop_sequence"] == "END"
    assert backend.is_closed()
    assert "stop" not in backend.request().body


def test_a_stop_sequence_ends_the_call_of_an_unstreamed_response(
    client: Client, backend: ScriptedBackend
) -> None:
    parts = [sse(delta(content=each)) for each in ("One E", "N", "D two")]
    backend.says(head(), *parts, Act.UNTIL_CLOSED)
    answer = client.post(body(stop_sequences=["END"]))
    assert [block["text"] for block in answer.json["content"]] == ["One "]
    assert answer.json["stop_sequence"] == "END"
    assert answer.headers["x-llm-proxy-usage"] == "estimated"
    assert backend.is_closed()
    assert backend.request().body["stream"] is True


def test_a_stop_sequence_cuts_an_unstreamed_response(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion("One END two")))
    made = client.post(body(stop_sequences=["END", "x"])).json
    assert [block["text"] for block in made["content"]] == ["One "]
    assert (made["stop_reason"], made["stop_sequence"]) == ("stop_sequence", "END")
    # The connections of client and backend can go on.
    assert client.post(body()).status == 200


def test_the_official_sdk_gets_the_stop_sequence(url: str, backend: ScriptedBackend) -> None:
    backend.says(head(), sse(delta(content="One END two")), Act.UNTIL_CLOSED)
    with sdk(url) as official:
        message = create(official, True, body(stop_sequences=["END"]))
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")
    assert message.usage.output_tokens >= 1


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_pitfall_31_a_limit_that_does_not_fit_is_lowered(
    stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(whole(400, {"error": {"message": EXCESS, "code": "context_length_exceeded"}}))
    cut = [delta(content="Hello"), delta("length")]
    if stream:
        backend.says(head() + sse(*cut) + DONE + END)
        delta_ = client.post(body(stream=True)).events[-2]["delta"]
    else:
        made = completion()
        made["choices"][0]["finish_reason"] = "length"
        backend.says(whole(200, made))
        delta_ = client.post(body()).json
    assert delta_["stop_reason"] == "model_context_window_exceeded"
    assert backend.request(1).body["max_tokens"] == 79


def test_a_cache_is_warmed_without_a_response(client: Client, backend: ScriptedBackend) -> None:
    made = completion("The")
    made["choices"][0]["finish_reason"] = "length"
    backend.says(whole(200, made))
    answer = client.post(body(max_tokens=0)).json
    assert backend.request().body["max_tokens"] == 1
    assert (answer["content"], answer["stop_reason"]) == ([], "max_tokens")
    assert (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]) == (12, 0)


def test_estimated_usage_is_marked(client: Client, backend: ScriptedBackend) -> None:
    silent = {**completion(), "usage": None}
    backend.says(streamed("Hello"))
    backend.says(whole(200, silent))
    backend.says(whole(200, completion()))
    assert b"\n\n: usage estimated\nevent: message_delta\n" in client.post(body(stream=True)).body
    assert client.post(body()).headers["x-llm-proxy-usage"] == "estimated"
    assert "x-llm-proxy-usage" not in client.post(body()).headers


def test_pitfall_12_counts_are_calibrated_by_usage(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    long = body(system="word " * 4000, max_tokens=None)
    with proxy(tmp_path, config_text(backend.url)) as url:
        client = Client(url)
        before = client.post(long, "/v1/messages/count_tokens").json["input_tokens"]
        used = {"prompt_tokens": before * 2, "completion_tokens": 3}
        backend.says(whole(200, {**completion(), "usage": used}))
        assert client.post({**long, "max_tokens": 10}).status == 200
        answer = client.post(long, "/v1/messages/count_tokens")
        client.close()
    backend.close()
    assert answer.headers["x-llm-proxy-token-count"] == "estimated"
    assert 1.8 < answer.json["input_tokens"] / before < 2.1
