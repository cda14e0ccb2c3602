"""A scripted provider: what it refuses, and how it answers.

The conversation decides what is said, so one server serves all providers and all loops at once:

    results of tools in it    answer
    ----------------------    ---------------------------------------------
    0                         two calls at once
    2                         one call
    3, one of them LONG       the prompt is too long
    3                         one call
    4 and more                the end
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from attrs import define, field, frozen

from tests.wire.backend import Received, ScriptedBackend, Step
from tests.wire.chat import DONE, END, call_deltas, delta, head, sse, whole

Body = dict[str, Any]
#: Words that a tool result has which makes the prompt too long.
LONG = "LONG"
THOUGHT, SPOKEN, LAST = "Let me think.", "Let me look.", "Take a coat."
_CITIES = {0: ("Paris", "Atlantis"), 2: ("Rome",), 3: ("Oslo",)}


@frozen
class Rule:
    """What a provider refuses, in its own words."""

    refuses: Callable[[Body], object]
    words: str
    status: int = 400


def openai_error(status: int, words: str) -> Any:
    return {"error": {"message": words, "type": "invalid_request_error", "code": None}}


def openai_usage(thought: int) -> dict[str, Any]:
    details = {"reasoning_tokens": thought}
    return {
        "prompt_tokens": 40,
        "completion_tokens": 10 + thought,
        "total_tokens": 50 + thought,
        "completion_tokens_details": details,
    }


def effort(body: Body) -> bool:
    """Reasoning as OpenAI has it, and off unless it is asked for."""
    return bool(body.get("reasoning_effort", "none") != "none")


def call_id(number: int) -> str:
    return f"call_{number}"


@frozen
class Provider:
    """One provider. `known` are the members of a call that it takes, where it is strict."""

    profile: str
    model: str
    rules: Sequence[Rule] = ()
    known: frozenset[str] = frozenset()
    unknown: str = "Unrecognized request argument supplied: {}"
    unknown_status: int = 400
    error: Callable[[int, str], Any] = openai_error
    overflow: Rule | None = None
    thinks: Callable[[Body], bool] = effort
    reasoning: Callable[[str], Body] = lambda thought: {"reasoning_content": thought}
    """The members of a message, or of a delta, that hold reasoning."""
    shows_reasoning: bool = True
    identity: Callable[[int], str] = call_id
    usage: Callable[[int], dict[str, Any]] = openai_usage
    usage_at: str = "usage"
    usage_in_streams: Literal["asked", "always", "never"] = "asked"
    call: Body = field(factory=dict)
    """Opaque members of a call."""

    def refusal(self, body: Body) -> tuple[int, Any] | None:
        """The status and body of what it says to a request that it does not take."""
        for rule in (*_order_rules(), *self.rules):
            if rule.refuses(body):
                return rule.status, self.error(rule.status, rule.words)
        for name in sorted(body.keys() - self.known) if self.known else ():
            return self.unknown_status, self.error(self.unknown_status, self.unknown.format(name))
        if self.overflow is not None and LONG in json.dumps(body["messages"]):
            return self.overflow.status, self.error(self.overflow.status, self.overflow.words)
        return None

    def message(self, body: Body) -> tuple[Body, str]:
        """The message, whole, and its finish reason."""
        results = sum(message["role"] == "tool" for message in body["messages"])
        message: Body = {"role": "assistant", "content": LAST}
        finish = "stop"
        if cities := _CITIES.get(results):
            message |= {"content": SPOKEN, "tool_calls": list(self._calls(results, cities))}
            finish = "tool_calls"
        if self.thinks(body) and self.shows_reasoning:
            more = self.reasoning(THOUGHT)
            if "content" in more:  # it is a part, or tags, of the content
                more = {"content": _joined(more["content"], message["content"])}
            message |= more
        return message, finish

    def _calls(self, results: int, cities: Sequence[str]) -> Iterator[Body]:
        for n, city in enumerate(cities):
            function = {"name": "get_weather", "arguments": json.dumps({"city": city})}
            yield {
                "id": self.identity(results + n),
                "type": "function",
                "function": function,
                **(self.call if n == 0 else {}),
            }


def _joined(thought: Any, text: str) -> Any:
    if isinstance(thought, list):
        return [*thought, {"type": "text", "text": text}]
    return thought + text


def _order_rules() -> tuple[Rule, ...]:
    return (
        Rule(
            lambda body: _unanswered(body["messages"]),
            "An assistant message with 'tool_calls' must be followed by tool messages responding "
            "to each 'tool_call_id'.",
        ),
        Rule(
            lambda body: len(set(ids(body))) < len(ids(body)),
            "Duplicate tool call ids in messages.",
        ),
    )


def ids(body: Body) -> list[str]:
    calls = [each for message in body["messages"] for each in message.get("tool_calls", ())]
    return [call["id"] for call in calls]


def _unanswered(messages: list[Body]) -> bool:
    waiting: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                return True
            waiting.discard(message["tool_call_id"])
        elif waiting:
            return True
        waiting |= {call["id"] for call in message.get("tool_calls", ())}
    return bool(waiting)


@define(eq=False)
class Providers(ScriptedBackend):
    """All providers on one address, each below a path of its name."""

    table: dict[str, Provider] = field(factory=dict)
    refused: Counter[tuple[str, str]] = field(factory=Counter)
    """How often each provider has refused, by its words."""

    def _next(self, request: Received) -> Sequence[Step]:
        name = request.path.split("/")[1]
        with self._news:
            self.requests.append(request)
        provider, body = self.table[name], request.body
        if (reply := provider.refusal(body)) is not None:
            status, error = reply
            self.refused[name, json.dumps(error)] += 1
            return [whole(status, error)]
        message, finish = provider.message(body)
        usage = provider.usage(5 if provider.thinks(body) else 0)
        if not body.get("stream"):
            return [whole(200, _completion(provider, message, finish, usage))]
        asked = (body.get("stream_options") or {}).get("include_usage")
        reported = {"asked": asked, "always": True, "never": False}[provider.usage_in_streams]
        chunks = list(_chunks(provider, message, finish, usage if reported else None))
        return [head() + sse(*chunks) + DONE + END]


def _completion(provider: Provider, message: Body, finish: str, usage: Body) -> Body:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"object": "chat.completion", "choices": [choice], provider.usage_at: usage}


def _chunks(provider: Provider, message: Body, finish: str, usage: Body | None) -> Iterator[Body]:
    """The message as a stream: a chunk for each member, two for the arguments of a call."""
    yield delta(role="assistant", content="")
    content = message["content"]
    for name in message.keys() - {"role", "content", "tool_calls"}:
        yield delta(**{name: message[name]})
    for part in content if isinstance(content, list) else [content]:
        yield delta(content=[part] if isinstance(part, dict) else part)
    for n, call in enumerate(message.get("tool_calls", ())):
        yield from call_deltas(call, n)
    yield delta(finish)
    if usage is not None:
        yield {"choices": [], provider.usage_at: usage}
