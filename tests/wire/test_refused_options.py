"""A refused option is left out, and that is remembered: over sockets, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import body
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import DONE, END, completion, delta, error_json, head, sse, streamed, whole
from tests.wire.client import Client, Response
from tests.wire.proxy import METRICS, SharedProxy, config_text, proxy_with_backend

THINKING = {"type": "adaptive"}
REFUSED = whole(400, error_json('"some-model" does not support thinking'))
GOOD = whole(200, completion())


def config_for(url: str) -> str:
    """Ollama's profile; refusals of `final` are final; `plain` has the profile `generic`."""
    text = config_text(url) + METRICS
    return (
        text.replace(
            f'scripted: {{base_url: "{url}/v1",',
            f'scripted: {{profile: ollama, base_url: "{url}/v1",',
        )
        .replace(
            "  absent:",
            f'  final: {{profile: ollama, base_url: "{url}/v1", remember_refusals: 0}}\n'
            f'  plain: {{base_url: "{url}/v1"}}\n  absent:',
        )
        .replace(
            "  claude-absent:",
            "  claude-final: {backend: final}\n  claude-plain: {backend: plain}\n  claude-absent:",
        )
    )


@pytest.fixture
def shared_proxy(tmp_path: Path) -> Iterator[SharedProxy]:
    with proxy_with_backend(tmp_path, config_for) as shared:
        yield shared


def sent(backend: ScriptedBackend, name: str) -> list[Any]:
    return [request.body.get(name) for request in backend.requests]


@pytest.mark.parametrize("stream", [False, True])
def test_row_b8_a_model_without_reasoning_responds(
    client: Client, backend: ScriptedBackend, stream: bool
) -> None:
    backend.says(REFUSED)
    backend.says(streamed("Hello") if stream else GOOD)
    first = client.post(body(thinking=THINKING, stream=stream))
    second = client.post(body(thinking=THINKING, stream=stream))
    metrics = client.get("/metrics").body.decode()

    assert (first.status, second.status) == (200, 200)
    assert sent(backend, "reasoning_effort") == ["high", None, None]
    assert "thinking:dropped" in first.headers["x-llm-proxy-degraded"]
    assert "thinking:dropped" in second.headers["x-llm-proxy-degraded"]
    refused = 'llm_proxy_refused_options_total{backend="scripted",option="reasoning"} 1.0'
    assert refused in metrics


USAGE = {"include_usage": True}


def usage_in(answer: Response) -> Any:
    """The usage at the end of a stream."""
    (end,) = (event for event in answer.events if event["type"] == "message_delta")
    return end["usage"]


def test_rows_c13_and_l8_a_generic_stream_has_the_backend_s_usage(
    client: Client, backend: ScriptedBackend
) -> None:
    counts = {"prompt_tokens_details": {"cached_tokens": 600}, "prompt_tokens": 1000}
    usage = {"choices": [], "usage": {**counts, "completion_tokens": 7}}
    backend.says(head() + sse(delta(content="Hello"), delta("stop"), usage) + DONE + END)

    reported = usage_in(client.post(body(model="claude-plain", stream=True)))
    assert sent(backend, "stream_options") == [USAGE]
    assert (reported["input_tokens"], reported["cache_read_input_tokens"]) == (400, 600)
    assert reported["output_tokens"] == 7


@pytest.mark.parametrize(
    "words",
    [
        "Unrecognized request argument supplied: stream_options",
        "Unexpected fields in the request: {'stream_options'}",
        "body -> stream_options -> include_usage: Extra inputs are not permitted",
    ],
)
def test_rows_c13_and_l8_refused_stream_options_are_remembered(
    words: str, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(whole(400, error_json(words)))
    backend.says(streamed("Hello"))

    for _ in range(2):
        answer = client.post(body(model="claude-plain", stream=True))
        assert answer.status == 200
        assert usage_in(answer)["output_tokens"] > 0
    assert sent(backend, "stream_options") == [USAGE, None, None]


def test_row_c13_a_plain_request_with_stop_sequences_asks_for_usage(
    client: Client, backend: ScriptedBackend
) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 7}}
    backend.says(head() + sse(delta(content="Hello"), delta("stop"), usage) + DONE + END)

    answer = client.post(body(model="claude-plain", stop_sequences=["END"]))
    assert sent(backend, "stream_options") == [USAGE]
    assert (answer.json["usage"]["input_tokens"], answer.json["usage"]["output_tokens"]) == (
        1000,
        7,
    )


def test_an_effort_alone_is_dropped_too(client: Client, backend: ScriptedBackend) -> None:
    backend.says(REFUSED)
    backend.says(GOOD)

    assert client.post(body(output_config={"effort": "low"})).status == 200
    assert sent(backend, "reasoning_effort") == ["low", None]


def test_a_second_refusal_is_final_and_not_remembered(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(REFUSED)
    backend.says(whole(400, error_json("no such luck")))
    backend.says(GOOD)

    answer = client.post(body(thinking=THINKING))
    assert answer.error == (400, "invalid_request_error")
    assert "no such luck" in answer.json["error"]["message"]
    assert client.post(body(thinking=THINKING)).status == 200
    assert sent(backend, "reasoning_effort") == ["high", None, "high"]


def test_several_options_are_dropped_one_after_another(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(REFUSED)
    backend.says(whole(400, error_json("Unsupported parameter: 'temperature'")))
    backend.says(GOOD)

    assert client.post(body(thinking=THINKING, temperature=0.5)).status == 200
    assert client.post(body(thinking=THINKING, temperature=0.5)).status == 200
    assert sent(backend, "temperature") == [0.5, 0.5, None, None]


def test_a_refused_option_is_dropped_once(client: Client, backend: ScriptedBackend) -> None:
    backend.says(whole(400, error_json("Unsupported parameter: 'temperature'")))

    assert client.post(body(temperature=0.5)).error == (400, "invalid_request_error")
    assert sent(backend, "temperature") == [0.5, None]


TOOL = {
    "name": "thinking",
    "input_schema": {"type": "object", "properties": {"x": {"type": "string", "format": "uri"}}},
}


@pytest.mark.parametrize("request_id", ["", " (request id: 20261128{})"])
def test_an_option_that_is_only_quoted_is_repeated_and_not_remembered(
    client: Client, backend: ScriptedBackend, request_id: str
) -> None:
    words = "Invalid schema for function 'thinking': 'uri' is not a valid format." + request_id
    backend.says(whole(400, error_json(words.format(1))))
    backend.says(whole(400, error_json(words.format(2))))
    backend.says(GOOD)

    first = client.post(body(thinking=THINKING, tools=[TOOL]))
    assert first.status == 200
    assert "thinking:dropped" not in first.headers.get("x-llm-proxy-degraded", "")
    assert client.post(body(thinking=THINKING, tools=[TOOL])).status == 200
    assert sent(backend, "reasoning_effort") == ["high", None, "high", "high"]
    formats = ["uri" in str(tools) for tools in sent(backend, "tools")]
    assert formats == [True, True, False, False]


def test_a_value_out_of_range_is_dropped_from_that_request_only(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(whole(400, error_json("Invalid temperature: must be between 0 and 0.99")))
    backend.says(GOOD)

    first = client.post(body(temperature=1))
    assert first.status == 200
    assert "temperature:dropped" in first.headers["x-llm-proxy-degraded"]
    assert client.post(body(temperature=0.2)).status == 200
    assert sent(backend, "temperature") == [1, None, 0.2]


def test_a_refusal_can_be_configured_as_final(client: Client, backend: ScriptedBackend) -> None:
    backend.says(REFUSED)

    answer = client.post(body(model="claude-final", thinking=THINKING))
    assert answer.error == (400, "invalid_request_error")
    assert len(backend.requests) == 1


def test_another_model_of_the_backend_gets_the_option(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(REFUSED)
    backend.says(GOOD)
    client.post(body(thinking=THINKING))
    client.post(body(model="open-other", thinking=THINKING))

    assert sent(backend, "reasoning_effort") == ["high", None, "high"]
