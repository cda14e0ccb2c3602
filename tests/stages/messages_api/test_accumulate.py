"""Stream events put together to one message."""

from __future__ import annotations

from typing import Any

import pytest

from stages.messages_api import stream_events as e
from stages.messages_api.accumulate import MessageBuilder, tool_input
from stages.messages_api.usage import Usage
from tests.support import request

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
    "a string that breaks off": ('{"n": 1, "path": "/tmp/x', {"n": 1}),
    "a list that breaks off": ('{"a": [1, 2', {"a": [1, 2]}),
    "a key that breaks off": ('{"a": 1, "b', {"a": 1}),
    "a word that breaks off": ('{"a": 1, "b": tr', {"a": 1}),
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


@pytest.mark.parametrize(("arguments", "expected"), INPUTS.values(), ids=INPUTS)
def test_pitfall_35_any_arguments_become_an_object(
    arguments: str, expected: dict[str, Any]
) -> None:
    assert tool_input(arguments) == expected
    assert built(START, *tool(*arguments))["content"][0]["input"] == expected
