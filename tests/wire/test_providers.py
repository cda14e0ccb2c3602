"""An agent runs to its end on every provider, and when its model changes in the middle."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from attrs import define, field

from stages.profiles.profile import profiles
from tests.wire.agents import WISHES, config_for, create, loops, sdk
from tests.wire.providers.provider import LAST, LONG, SPOKEN, THOUGHT, Providers
from tests.wire.providers.table import PROVIDERS
from tests.wire.proxy import SharedProxy, proxy

#: Schemas as MCP servers have them: references, several types, keywords that few backends know.
TOOLS: list[Any] = [
    {
        "name": "get_weather",
        "description": "Look the weather up.",
        "input_schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "city": {"type": "string", "title": "City", "pattern": "^[A-Z]"},
                "unit": {"type": ["string", "null"], "enum": ["C", "F", None]},
                "place": {"$ref": "#/$defs/place", "description": "instead of a city"},
                "when": {
                    "type": "string",
                    "anyOf": [{"format": "date"}, {"const": "now"}],
                },
            },
            "required": ["city"],
            "additionalProperties": False,
            "$defs": {"place": {"type": "object", "properties": {"lat": {"type": "number"}}}},
        },
    },
    {"name": "done", "input_schema": {"type": "object", "properties": {}}},
]


#: With thinking, the API takes no tool by name.
FORCED: dict[str, Any] = {"tool_choice": {"type": "tool", "name": "get_weather"}}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProxy]:
    backend = Providers(table=PROVIDERS)
    config = config_for(
        {
            name: f'profile: {name}, base_url: "{backend.url}/{name}/v1", api_key: key'
            for name in PROVIDERS
        },
        {name: provider.model for name, provider in PROVIDERS.items()},
    )
    with proxy(tmp_path_factory.mktemp("providers"), config) as url:
        yield SharedProxy(backend, url)
    backend.close()


@pytest.fixture(scope="module")
def client(served: SharedProxy) -> Iterator[anthropic.Anthropic]:
    with sdk(served.url) as made:
        yield made


@define
class Agent:
    """A client that keeps the conversation, runs the tools, and shortens it after an overflow."""

    client: anthropic.Anthropic
    stream: bool
    wish: dict[str, Any]
    conversation: list[Any] = field(factory=list)
    responses: list[Any] = field(factory=list)
    overflows: int = 0

    def turn(self, model: str, **more: Any) -> None:
        """Ask, and run what is called."""
        try:
            answer = self._ask(model, **more)
        except anthropic.BadRequestError as error:
            if "prompt is too long" not in str(error):
                raise
            self.overflows += 1
            self._shorten()
            answer = self._ask(model, **more)
        self.responses.append(answer)
        self.conversation.append({"role": "assistant", "content": answer.content})
        results = [self._result(block) for block in answer.content if block.type == "tool_use"]
        if results:
            self.conversation.append({"role": "user", "content": results})

    def _ask(self, model: str, **more: Any) -> Any:
        request: dict[str, Any] = {
            "model": model,
            "max_tokens": 5000,
            "system": "Be brief.",
            "tools": TOOLS,
            "messages": self.conversation,
            "extra_body": {"temperature": 0.5},
            "metadata": {"user_id": "somebody"},
            **more,
        }
        return create(self.client, self.stream, request)

    def _result(self, block: Any) -> dict[str, Any]:
        city = block.input["city"]
        said = f"{LONG} " * 3 if city == "Rome" else f"18 degrees in {city}"
        failed = city == "Atlantis"
        return {"type": "tool_result", "tool_use_id": block.id, "content": said, "is_error": failed}

    def _shorten(self) -> None:
        self.conversation = json.loads(_as_json(self.conversation).replace(LONG, "short"))


def _as_json(conversation: list[Any]) -> str:
    def plain(block: Any) -> Any:
        return block if isinstance(block, dict) else block.model_dump(exclude_none=True)

    return json.dumps(
        [
            {**each, "content": [plain(block) for block in each["content"]]}
            if isinstance(each["content"], list)
            else each
            for each in conversation
        ]
    )


def run_loop(agent: Agent, models: list[str]) -> None:
    """Send five requests, each to its model. The third has to call a tool."""
    agent.conversation.append({"role": "user", "content": "What do I wear?"})
    for n, model in enumerate(models):
        agent.turn(model, **(FORCED if n == 2 else agent.wish))
        if n == 1:  # the user breaks in, next to the result
            agent.conversation[-1]["content"].append({"type": "text", "text": "And in Oslo?"})
        if agent.responses[-1].stop_reason != "tool_use":
            agent.conversation.append({"role": "user", "content": "Thanks. Once more?"})


CALLED = [["Paris", "Atlantis"], ["Rome"], ["Oslo"], [], []]


def check(agent: Agent) -> None:
    """Check that each response is complete, and has the text of its model."""
    calls = [
        [block.input["city"] for block in answer.content if block.type == "tool_use"]
        for answer in agent.responses
    ]
    assert calls == CALLED
    texts = [
        "".join(block.text for block in answer.content if block.type == "text").strip()
        for answer in agent.responses
    ]
    assert texts == [SPOKEN] * 3 + [LAST] * 2
    reasons = [answer.stop_reason for answer in agent.responses]
    assert reasons == ["tool_use"] * 3 + ["end_turn"] * 2
    thoughts = [b.thinking for a in agent.responses for b in a.content if b.type == "thinking"]
    assert set(thoughts) <= {THOUGHT}


def test_each_profile_has_a_provider() -> None:
    assert PROVIDERS.keys() == profiles().keys() - {"embedded"}


NAMES = list(PROVIDERS)


@pytest.mark.parametrize("name", NAMES)
def test_an_agent_finishes_on(name: str, client: anthropic.Anthropic) -> None:
    for loop in loops(NAMES, name):
        agent = Agent(client, loop.stream, WISHES[loop.wish])
        run_loop(agent, loop.models)

        check(agent)
        overflows = any(PROVIDERS[model].overflow for model in loop.models[2:])
        assert agent.overflows == overflows, loop
        thinking = [
            any(block.type == "thinking" for block in response.content)
            for response in agent.responses
        ]
        expected = [loop.wish == "on" and PROVIDERS[model].shows_reasoning for model in loop.models]
        expected[2] = False  # a tool is forced
        assert thinking == expected, loop
        for model, response in zip(loop.models, agent.responses, strict=True):
            # Where the usage of a stream is never sent, it is estimated.
            if not loop.stream or PROVIDERS[model].usage_in_streams != "never":
                assert response.usage.output_tokens in (10, 10 + 5), loop


def test_half_of_the_loops_change_the_model() -> None:
    """In each wish and each mode, too."""
    for wish, stream in itertools.product(WISHES, (False, True)):
        changes = [
            len(set(loop.models)) > 1
            for name in NAMES
            for loop in loops(NAMES, name)
            if (loop.wish, loop.stream) == (wish, stream)
        ]
        assert len(changes) == len(NAMES)
        assert abs(2 * sum(changes) - len(NAMES)) <= 1


@pytest.mark.parametrize(
    ("name", "member", "off"),
    [
        ("mistral", "prefix", None),
        ("deepseek", "prefix", {"type": "disabled"}),
        ("moonshot", "partial", {"type": "disabled"}),
    ],
)
def test_row_b20_a_prefill_is_marked_for(
    name: str, member: str, off: Any, served: SharedProxy, client: anthropic.Anthropic
) -> None:
    begun: list[Any] = [
        {"role": "user", "content": "What do I wear?"},
        {"role": "assistant", "content": "Take"},
    ]
    client.messages.create(model=name, max_tokens=100, messages=begun)
    sent = served.backend.requests[-1].body
    assert sent["messages"][-1] == {"role": "assistant", "content": "Take", member: True}
    assert sent.get("thinking") == off
