"""The official SDK sends a response back as the assistant's message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.wire import agents
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import DONE, END, completion, delta, head, sse, streamed
from tests.wire.chat import whole as unstreamed
from tests.wire.client import MODES

HELLO: Any = {"role": "user", "content": "Hello"}
TOOL: Any = {"name": "get_weather", "input_schema": {"type": "object"}}


@pytest.fixture
def sdk(url: str) -> Iterator[anthropic.Anthropic]:
    with agents.sdk(url) as made:
        yield made


def ask(sdk: anthropic.Anthropic, messages: list[Any], stream: bool) -> anthropic.types.Message:
    request = {"model": "claude-test", "max_tokens": 100, "tools": [TOOL], "messages": messages}
    return agents.create(sdk, stream, request)


def says(backend: ScriptedBackend, stream: bool, finish: str, *members: dict[str, Any]) -> None:
    """Script a response with these deltas, and one that says hello."""
    if stream:
        backend.says(head() + sse(*(delta(**m) for m in members), delta(finish)) + DONE + END)
        backend.says(streamed("Hello"))
        return
    message = {name: value for each in members for name, value in each.items()}
    choice = {"message": {"role": "assistant", **message}, "finish_reason": finish}
    backend.says(unstreamed(200, {"choices": [choice]}))
    backend.says(unstreamed(200, completion("Hello")))


@MODES
@pytest.mark.parametrize(
    ("finish", "members"),
    [
        ("stop", {"content": ""}),
        ("stop", {"content": "\n\n"}),
        ("stop", {"reasoning": "Hm."}),
        ("content_filter", {"content": None}),
    ],
    ids=["nothing", "white space", "reasoning", "a filter"],
)
def test_row_c3_a_conversation_continues_after_an_empty_response(
    finish: str,
    members: dict[str, Any],
    stream: bool,
    sdk: anthropic.Anthropic,
    backend: ScriptedBackend,
) -> None:
    says(backend, stream, finish, members)
    answer = ask(sdk, [HELLO], stream)
    assert answer.content == []
    assert answer.stop_reason == ("refusal" if finish == "content_filter" else "end_turn")
    history = [HELLO, {"role": "assistant", "content": answer.content}, HELLO]
    again = ask(sdk, history, stream)
    assert [block.type for block in again.content] == ["text"]
    sent = backend.request(1).body["messages"]
    assert sent == [{"role": "user", "content": "Hello\n\nHello"}]


@MODES
def test_row_c9_a_lone_surrogate_in_arguments_is_accepted(
    stream: bool, sdk: anthropic.Anthropic, backend: ScriptedBackend
) -> None:
    function = {"name": "get_weather", "arguments": '{"location": "Z\\ud8'}
    rest = {"arguments": '3d"}'}
    calls = [{"index": 0, "id": "call_0", "type": "function", "function": function}]
    if stream:
        members = [{"tool_calls": calls}, {"tool_calls": [{"index": 0, "function": rest}]}]
    else:
        function["arguments"] += rest["arguments"]
        members = [{"tool_calls": calls}]
    says(backend, stream, "tool_calls", *members)
    answer = ask(sdk, [HELLO], stream)
    (block,) = answer.content
    assert isinstance(block, anthropic.types.ToolUseBlock)
    assert block.input == {"location": "Z\ufffd"}
    result = {"type": "tool_result", "tool_use_id": block.id, "content": "Sunny"}
    history = [HELLO, {"role": "assistant", "content": answer.content}]
    ask(sdk, [*history, {"role": "user", "content": [result]}], stream)
    (call,) = backend.request(1).body["messages"][1]["tool_calls"]
    assert call["function"]["arguments"] == '{"location":"Z\ufffd"}'
