"""A refused option is left out, and that is remembered: over sockets, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import body
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import completion, error_json, streamed, whole
from tests.wire.client import Client
from tests.wire.proxy import METRICS, SharedProxy, config_text, proxy_with_backend

THINKING = {"type": "adaptive"}
REFUSED = whole(400, error_json('"some-model" does not support thinking'))
GOOD = whole(200, completion())


def config_for(url: str) -> str:
    """Ollama's profile; what `forgetful` refuses is final."""
    text = config_text(url) + METRICS
    return (
        text.replace(
            f'scripted: {{base_url: "{url}/v1",',
            f'scripted: {{profile: ollama, base_url: "{url}/v1",',
        )
        .replace(
            "  absent:",
            f'  final: {{profile: ollama, base_url: "{url}/v1", remember_refusals: 0}}\n  absent:',
        )
        .replace("  claude-absent:", "  claude-final: {backend: final}\n  claude-absent:")
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
def test_an_option_that_is_only_quoted_is_sent_again_and_not_remembered(
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
