"""Kinds of requests go to models of their own, and what overflows one target to a larger one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import body
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import completion, streamed, whole
from tests.wire.client import MODES, Client, error_in
from tests.wire.proxy import SharedProxy, proxy_with_backend

CONFIG = """
backends:
  scripted: {{base_url: "{url}/v1"}}
models:
  "claude-*": {{backend: scripted, model: usual}}
  background: {{backend: scripted, model: for-background}}
  thinker: {{backend: scripted, model: for-thinking}}
  seeing: {{backend: scripted, model: for-images}}
  long:
    targets:
      - {{backend: scripted, model: window-2000}}
      - {{backend: scripted, model: window-4000}}
      - {{backend: scripted, model: window-8000}}
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      - authenticate: {{keys: [client-key]}}
      - validate
      - resolve:
          rules:
            - {{when: {{model: "claude-*haiku*"}}, to: background}}
            - {{when: {{images: true}}, to: seeing}}
            - {{when: {{input_tokens_over: 200}}, to: long}}
            - {{when: {{thinking: true}}, to: thinker}}
      - fallback
      - translate-in
      - invoke
      - translate-out
      - stream-encode
"""
WINDOWS = (2000, 4000, 8000)
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}
SHOT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [IMAGE]}
BUDGET = {"type": "enabled", "budget_tokens": 1024}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
TOOL = {"name": "look", "input_schema": {"type": "object"}}


def history(*contents: Any) -> dict[str, Any]:
    roles = ["user", "assistant"] * len(contents)
    return {
        "messages": [
            {"role": role, "content": each} for role, each in zip(roles, contents, strict=False)
        ]
    }


def prompt(tokens: int) -> dict[str, Any]:
    """A prompt of about `tokens` tokens."""
    return history("word" * tokens)


@pytest.fixture(scope="module")
def shared_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProxy]:
    folder = tmp_path_factory.mktemp("routes")
    with proxy_with_backend(folder, lambda url: CONFIG.format(url=url)) as made:
        yield made


def asked(backend: ScriptedBackend) -> list[str]:
    """The models that were asked, one by one."""
    return [request.body["model"] for request in backend.requests]


@pytest.mark.parametrize(
    ("changes", "model"),
    [
        ({}, "usual"),
        ({"model": "claude-3-5-haiku-20241022"}, "for-background"),
        ({"thinking": BUDGET, "max_tokens": 2000}, "for-thinking"),
        ({"thinking": {"type": "adaptive"}}, "for-thinking"),
        ({"thinking": {"type": "disabled"}}, "usual"),
        (history([IMAGE, {"type": "text", "text": "What is it?"}]), "for-images"),
        ({"tools": [TOOL], **history("Look", [CALL], [SHOT])}, "for-images"),
        (prompt(150), "usual"),
        (prompt(250), "window-2000"),
        ({"system": "word" * 250}, "window-2000"),
        ({"model": "claude-haiku", **prompt(250)}, "for-background"),
    ],
    ids=str,
)
def test_a_request_goes_to_the_entry_of_its_rule(
    changes: dict[str, Any], model: str, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    assert client.post(body(**changes)).status == 200
    assert asked(backend) == [model]


def too_long(window: int) -> dict[str, Any]:
    said = f"This model's maximum context length is {window} tokens, your request has 9000 tokens"
    return {"error": {"message": said, "code": "context_length_exceeded"}}


@MODES
@pytest.mark.parametrize("refusals", [1, 2])
def test_a_prompt_too_long_for_a_backend_goes_to_a_larger_window(
    refusals: int, stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    for window in WINDOWS[:refusals]:
        backend.says(whole(400, too_long(window)))
    backend.says(streamed("Hello") if stream else whole(200, completion()))
    answer = client.post(body(stream=stream, **prompt(9000)))
    assert answer.status == 200
    assert b"Hello" in answer.body
    assert asked(backend) == [f"window-{window}" for window in WINDOWS[: refusals + 1]]


@MODES
def test_a_prompt_too_long_for_all_targets_reports_the_largest_window(
    stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    for window in WINDOWS:
        backend.says(whole(400, too_long(window)))
    answer = client.post(body(stream=stream, **prompt(9000)))
    assert answer.error == (400, "invalid_request_error")
    assert error_in(answer.json)[1] == "prompt is too long: 9000 tokens > 8000 maximum"
    assert len(backend.requests) == len(WINDOWS)
