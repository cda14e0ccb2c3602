"""Chunks of Chat Completions responses, and their translation."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from stages.events import ChatRequest
from stages.messages_api import stream_events as e
from stages.messages_api.accumulate import MessageBuilder
from stages.messages_api.request import MessagesRequest
from stages.profiles.profile import Profile
from stages.translation.conversation import conversation
from stages.translation.field_policies import FieldPolicies
from stages.translation.history import history
from stages.translation.response import ResponseTranslator
from stages.translation.structured_output import structured_output
from tests.grammar import check_grammar
from tests.sdk_types import check_sent
from tests.support import chat_request

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


def delta(**members: Any) -> dict[str, Any]:
    """A chunk with one delta."""
    return {"choices": [{"index": 0, "delta": members, "finish_reason": None}]}


def text(content: str) -> dict[str, Any]:
    """A chunk with a piece of text."""
    return delta(content=content)


def calls(*fragments: dict[str, Any]) -> dict[str, Any]:
    """A chunk with fragments of tool calls."""
    return delta(tool_calls=list(fragments))


def call(name: Any = None, arguments: Any = None, **members: Any) -> dict[str, Any]:
    """A fragment of a tool call; only members that are given are there."""
    function = {"name": name, "arguments": arguments}
    return {**members, "function": {k: v for k, v in function.items() if v is not None}}


def finish(reason: Any = "stop", **members: Any) -> dict[str, Any]:
    """The chunk with the finish reason."""
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], **members}


def usage(**counts: Any) -> dict[str, Any]:
    """The chunk with the usage and no choice."""
    return {"choices": [], "usage": counts or USAGE}


def completion(reason: Any = "stop", **message: Any) -> dict[str, Any]:
    """A whole response in one piece, as backends give it where no stream was asked for."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    return {"object": "chat.completion", "choices": [choice], "usage": USAGE}


def messages_of(
    request: MessagesRequest, profile: Profile, fields: FieldPolicies
) -> list[dict[str, Any]]:
    """The Chat Completions messages of a request, for the owner `fake`."""
    output = structured_output(request, profile, fields)
    turns = history(request, profile, fields, output.instruction)
    return conversation(turns, "fake", profile, fields)[0]


THINKING = {"type": "adaptive"}


def translate(
    chunks: Iterable[Any], *, done: bool = True, request: ChatRequest | None = None
) -> list[e.StreamEvent]:
    """The events `chunks` lead to, of which the grammar has been checked."""
    translator = ResponseTranslator(request or chat_request())
    events = [event for chunk in chunks for event in translator.translate(chunk)]
    events += translator.end(done)
    check_grammar(event.payload() for event in events)
    return events


def message(chunks: Iterable[Any], **options: Any) -> dict[str, Any]:
    """The message `chunks` lead to."""
    builder = MessageBuilder()
    for event in translate(chunks, **options):
        builder.add(event)
    check_sent(builder.message)
    return builder.message


def content(chunks: Iterable[Any], **options: Any) -> list[tuple[Any, ...]]:
    """The content `chunks` lead to, without ids: ("text", …), ("tool_use", name, input)."""
    short: list[tuple[Any, ...]] = []
    for block in message(chunks, **options)["content"]:
        if block["type"] == "tool_use":
            short.append(("tool_use", block["name"], block["input"]))
        else:
            short.append((block["type"], block[block["type"]]))
    return short


def pieces(whole: str, size: int) -> list[str]:
    """`whole`, cut every `size` characters."""
    return [whole[n : n + size] for n in range(0, len(whole), size)]


def arguments(**value: Any) -> str:
    """The arguments of a call as JSON."""
    return json.dumps(value)
