"""Rows of the list of pitfalls about responses: order, errors, usage."""

from __future__ import annotations

from threading import Event
from typing import Any

import anthropic
import pytest

from tests.conformance.support import MODES, USAGE, Talk
from tests.grammar import check_grammar
from tests.support import body
from tests.wire.backend import Act
from tests.wire.chat import DONE, END, delta, head, http_chunk, sse, whole
from tests.wire.client import raw

OVERFLOWS: dict[str, Any] = {
    "openai": {"message": "Too much.", "code": "context_length_exceeded"},
    "vllm": {
        "message": "This model's maximum context length is 10 tokens. However, you requested 0 "
        "output tokens and your prompt contains at least 12 input tokens"
    },
    "llamacpp": {
        "type": "exceed_context_size_error",
        "message": "request (12 tokens) exceeds the available context size (10 tokens)",
    },
    "ollama": {"message": "prompt too long; exceeded max context length by 2 tokens"},
    "sglang": {
        "message": "The input (12 tokens) is longer than the model's context length (10 tokens)."
    },
    "bedrock": {"message": "Input is too long for requested model."},
    "copilot": {"message": "No.", "code": "model_max_prompt_tokens_exceeded"},
    "ds4": {"message": "Prompt has 12 tokens, but the configured context size is 10 tokens"},
}


@MODES
@pytest.mark.parametrize("error", OVERFLOWS.values(), ids=OVERFLOWS)
def test_row_01_the_client_never_compacts(error: Any, stream: bool, talk: Talk) -> None:
    talk.script(whole(400, {"error": error}))
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long") as caught:
        talk.ask(stream)
    if "12" in str(error):
        exact = "at least" not in str(error)
        reported = (
            "prompt is too long: 12 tokens > 10 maximum" if exact else "at least 12 input tokens"
        )
        assert reported in str(caught.value)
    throttled = {"message": "Too many tokens, please wait before trying again."}
    talk.script(whole(429, {"error": throttled}))
    with pytest.raises(anthropic.RateLimitError):
        talk.ask(stream)


def test_row_11_the_context_meter_shows_nothing(talk: Talk) -> None:
    talk.plays({"content": "Hi"})
    events = talk.post(stream=True).events
    assert events[0]["message"]["usage"]["input_tokens"] > 0
    (ending,) = (event for event in events if event["type"] == "message_delta")
    assert ending["usage"]["input_tokens"] == USAGE["prompt_tokens"]
    assert ending["usage"]["output_tokens"] == USAGE["completion_tokens"]


def test_row_13_there_is_no_count_tokens(talk: Talk) -> None:
    for model in ("claude-test", "openai", "databricks", "ollama"):
        answer = talk.post("/v1/messages/count_tokens?beta=true", model=model, max_tokens=None)
        assert answer.json["input_tokens"] > 0
        assert answer.headers["x-llm-proxy-token-count"] == "estimated"


def test_row_14_unknown_field_stream_options(talk: Talk) -> None:
    talk.script(head() + sse(delta(content="Hello"), delta("stop")) + DONE + END)
    usage = talk.ask(stream=True, model="databricks").usage
    assert "stream_options" not in talk.asked
    assert usage.input_tokens > 0
    assert usage.output_tokens > 0
    talk.ask(stream=True, model="vllm")
    assert talk.asked["stream_options"] == {"include_usage": True}


@MODES
def test_row_20_the_gpu_works_on_after_the_client_disconnected(stream: bool, talk: Talk) -> None:
    begun = (head(), sse(delta(content="Hello"))) if stream else ()
    talk.script(*begun, Act.UNTIL_CLOSED)
    talk.client.socket.sendall(raw(body(stream=stream)))
    talk.backend.request()
    talk.client.close()
    assert talk.backend.is_closed()


@pytest.mark.parametrize("ending", [END, b""], ids=["end-of-file", "broken-off"])
def test_row_21_an_incomplete_response_looks_complete(ending: bytes, talk: Talk) -> None:
    talk.script(head(), sse(delta(content="Hel")), ending, Act.CLOSE)
    events = talk.post(stream=True).events
    assert events[-1]["type"] == "error"
    assert "message_stop" not in [event["type"] for event in events]
    with pytest.raises(anthropic.APIStatusError):
        talk.ask(stream=True)
    half = http_chunk(b'{"choices": [{"mess')
    talk.script(head(content_type="application/json"), half, Act.CLOSE)
    with pytest.raises(anthropic.APIStatusError):
        talk.ask()


def test_row_22_no_byte_while_the_backend_reads_the_prompt(talk: Talk) -> None:
    hold = Event()
    answer = [head(), sse(delta(content="Hello"), delta("stop")), DONE, END]
    talk.script(hold, *answer)
    talk.client.send(raw(body(stream=True), "/impatient/v1/messages"))
    events = [talk.client.event() for _ in range(3)]
    assert [event["type"] for event in events] == ["message_start", "ping", "ping"]
    hold.set()
    while events[-1]["type"] != "message_stop":
        events.append(talk.client.event())
    check_grammar(events)
    talk.script(0.2, *answer)
    talk.sdk = talk.sdk.with_options(base_url=f"{talk.url}/impatient")
    assert talk.ask(stream=True).content[0].text == "Hello"  # type: ignore[union-attr]


@MODES
@pytest.mark.parametrize(
    ("status", "reported", "kind"),
    [
        (429, 429, "rate_limit_error"),
        (503, 529, "overloaded_error"),
        (529, 529, "overloaded_error"),
    ],
)
def test_row_38_a_storm_of_retries(
    status: int, reported: int, kind: str, stream: bool, talk: Talk
) -> None:
    talk.script(whole(status, {"error": {"message": "Wait."}}, retry_after="7"))
    with pytest.raises(anthropic.APIStatusError) as caught:
        talk.ask(stream)
    assert (caught.value.status_code, caught.value.type) == (reported, kind)
    assert caught.value.response.headers["retry-after"] == "7"
    assert len(talk.backend.requests) == 1


def test_row_40_null_content_and_empty_choices(talk: Talk) -> None:
    preamble: dict[str, Any] = {"choices": [], "prompt_filter_results": []}
    talk.plays(preamble, {"role": "assistant", "content": None}, {"content": "Hi"})
    assert talk.ask(stream=True).content[0].to_dict()["text"] == "Hi"
    talk.answers(False, content=None)
    assert talk.ask().content == []
