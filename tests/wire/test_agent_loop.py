"""An agent at work: the official SDK's own loop, against a scripted backend."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
from anthropic import beta_tool

from tests.wire.support import DONE, END, ScriptedBackend, completion, delta, head, sse, streamed
from tests.wire.support import whole as whole_answer


@beta_tool
def get_weather(city: str) -> Any:
    """Look the weather up.

    Args:
        city: where
    """
    if city == "Atlantis":
        raise LookupError("there is no such city")
    picture = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    return [{"type": "text", "text": f"18 degrees in {city}"}, {"type": "image", "source": picture}]


def called(*cities: str) -> list[dict[str, Any]]:
    """Calls made together. This backend uses the same ids in each turn."""
    return [
        {
            "index": n,
            "id": f"call_{n}",
            "type": "function",
            "function": {"name": "get_weather", "arguments": json.dumps({"city": city})},
        }
        for n, city in enumerate(cities)
    ]


def calling(stream: bool, *cities: str) -> bytes:
    """An answer that thinks, speaks and calls."""
    members: dict[str, Any] = {
        "reasoning": "Hm.",
        "content": "Let me look.",
        "tool_calls": called(*cities),
    }
    if stream:
        return head() + sse(delta(**members), delta("tool_calls")) + DONE + END
    message = {"role": "assistant", **members}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return whole_answer(200, {"choices": [choice]})


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_agent_runs_to_its_end(stream: bool, url: str, backend: ScriptedBackend) -> None:
    backend.says(calling(stream, "Paris", "Atlantis"))
    backend.says(calling(stream, "Rome"))
    backend.says(
        streamed("Take ", "a coat.") if stream else whole_answer(200, completion("Take a coat."))
    )
    with anthropic.Anthropic(base_url=url, api_key="client-key", max_retries=0) as client:
        runner: Any = client.beta.messages.tool_runner(
            model="claude-test",
            max_tokens=4000,
            tools=[get_weather],
            messages=[{"role": "user", "content": "What do I wear?"}],
            thinking={"type": "adaptive"},
            stream=stream,
        )
        answers = [each.get_final_message() if stream else each for each in runner]

    kinds = [[block.type for block in answer.content] for answer in answers]
    assert kinds == [
        ["thinking", "text", "tool_use", "tool_use"],
        ["thinking", "text", "tool_use"],
        ["text"],
    ]
    assert [answer.stop_reason for answer in answers] == ["tool_use", "tool_use", "end_turn"]
    assert answers[-1].content[0].text == "Take a coat."
    sent = backend.requests[-1].body["messages"]
    roles = ["user", "assistant", "tool", "tool", "user", "assistant", "tool", "user"]
    assert [message["role"] for message in sent] == roles
    ids = [call["id"] for message in sent for call in message.get("tool_calls", ())]
    answered = [message["tool_call_id"] for message in sent if message["role"] == "tool"]
    assert ids == answered
    assert len(set(ids)) == 3
    assert sent[2]["content"].startswith("18 degrees in Paris")
    assert sent[3]["content"].startswith("Error: ")
    assert sent[4]["content"][1]["type"] == "image_url"
    assert len(backend.requests) == 3  # the SDK's `thread` did not get so far


def test_an_agent_that_is_told_the_prompt_is_too_long_knows_it(
    url: str, backend: ScriptedBackend
) -> None:
    message = "request (9000 tokens) exceeds the available context size (8192 tokens)"
    backend.says(whole_answer(400, {"error": {"code": 400, "message": message}}))
    with (
        anthropic.Anthropic(base_url=url, api_key="client-key", max_retries=0) as client,
        pytest.raises(anthropic.BadRequestError) as caught,
    ):
        client.messages.create(
            model="claude-test", max_tokens=10, messages=[{"role": "user", "content": "Hi"}]
        )

    assert "prompt is too long: 9000 tokens > 8192 maximum" in str(caught.value)
