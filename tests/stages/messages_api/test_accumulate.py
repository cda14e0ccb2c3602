"""Stream events put together to one message."""

from __future__ import annotations

from typing import Any

import pytest

from stages.messages_api import stream_events as e
from stages.messages_api.accumulate import MessageBuilder, tool_input
from stages.messages_api.usage import Usage
from stages.validate import Validate
from stages.wire.json_codec import encode
from tests.cases import for_each
from tests.support import body, request

START = e.MessageStart("msg_1", "claude-test", Usage(3, 1), request())


def built(*events: e.StreamEvent) -> dict[str, Any]:
    builder = MessageBuilder()
    for event in events:
        builder.add(event)
    return builder.message


def tool(*fragments: str) -> list[e.StreamEvent]:
    opening = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    deltas = [e.BlockDelta(0, "input_json_delta", fragment) for fragment in fragments]
    return [e.BlockStart(0, opening), *deltas, e.BlockStop(0)]


def test_a_whole_message_has_all_members() -> None:
    message = built(
        START,
        e.Ping(),
        e.BlockStart(0, {"type": "thinking", "thinking": "", "signature": ""}),
        e.BlockDelta(0, "thinking_delta", "h"),
        e.BlockDelta(0, "thinking_delta", "m"),
        e.BlockDelta(0, "signature_delta", "sig"),
        e.BlockStop(0),
        e.BlockStart(1, {"type": "text", "text": ""}),
        e.BlockDelta(1, "text_delta", "a"),
        e.BlockDelta(1, "text_delta", "b"),
        e.BlockStop(1),
        e.BlockStart(2, {"type": "tool_use", "id": "a", "name": "f", "input": {}}),
        e.BlockDelta(2, "input_json_delta", '{"n":'),
        e.BlockDelta(2, "input_json_delta", "1}"),
        e.BlockStop(2),
        e.MessageDelta("tool_use", Usage(5, 7, 2, 1, 3)),
        e.MessageStop(),
    )
    assert message == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "sig"},
            {"type": "text", "text": "ab"},
            {"type": "tool_use", "id": "a", "name": "f", "input": {"n": 1}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 5,
            "output_tokens": 7,
            "output_tokens_details": {"thinking_tokens": 3},
            "cache_read_input_tokens": 2,
            "cache_creation_input_tokens": 1,
            "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 0},
            "service_tier": "standard",
        },
    }


def test_a_message_may_have_no_content() -> None:
    message = built(START, e.MessageDelta("end_turn", Usage(3, 1)), e.MessageStop())
    assert message["content"] == []


def test_the_opening_block_is_not_changed() -> None:
    opening = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    built(START, e.BlockStart(0, opening), e.BlockDelta(0, "input_json_delta", '{"n":1}'))
    built(START, *tool('{"n":1}'))
    assert opening["input"] == {}


def test_two_messages_share_nothing() -> None:
    first, second = built(START, *tool('{"n":1}')), built(START, *tool('{"n":2}'))
    assert first["content"][0]["input"] == {"n": 1}
    assert second["content"][0]["input"] == {"n": 2}


INPUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "an object": ('{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}),
    "nothing": ("", {}),
    "white space": (" \n", {}),
    "white space around": (' {"a":1}\n', {"a": 1}),
    "a brace too many": ('{"a": 1}}', {"a": 1}),
    "a key twice": ('{"a": 1, "a": 2}', {"a": 2}),
    "a large integer": ('{"a": 1180591620717411303424}', {"a": 2**70}),
    "a list": ("[1]", {"_raw": "[1]"}),
    "a string": ('"a"', {"_raw": '"a"'}),
    "null": ("null", {"_raw": "null"}),
    "no JSON": ("ls -l", {"_raw": "ls -l"}),
    "Python": ("{'a': 1}", {"_raw": "{'a': 1}"}),
    "a line break in a string": ('{"a": "\n"}', {"_raw": '{"a": "\n"}'}),
    "NaN": ('{"a": NaN}', {"_raw": '{"a": NaN}'}),
    "a number too large": ('{"a": 1e400}', {"_raw": '{"a": 1e400}'}),
    "a fence": ("```json\n{}\n```", {"_raw": "```json\n{}\n```"}),
    "very deep": ("[" * 500, {"_raw": "[" * 500}),
}


@for_each(("arguments", "expected"), INPUTS.values(), ids=INPUTS)
def test_pitfall_35_any_arguments_become_an_object(
    arguments: str, expected: dict[str, Any]
) -> None:
    assert tool_input(arguments) == expected
    assert built(START, *tool(*arguments))["content"][0]["input"] == expected


CUT: dict[str, tuple[str, dict[str, Any]]] = {
    "a string": ('{"n": 1, "path": "/tmp/x', {"n": 1}),
    "the only string": ('{"command": "rm -rf /tmp/x', {}),
    "a list": ('{"a": [1, 2', {"a": [1, 2]}),
    "a key": ('{"path": "/", "x', {"path": "/"}),
    "a word": ('{"a": 1, "b": tr', {"a": 1}),
}


@for_each("reason", ["max_tokens", "model_context_window_exceeded", "refusal"])
@for_each(("arguments", "expected"), CUT.values(), ids=CUT)
def test_a_truncated_response_has_the_complete_members_of_a_call(
    arguments: str, expected: dict[str, Any], reason: str
) -> None:
    message = built(START, *tool(*arguments), e.MessageDelta(reason, Usage(3, 1)))
    assert message["content"][0]["input"] == expected


@for_each("arguments", [arguments for arguments, _ in CUT.values()], ids=CUT)
def test_cut_arguments_of_a_call_that_the_client_runs_are_raw(arguments: str) -> None:
    message = built(START, *tool(*arguments), e.MessageDelta("tool_use", Usage(3, 1)))
    assert message["content"][0]["input"] == {"_raw": arguments}


def nested(depth: int, opening: str = '{"a":', closing: str = "}") -> str:
    """An object with this many containers within each other."""
    return '{"a":' + opening * (depth - 1) + "1" + closing * (depth - 1) + "}"


@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]"), ("[0,", ",0]")])
def test_arguments_too_deep_for_the_next_request_are_raw(opening: str, closing: str) -> None:
    fits, too_deep = (nested(depth, opening, closing) for depth in (195, 196))
    block = {"type": "tool_use", "id": "a", "name": "f"}
    for arguments in (fits, too_deep, nested(198, opening, closing)):
        content = [{**block, "input": tool_input(arguments)}]
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": content}]
        results = [{"type": "tool_result", "tool_use_id": "a", "content": "Done"}]
        turns.append({"role": "user", "content": results})
        Validate().parse(encode(body(messages=turns)))
    assert "_raw" not in tool_input(fits)
    assert tool_input(too_deep) == {"_raw": too_deep}
