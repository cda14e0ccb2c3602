"""How answers end, and what an estimate of the prompt may do: from socket to socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import pytest

from tests.grammar import parse_sse
from tests.support import body
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import DONE, END, delta, head, sse, whole
from tests.wire.client import Client, Response, raw
from tests.wire.proxy import SharedProxy, config_text, proxy_with_backend

# Row L7: recorded with llama.cpp and a configured window

WINDOW = "claude-test: {backend: scripted, model: some-model, overrides: {context_window: 2048}}"
STORY = (
    "You are a gifted writer of very long fairy tales, full of details and dialogue. " * 36,
    "Write a very long story about a dragon and a king.",
)


@pytest.fixture
def shared_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProxy]:
    """A proxy of its own for each test, which has learned nothing, with a window of 2048."""

    def config_for(url: str) -> str:
        plain = "claude-test: {backend: scripted, model: some-model}"
        return config_text(url).replace(plain, WINDOW)

    with proxy_with_backend(tmp_path_factory.mktemp("proxy"), config_for) as shared:
        yield shared


def answered(prompt: int, output: int, reason: str = "stop") -> dict[str, Any]:
    """An unstreamed response with this usage."""
    choice = {"index": 0, "message": {"content": "Once"}, "finish_reason": reason}
    used = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    return {"choices": [choice], "usage": used}


def story(client: Client, **changes: Any) -> Response:
    system, asked = STORY
    messages = [{"role": "user", "content": asked}]
    return client.post(body(system=system, messages=messages, max_tokens=600, **changes))


def small_talk(client: Client, backend: ScriptedBackend, count: int) -> None:
    backend.says(whole(200, answered(34, 1, "length")))
    for n in range(count):
        asked = [{"role": "user", "content": f"What is number {n}?"}]
        assert client.post(body(messages=asked, max_tokens=1)).status == 200


@pytest.mark.parametrize("count", [0, 10, 60])
def test_row_l7_short_requests_do_not_cut_a_long_response(
    count: int, client: Client, backend: ScriptedBackend
) -> None:
    small_talk(client, backend, count)
    backend.forget()
    backend.says(whole(200, answered(639, 600, "length")))
    answer = story(client)
    assert backend.request().body["max_tokens"] == 600
    assert answer.json["stop_reason"] == "max_tokens"


def test_row_l7_message_start_estimates_a_long_prompt_after_short(
    client: Client, backend: ScriptedBackend
) -> None:
    small_talk(client, backend, 60)
    backend.says(head() + sse(delta(content="Once"), delta("stop")) + DONE + END)
    start = story(client, stream=True).events[0]
    # A quarter of its 2,880 bytes; its words are longer than most, so there are 639.
    assert 639 < start["message"]["usage"]["input_tokens"] < 639 * 1.25


def test_row_l7_a_refused_limit_is_repeated_with_one_that_fits(
    client: Client, backend: ScriptedBackend
) -> None:
    said = (
        "This model's maximum context length is 2048 tokens. However, you requested 600 output "
        "tokens and your prompt contains 1874 input tokens, for a total of too many"
    )
    backend.says(whole(400, {"error": {"message": said}}))
    backend.says(whole(200, answered(1874, 173, "length")))
    answer = story(client)
    assert [backend.request(n).body["max_tokens"] for n in (0, 1)] == [600, 173]
    assert answer.json["stop_reason"] == "model_context_window_exceeded"


# Ends


def streamed(*chunks: dict[str, Any]) -> bytes:
    return head() + sse(*chunks) + DONE + END


HALF = delta(content="Half an ans")
BROKEN: dict[str, tuple[dict[str, Any], ...]] = {
    "B1, object": (HALF, {"object": "error", "message": "worker died", "code": 500}),
    "B1, error_code": (HALF, {"error_code": "INTERNAL_ERROR", "message": "worker died"}),
    "B1, a choice": (HALF, {"choices": [{"error": {"message": "worker died"}, "delta": {}}]}),
    "B1, something else": (HALF, {"message": "worker died"}),
    "B1, msg": (HALF, {"choices": [], "code": "1234", "msg": "network"}),
    "B1, error_msg": (HALF, {"choices": [], "error_msg": "network"}),
    "B2": (HALF, delta("network_error")),
    "B2, native": (HALF, {"choices": [{"finish_reason": "stop", "native_finish_reason": "error"}]}),
}


@pytest.mark.parametrize("chunks", BROKEN.values(), ids=BROKEN)
def test_rows_b1_and_b2_an_incomplete_stream_ends_with_an_error(
    chunks: tuple[dict[str, Any], ...], client: Client, backend: ScriptedBackend
) -> None:
    begun = Event()
    backend.says(head(), sse(chunks[0]), begun, sse(*chunks[1:]), DONE, END)
    response = client.send(raw(body(stream=True)))
    begun.set()
    events = parse_sse(response.read())
    assert events[-1]["type"] == "error"
    assert "message_stop" not in [each["type"] for each in events]


def test_row_b1_a_failed_choice_is_an_error(client: Client, backend: ScriptedBackend) -> None:
    failed = {"error": {"code": 502, "message": "the provider died"}, "finish_reason": None}
    backend.says(whole(200, {"choices": [{**failed, "message": {"content": ""}}]}))
    answer = client.post(body())
    assert answer.status == 529
    assert "the provider died" in answer.json["error"]["message"]


def test_row_b4_numbered_choices_are_one_text(client: Client, backend: ScriptedBackend) -> None:
    said = [
        {"choices": [{"index": n, "delta": {"content": more}}]}
        for n, more in enumerate(["Whis", "per", " it"])
    ]
    backend.says(streamed(*said, delta("stop")))
    events = client.post(body(stream=True)).events
    assert "".join(each["delta"].get("text", "") for each in events if "delta" in each) == (
        "Whisper it"
    )


def called(arguments: str) -> list[dict[str, Any]]:
    return [{"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}]


def test_row_b5_separate_choices_of_text_and_calls_are_one_response(
    client: Client, backend: ScriptedBackend
) -> None:
    messages = [{"content": "Let me look."}, {"tool_calls": called("{}")}]
    choices = [{"message": each, "finish_reason": "tool_calls"} for each in messages]
    backend.says(whole(200, {"choices": choices}))
    answer = client.post(body()).json
    assert [block["type"] for block in answer["content"]] == ["text", "tool_use"]
    assert answer["stop_reason"] == "tool_use"


def by_groq(chunk: dict[str, Any], used: dict[str, Any]) -> dict[str, Any]:
    return {**chunk, "x_groq": {"id": "req_1", "usage": used}}


def by_moonshot(chunk: dict[str, Any], used: dict[str, Any]) -> dict[str, Any]:
    return {"choices": [{**chunk["choices"][0], "usage": used}]}


@pytest.mark.parametrize("place", [by_groq, by_moonshot])
def test_rows_b7_and_c20_usage_of_each_dialect_is_read(
    place: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]],
    client: Client,
    backend: ScriptedBackend,
) -> None:
    used = {"prompt_tokens": 1019, "completion_tokens": 7, "cached_tokens": 12}
    backend.says(streamed(HALF, place(delta("stop"), used)))
    first, second = (story(client, stream=True).events for _ in range(2))
    reported = next(each for each in first if each["type"] == "message_delta")["usage"]
    assert reported["input_tokens"] == 1007
    assert (reported["cache_read_input_tokens"], reported["output_tokens"]) == (12, 7)
    assert second[0]["message"]["usage"]["input_tokens"] == pytest.approx(1019, rel=0.05)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_row_c15_a_call_cut_by_a_stop_sequence_is_dropped(
    stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    half = called('{"command": "ls ')
    ended = {"finish_reason": "stop", "stop_reason": "-l"}
    if stream:
        calls = delta(tool_calls=[{"index": 0, **half[0]}])
        backend.says(streamed(calls, {"choices": [{"delta": {}, **ended}]}))
    else:
        backend.says(whole(200, {"choices": [{"message": {"tool_calls": half}, **ended}]}))
    answer = client.post(body(stream=stream, stop_sequences=["-l"]))
    if stream:
        (end,) = [each["delta"] for each in answer.events if each["type"] == "message_delta"]
        assert "content_block_start" not in [each["type"] for each in answer.events]
    else:
        end = answer.json
        assert end["content"] == []
    assert (end["stop_reason"], end["stop_sequence"]) == ("stop_sequence", "-l")


def test_row_b1_done_after_text_is_a_complete_response(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(streamed({"choices": [{"delta": {"content": "Hello"}}]}))
    events = client.post(body(stream=True)).events
    assert events[-1]["type"] == "message_stop"
