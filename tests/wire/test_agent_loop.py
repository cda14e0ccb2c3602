"""An agent at work: the official SDK's own loop, against a scripted backend."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
from anthropic import beta_tool

from tests.secrets import PROMPT
from tests.wire.agents import sdk
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import DONE, END, completion, delta, head, sse, streamed
from tests.wire.chat import whole as unstreamed
from tests.wire.client import MODES


@beta_tool
def get_weather(city: str) -> Any:
    """Look the weather up.

    Args:
        city: where
    """
    if city == "Atlantis":
        raise LookupError(f"there is no such city. {PROMPT}")
    picture = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    text = f"18 degrees in {city}. {PROMPT}"
    return [{"type": "text", "text": text}, {"type": "image", "source": picture}]


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
    """A response with reasoning, text and calls."""
    members: dict[str, Any] = {
        "reasoning": "Hm.",
        "content": "Let me look.",
        "tool_calls": called(*cities),
    }
    if stream:
        return head() + sse(delta(**members), delta("tool_calls")) + DONE + END
    message = {"role": "assistant", **members}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return unstreamed(200, {"choices": [choice]})


OVERFLOW = unstreamed(
    400,
    {
        "error": {
            "code": 400,
            "message": "request (9000 tokens) exceeds the available context size (8192 tokens)",
            "type": "exceed_context_size_error",
        }
    },
)
#: The user broke in while the first tool ran: its result never came.
INTERRUPTED: list[Any] = [
    {"role": "user", "content": f"What do I wear? {PROMPT}"},
    {
        "role": "assistant",
        "content": [
            {"type": "tool_use", "id": "call_0", "name": "get_weather", "input": {"city": "Bonn"}}
        ],
    },
    {"role": "user", "content": "Not Bonn. Paris, Atlantis, and then Rome."},
]


class Agent:
    """The SDK's tool runner, with a conversation that is shortened after an overflow."""

    def __init__(self, client: anthropic.Anthropic, stream: bool) -> None:
        self.client, self.stream = client, stream
        self.conversation = list(INTERRUPTED)
        self.responses: list[Any] = []
        self.shortened = 0

    def run(self) -> None:
        """Let the loop go to its end."""
        try:
            self._loop()
        except anthropic.BadRequestError as error:
            if "prompt is too long" not in str(error) or self.shortened:
                raise
            self.shortened += 1
            self.conversation = [self.conversation[0], *self.conversation[-2:]]
            self.run()

    def _loop(self) -> None:
        runner: Any = self.client.beta.messages.tool_runner(
            model="claude-test",
            max_tokens=4000,
            tools=[get_weather],
            messages=list(self.conversation),
            thinking={"type": "adaptive"},
            stream=self.stream,
        )
        for each in runner:
            answer = each.get_final_message() if self.stream else each
            self.responses.append(answer)
            self.conversation.append({"role": "assistant", "content": answer.content})
            if results := runner.generate_tool_call_response():
                self.conversation.append(results)


def sent(backend: ScriptedBackend, request: int) -> list[dict[str, Any]]:
    """The messages of one request, of which each call has its one result."""
    messages: list[dict[str, Any]] = backend.requests[request].body["messages"]
    ids = [call["id"] for message in messages for call in message.get("tool_calls", ())]
    assert ids == [each["tool_call_id"] for each in messages if each["role"] == "tool"]
    assert len(set(ids)) == len(ids)
    return messages


def at_work(stream: bool, url: str, backend: ScriptedBackend) -> Agent:
    """An agent that has done its work."""
    backend.says(calling(stream, "Paris", "Atlantis"))
    backend.says(calling(stream, "Rome"))
    backend.says(OVERFLOW)
    backend.says(
        streamed("Take ", "a coat.") if stream else unstreamed(200, completion("Take a coat."))
    )
    with sdk(url) as client:
        agent = Agent(client, stream)
        agent.run()
    return agent


@MODES
def test_an_agent_finishes(stream: bool, url: str, backend: ScriptedBackend) -> None:
    agent = at_work(stream, url, backend)

    assert [[block.type for block in answer.content] for answer in agent.responses] == [
        ["thinking", "text", "tool_use", "tool_use"],
        ["thinking", "text", "tool_use"],
        ["text"],
    ]
    assert [each.stop_reason for each in agent.responses] == ["tool_use", "tool_use", "end_turn"]
    assert agent.responses[-1].content[0].text == "Take a coat."
    assert agent.shortened == 1
    assert len(backend.requests) == 4  # the SDK's `thread` did not get so far


@MODES
def test_a_backend_gets_the_conversation_of_an_agent(
    stream: bool, url: str, backend: ScriptedBackend
) -> None:
    at_work(stream, url, backend)

    roles = ["user", "assistant", "tool", "user"]
    assert [message["role"] for message in sent(backend, 0)] == roles
    assert "not available" in sent(backend, 0)[2]["content"]
    before = sent(backend, 2)
    roles += ["assistant", "tool", "tool", "user", "assistant", "tool", "user"]
    assert [message["role"] for message in before] == roles
    assert before[5]["content"].startswith("18 degrees in Paris")
    assert before[6]["content"].startswith("Error: ")
    assert before[7]["content"][1]["type"] == "image_url"
    after = sent(backend, 3)
    assert [message["role"] for message in after] == ["user", "assistant", "tool", "user"]
    assert after[2]["content"].startswith("18 degrees in Rome")
    assert after[3]["content"][1]["type"] == "image_url"


def test_an_agent_recognises_that_the_prompt_is_too_long(
    url: str, backend: ScriptedBackend
) -> None:
    message = "request (9000 tokens) exceeds the available context size (8192 tokens)"
    backend.says(unstreamed(400, {"error": {"code": 400, "message": message}}))
    with (
        sdk(url) as client,
        pytest.raises(anthropic.BadRequestError) as caught,
    ):
        client.messages.create(
            model="claude-test", max_tokens=10, messages=[{"role": "user", "content": "Hi"}]
        )

    assert "prompt is too long: 9000 tokens > 8192 maximum" in str(caught.value)
