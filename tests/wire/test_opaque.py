"""Tool loops on backends that need opaque members back, exactly as they sent them.

The city in a call names the backend that made the call, and the step. So a backend recognises its
own messages, and refuses them if they have changed. It refuses unknown members in the messages of
other backends.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import anthropic
import pytest
from attrs import define, field, frozen

from tests.waiting import logged
from tests.wire.agents import WISHES, Loop, config_for, create, loops, sdk
from tests.wire.backend import Received, ScriptedBackend, Step
from tests.wire.chat import DONE, END, call_deltas, delta, error_json, head, sse, whole
from tests.wire.proxy import SharedProxy, proxy

Body = dict[str, Any]
STEPS = 4
SKIP = {"extra_content": {"google": {"thought_signature": "skip_thought_signature_validator"}}}
_PLAIN_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def signature(step: int) -> str:
    return base64.b64encode(f"signature of step {step} ".encode() * 15).decode()


def thought(step: int) -> str:
    return f"Let me think of step {step}."


def nothing(step: int) -> Body:
    return {}


def encrypted(step: int) -> Body:
    kind = {"type": "reasoning.encrypted", "format": "google-gemini-v1"}
    return {"reasoning_details": [{**kind, "data": signature(step), "id": "t", "index": 0}]}


def google(step: int) -> Body:
    return {"extra_content": {"google": {"thought_signature": signature(step)}}}


def asked(body: Body) -> bool:
    return bool(body.get("thinking", {}).get("type") == "enabled")


def always(body: Body) -> bool:
    return True


@frozen
class Kind:
    """A kind of backend: the members that it adds to a response, and those that it accepts."""

    options: str
    """Options of the backend, in YAML."""
    refusal: str
    call: Callable[[int], Body] = nothing
    """Members of the first call of a message."""
    message: Callable[[int], Body] = nothing
    identity: Callable[[int], str] = lambda n: f"call_{n}"
    item: Callable[[int], Body] | None = None
    """An item of the content."""
    attaches: Callable[[Body], bool] = always
    foreign_call: Body = field(factory=dict)
    """What the first call of a message of another has to have."""
    foreign_member: str = ""
    """A member with some text that a message of another has to have."""
    named_results: bool = False
    late: bool = False
    """Whether a stream has the members of the message at its end."""
    optional: frozenset[str] = frozenset()
    """Members that need not come back."""


KINDS = {
    "gemini": Kind(
        "profile: gemini",
        "Function call is missing a thought_signature in functionCall parts.",
        call=google,
        foreign_call=SKIP,
        named_results=True,
    ),
    "openrouter": Kind(
        "profile: openrouter",
        "Gemini models require OpenRouter reasoning details to be preserved in each request.",
        message=encrypted,
    ),
    "late": Kind(
        "profile: openrouter",
        "Gemini models require OpenRouter reasoning details to be preserved in each request.",
        message=encrypted,
        late=True,
    ),
    "short": Kind(
        "profile: openrouter, tool_use_id_limit: 64",
        "Corrupted thought signature.",
        message=encrypted,
        call=google,
        identity=lambda n: f"functions.get_weather:{n}",
    ),
    "copilot": Kind(
        "reasoning_request: effort, reasoning_history: reasoning_text, "
        "fields: {thinking: map, thinking_block: map}",
        "reasoning_opaque is missing",
        message=lambda n: {"reasoning_text": thought(n), "reasoning_opaque": signature(n)},
        optional=frozenset({"reasoning_text"}),
    ),
    "databricks": Kind(
        "profile: databricks",
        "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
        "`tool_use`. When `thinking` is enabled, a final `assistant` message must start with a "
        "thinking block.",
        item=lambda n: {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": thought(n), "signature": signature(n)}],
        },
        attaches=asked,
    ),
    "moonshot": Kind(
        "profile: moonshot",
        "thinking is enabled but reasoning_content is missing in assistant tool call message",
        message=lambda n: {"reasoning_content": thought(n)},
        identity=lambda n: f"get_weather:{n}",
        foreign_member="reasoning_content",
    ),
    "litellm": Kind(
        "profile: generic",
        "Base64 decoding failed for the thought signature",
        identity=lambda n: f"call_{n}__thought__{signature(n)}+/=",
    ),
}
MODELS = {"databricks": "databricks-claude-sonnet-4", "moonshot": "kimi-k2.6"}


def calls_of(name: str, step: int) -> list[Body]:
    """The calls of a step: two in the second, one in each other."""
    kind = KINDS[name]
    return [
        {
            "id": kind.identity(10 * step + n),
            "type": "function",
            "function": {
                "name": "get_weather",
                "arguments": json.dumps({"city": f"{name} {step} {n}"}, separators=(",", ":")),
            },
            **(kind.call(step) if n == 0 else {}),
        }
        for n in range(2 if step == 1 else 1)
    ]


def problem(name: str, body: Body) -> str:
    """What this backend refuses of a request; empty if nothing."""
    kind, messages = KINDS[name], body["messages"]
    calling = [message for message in messages if message.get("tool_calls")]
    for message in calling:
        city = json.loads(message["tool_calls"][0]["function"]["arguments"])["city"]
        maker, step, first = city.split(" ")
        if maker == name:
            if first == "0" and not _is_own(name, int(step), message):
                return kind.refusal
        elif wrong := _foreign(kind, message):
            return wrong
    if kind.named_results and not all(m.get("name") for m in messages if m["role"] == "tool"):
        return "function_response.name: Name cannot be empty."
    if name == "databricks" and asked(body) and calling:
        content = calling[-1].get("content")
        if not isinstance(content, list) or content[0]["type"] != "reasoning":
            return kind.refusal
    return ""


def _is_own(name: str, step: int, message: Body) -> bool:
    kind, sent = KINDS[name], calls_of(name, step)
    given = message["tool_calls"]
    if given != (sent[: len(given)] if name == "databricks" else sent):  # one by one there
        return False
    members = kind.message(step)
    extra = {
        each: message[each] for each in message if each not in ("role", "content", "tool_calls")
    }
    if {**members, **extra} != members or (members.keys() - kind.optional) - extra.keys():
        return False
    if kind.item is None:
        return not isinstance(message.get("content"), list)
    content = message.get("content")
    return not isinstance(content, list) or content[0] == kind.item(step)


def _foreign(kind: Kind, message: Body) -> str:
    taken = {"role", "content", "tool_calls", kind.foreign_member, *kind.optional}
    if unknown := message.keys() - taken:
        return f"Extra inputs are not permitted: {sorted(unknown)}"
    if isinstance(message.get("content"), list):
        return "content: expected a string"
    if kind.foreign_member and not message.get(kind.foreign_member):
        return kind.refusal
    for n, call in enumerate(message["tool_calls"]):
        wanted = kind.foreign_call if n == 0 else {}
        if {each: call[each] for each in call if each not in ("id", "type", "function")} != wanted:
            return kind.refusal
        if not _PLAIN_ID.fullmatch(call["id"]) or "llmp" in call["id"]:
            return f"Invalid 'tool_calls.id': {call['id']}"
    return ""


@define(eq=False)
class Opaque(ScriptedBackend):
    """All kinds on one address, each below a path of its name."""

    problems: list[str] = field(factory=list)

    def _next(self, request: Received) -> Sequence[Step]:
        name, body = request.path.split("/")[1], request.body
        if wrong := problem(name, body):
            self.problems.append(f"{name}: {wrong}")
            return [whole(400, error_json(wrong))]
        step = len({c.split(" ")[1] for c in _cities(body)})
        kind = KINDS[name]
        if step == STEPS:
            message: Body = {"role": "assistant", "content": "Take a coat."}
            return self._answer(kind, body, message, "stop")
        text: Any = "Let me look."
        if kind.item and kind.attaches(body):
            text = [kind.item(step), {"type": "text", "text": text}]
        message = {"role": "assistant", "content": text, **kind.message(step)}
        return self._answer(
            kind, body, {**message, "tool_calls": calls_of(name, step)}, "tool_calls"
        )

    def _answer(self, kind: Kind, body: Body, message: Body, finish: str) -> Sequence[Step]:
        if not body.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": finish}
            return [whole(200, {"choices": [choice]})]
        chunks = list(_chunks(message, kind.late))
        return [head() + sse(*chunks, delta(finish)) + DONE + END]


def _cities(body: Body) -> list[str]:
    calls = [call for m in body["messages"] for call in m.get("tool_calls", ())]
    return [json.loads(call["function"]["arguments"])["city"] for call in calls]


def _chunks(message: Body, late: bool) -> Iterator[Body]:
    members = [{name: message[name]} for name in message if name not in ("content", "tool_calls")]
    if not late:
        yield from (delta(**each) for each in members)
    content = message["content"]
    for part in content if isinstance(content, list) else [content]:
        yield from _content(part)
    for n, call in enumerate(message.get("tool_calls", ())):
        yield from call_deltas(call, n)
    if late:
        yield from (delta(**each) for each in members)


def _content(part: Any) -> Iterator[Body]:
    if isinstance(part, str):
        yield delta(content=part)
    elif part["type"] == "text":
        yield delta(content=[part])
    else:
        [summary] = part["summary"]
        for http_chunk in (summary["text"][:5], summary["text"][5:]):
            yield delta(
                content=[{**part, "summary": [{"type": summary["type"], "text": http_chunk}]}]
            )
        yield delta(content=[{**part, "summary": [{**summary, "text": ""}]}])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProxy]:
    backend = Opaque()
    config = config_for(
        {
            name: f'base_url: "{backend.url}/{name}/v1", {kind.options}'
            for name, kind in KINDS.items()
        },
        {name: MODELS.get(name, name) for name in KINDS},
    )
    with proxy(tmp_path_factory.mktemp("opaque"), config) as url:
        yield SharedProxy(backend, url)
    backend.close()


@pytest.fixture(scope="module")
def client(served: SharedProxy) -> Iterator[anthropic.Anthropic]:
    with sdk(served.url) as made:
        yield made


TOOL: Any = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def run(client: anthropic.Anthropic, loop: Loop) -> list[Any]:
    """Run a loop. Return the responses."""
    conversation: list[Any] = [{"role": "user", "content": "What do I wear?"}]
    responses = []
    for model in loop.models:
        request = {"model": model, "max_tokens": 5000, "tools": [TOOL], **WISHES[loop.wish]}
        response = create(client, loop.stream, {**request, "messages": conversation})
        responses.append(response)
        conversation.append({"role": "assistant", "content": response.content})
        uses = [block.id for block in response.content if block.type == "tool_use"]
        results = [{"type": "tool_result", "tool_use_id": each, "content": "18"} for each in uses]
        conversation.append({"role": "user", "content": results or "Thanks."})
    return responses


NAMES = list(KINDS)


@pytest.mark.parametrize("name", NAMES)
def test_rows_b11_to_b17_a_tool_loop_finishes_on(name: str, client: anthropic.Anthropic) -> None:
    for loop in loops(NAMES, name):
        responses = run(client, loop)

        reasons = [response.stop_reason for response in responses]
        assert reasons == ["tool_use"] * STEPS + ["end_turn"], loop
        blocks = [block for response in responses for block in response.content]
        calls = [sum(block.type == "tool_use" for block in r.content) for r in responses]
        assert calls == [1, 2, 1, 1, 0], loop
        ids = [block.id for block in blocks if block.type == "tool_use"]
        assert len(set(ids)) == len(ids)
        assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", tool_use_id) for tool_use_id in ids)
        if loop.wish != "on":
            assert "thinking" not in {block.type for block in blocks}, loop


def test_shortened_ids_are_refused_and_logged(
    client: anthropic.Anthropic, caplog: pytest.LogCaptureFixture
) -> None:
    [response] = run(client, Loop("unasked", False, ["openrouter"]))
    [use] = [block for block in response.content if block.type == "tool_use"]
    short = use.id[:64]
    history: list[Any] = [
        {"role": "user", "content": "What do I wear?"},
        {"role": "assistant", "content": [{**use.to_dict(), "id": short}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": short}]},
    ]
    with pytest.raises(anthropic.BadRequestError, match="reasoning details"):
        client.messages.create(model="openrouter", max_tokens=9, messages=history, tools=[TOOL])
    assert logged(caplog, "degraded=opaque_members:unreadable")
