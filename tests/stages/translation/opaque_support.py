"""Helpers of the tests of opaque members."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest
from attrs import evolve, field, frozen

from stages.events import ChatRequest, Resolved
from stages.exchange import Target
from stages.messages_api.accumulate import MessageBuilder
from stages.profiles.profile import Profile
from stages.translation.request import chat_request
from stages.translation.response import ResponseTranslator
from tests.grammar import check_grammar
from tests.sdk_types import check_sent
from tests.stages.translation.support import (
    arguments,
    call,
    calls,
    finish,
)
from tests.support import profile, resolved

ADAPTIVE = {"type": "adaptive"}
OMITTED = {"type": "adaptive", "display": "omitted"}
QUESTION = {"role": "user", "content": "What do I wear?"}
PARIS = arguments(city="Paris")
SIGNED: dict[str, Any] = {"extra_content": {"google": {"thought_signature": "c2lnbmF0dXJl" * 50}}}
ENCRYPTED = {"type": "reasoning.encrypted", "data": "ZGF0YQ" * 50, "id": "x", "index": 0}
ID = re.compile(r"[a-zA-Z0-9_-]+")


@frozen
class Talk:
    """A conversation with one backend, by its profile."""

    profile: Profile = field(factory=profile)
    target: Target = Target("fake", "some-model")
    more: dict[str, Any] = field(factory=dict)
    turns: tuple[Any, ...] = (QUESTION,)

    def request(self) -> ChatRequest:
        event = resolved(messages=list(self.turns), max_tokens=5000, **self.more)
        return chat_request(Resolved(event.http, event.request, self.target), self.profile)

    def answer(self, chunks: Iterable[Any]) -> dict[str, Any]:
        """The message that the client gets."""
        translator, builder = ResponseTranslator(self.request()), MessageBuilder()
        events = [event for chunk in chunks for event in translator.translate(chunk)]
        events += translator.end(True)
        check_grammar(event.payload() for event in events)
        for event in events:
            builder.add(event)
        check_sent(builder.message)
        return builder.message

    def then(self, reply: dict[str, Any], **changes: Any) -> Talk:
        """The next turn: all tools have run, and the client returns all blocks."""
        uses = [block["id"] for block in reply["content"] if block["type"] == "tool_use"]
        results = [{"type": "tool_result", "tool_use_id": use, "content": "18"} for use in uses]
        response = {"role": "assistant", "content": reply["content"]}
        turns = (*self.turns, response, {"role": "user", "content": results or "Sure?"})
        return evolve(self, turns=turns, **changes)

    def sent(self, message: int = 1) -> dict[str, Any]:
        """A message of the next request, or the last one of the assistant."""
        return self.request().messages[message]


def one_call(identity: str = "call_1", **members: Any) -> list[dict[str, Any]]:
    """A stream with one call, which has these members."""
    begun = {**call("f", PARIS[:5], index=0, id=identity), **members}
    return [calls(begun), calls(call(arguments=PARIS[5:], index=0)), finish("tool_calls")]


def returned(identity: str = "call_1", **members: Any) -> dict[str, Any]:
    """The call, as it goes back."""
    function = {"name": "f", "arguments": '{"city":"Paris"}'}
    return {"id": identity, "type": "function", "function": function, **members}


WISHES = pytest.mark.parametrize(
    "requested",
    [{}, {"thinking": ADAPTIVE}, {"thinking": OMITTED}, {"thinking": {"type": "disabled"}}],
)
# C18: text of another


PLAIN = {"fields": {"thinking_block": "map"}}
