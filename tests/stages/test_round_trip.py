"""Whatever a backend responses, what a client makes of it is a valid history.

An SDK's loop puts `content` back as the assistant's turn, responses each call, and asks again.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.events import Resolved
from stages.exchange import Target
from stages.messages_api import stream_events as e
from stages.messages_api.accumulate import MessageBuilder
from stages.messages_api.errors import InvalidRequestError
from stages.profiles.describe import profile_named
from stages.profiles.profile import profiles
from stages.translation.request import chat_request
from stages.validate import Validate
from stages.wire.json_codec import decode_lenient, decode_prefix, encode
from tests import support
from tests.cases import for_each
from tests.sdk_types import check_sent
from tests.stages.translation.fuzz_support import (
    CHUNKS,
    REQUESTS,
    UNSTREAMED,
    fragments,
    quick,
    run,
)
from tests.stages.translation.support import call, calls, completion, delta, finish, text
from tests.support import body, http

HELLO = {"role": "user", "content": "Hello"}
PROFILES = sorted(profiles())
TOOL = {"name": "f", "input_schema": {"type": "object"}}


def streamed(events: list[e.StreamEvent]) -> list[dict[str, Any]]:
    """The content a client puts together. As in JavaScript, strings may hold half a pair."""
    blocks: list[dict[str, Any]] = []
    parts: list[str] = []
    for payload in (json.loads(event.encoded().partition(b"data: ")[2]) for event in events):
        if payload["type"] == "content_block_start":
            blocks.append(payload["content_block"])
            parts.clear()
        elif payload["type"] == "content_block_delta":
            delta = payload["delta"]
            if delta["type"] == "signature_delta":
                blocks[-1]["signature"] = delta["signature"]
            else:
                parts += [value for name, value in delta.items() if name != "type"]
        elif payload["type"] == "content_block_stop":
            response, kind = "".join(parts), blocks[-1]["type"]
            blocks[-1] |= {"input": parsed(response)} if kind == "tool_use" else {kind: response}
    return blocks


def parsed(arguments: str) -> Any:
    """The arguments of a call, which may be cut; with what cannot be read a client gives up."""
    for parse in (json.loads, decode_prefix):
        try:
            value = parse(arguments)
        except ValueError:
            continue
        return value if isinstance(value, dict) else {}
    return {}


def whole(events: list[e.StreamEvent]) -> list[dict[str, Any]]:
    """The content of a message that is not streamed."""
    builder = MessageBuilder()
    for event in events:
        builder.add(event)
    message = json.loads(encode(builder.message))
    check_sent(message)
    content: list[dict[str, Any]] = message["content"]
    return content


def content_of(chunks: list[Any], stream: bool, thinking: bool = False) -> list[dict[str, Any]]:
    """The content of the response that `chunks` lead to; empty where they lead to an error."""
    events, complete = run(chunks, True, (REQUESTS if stream else UNSTREAMED)[thinking])
    if not complete:
        return []
    return streamed(events) if stream else whole(events)


def turns(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns that an agent's loop adds for one response."""
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "Done"}
        for block in content
        if block["type"] == "tool_use"
    ]
    then = {"role": "user", "content": results or "Go on"}
    return [{"role": "assistant", "content": content}, then]


def sent_back(messages: list[dict[str, Any]], profile: str = "generic") -> list[dict[str, Any]]:
    """The messages that the backend gets for this conversation. Raises ApiError."""
    asked = json.dumps(body(messages=messages, tools=[TOOL]))
    request = Validate().parse(asked.encode())
    resolved = Resolved(http(), request, Target("fake", "some-model"))
    value = chat_request(resolved, profile_named(profile)).messages
    return list(json.loads(encode(value)))


IDS = st.sampled_from(["", "a", "b", "functions.f:0", "call 1", "é" * 70, "x" * 70])
NAMES = st.sampled_from(["f", "get weather!", "a.b/c", "é", "x" * 200, " ", '"', "f\n"])
ARGUMENTS = st.sampled_from(
    [
        "",
        "{}",
        "null",
        "[1]",
        "ls -l",
        '{"a": 1}',
        '{"a": 1}{"b": 2}',
        '{"a": {"b": ["c',
        '{"a": "x\\',
        r'{"a": "\ud83d"}',
        r'{"a": "\ude00", "b": "\ud83d\ud83d\ude00"}',
        r'{"\udbff": "\\ud83d", "a": "\\\ud83d"}',
        r'{"a": "x\ud83d\u',
    ]
)
TEXTS = st.sampled_from(["", " ", "\n\n", "Hello", "é\U0001f600 ", "\u2028", "<think>", "\x00"])
REASONS = st.sampled_from(["stop", "tool_calls", "length", "content_filter", None])


@st.composite
def responses(draw: st.DrawFn) -> list[Any]:
    """The chunks of a response in order, of odd parts."""
    names = draw(st.lists(st.sampled_from(["content", "reasoning", "refusal"]), max_size=3))
    chunks: list[Any] = [delta(**{name: draw(TEXTS)}) for name in names]
    for n in range(draw(st.integers(0, 3))):
        first, *remaining = fragments(draw, draw(ARGUMENTS))
        chunks.append(calls(call(draw(NAMES), first, index=n, id=draw(IDS))))
        chunks += [calls(call(None, item, index=n)) for item in remaining]
    chunks.append(delta(content=draw(TEXTS)))
    return [*chunks, finish(draw(REASONS))]


@given(
    st.lists(responses() | st.lists(CHUNKS, max_size=5), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
    st.sampled_from(PROFILES),
)
@settings(quick, max_examples=60)
def test_row_c3_any_response_can_be_sent_back(
    value: list[list[Any]], stream: bool, thinking: bool, profile: str
) -> None:
    messages: list[dict[str, Any]] = [HELLO]
    for chunks in value:
        messages += turns(content_of(chunks, stream, thinking))
        result = sent_back(messages, profile)
        waiting: list[str] = []
        for message in result:
            if message["role"] == "tool":
                waiting.remove(message["tool_call_id"])
            else:
                assert not waiting
                assert message.get("content") or message["tool_calls"]
            waiting += [item["id"] for item in message.get("tool_calls", ())]
        assert not waiting
        assert result[-1]["role"] in ("user", "tool")


NOTHING: dict[str, list[Any]] = {
    "nothing": [finish()],
    "white space": [text(" \n"), finish()],
    "reasoning nobody asked for": [delta(reasoning="Hm."), finish()],
    "a filter": [finish("content_filter")],
    "a limit": [text(""), finish("length")],
}


@for_each("stream", [True, False], ids=["streamed", "whole"])
@for_each("chunks", NOTHING.values(), ids=NOTHING)
def test_row_c3_a_response_that_says_nothing_can_be_sent_back(
    chunks: list[Any], stream: bool
) -> None:
    content = content_of(chunks, stream)
    assert content == []
    assert sent_back([HELLO, *turns(content)]) == [{"role": "user", "content": "Hello\n\nGo on"}]


EMPTY = {"type": "text", "text": ""}
USE = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
CALLED = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize("content", ["", [], [EMPTY], [EMPTY, EMPTY]])
def test_row_c3_an_empty_turn_of_the_assistant_says_nothing(content: Any) -> None:
    empty = {"role": "assistant", "content": content}
    for profile in PROFILES:
        result = sent_back([HELLO, empty, HELLO], profile)
        assert result == [{"role": "user", "content": "Hello\n\nHello"}], profile
        assert sent_back([HELLO, empty], profile) == [HELLO], profile


def test_row_c3_an_empty_text_next_to_a_call_says_nothing() -> None:
    orders: list[list[dict[str, Any]]] = [[EMPTY, USE], [USE, EMPTY]]
    for content in orders:
        result = sent_back([HELLO, *turns(content)])
        assert result[1] == {"role": "assistant", "content": None, "tool_calls": [CALLED]}
        assert result[2]["role"] == "tool"


@pytest.mark.parametrize("content", ["", [], [EMPTY], [{"type": "text", "text": "Hi"}, EMPTY]])
def test_row_c3_an_empty_turn_of_the_user_is_refused(content: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"messages\.2.*non-empty"):
        sent_back([HELLO, {"role": "assistant", "content": []}, {**HELLO, "content": content}])


# Half a surrogate pair in the arguments of a call

HALVES = {
    "half at the end": (r'{"location": "Z\ud83d"}', {"location": "Z\ufffd"}),
    "the second half": (r'{"a": "\ude00x", "b": 1}', {"a": "\ufffdx", "b": 1}),
    "halves and a pair": (r'{"a": "\ud83d\uD83D\uDE00\uDBFF"}', {"a": "\ufffd\U0001f600\ufffd"}),
    "in a name": (r'{"\ud83d": {"b": ["\ud83d", null]}}', {"\ufffd": {"b": ["\ufffd", None]}}),
    "after a backslash": (r'{"a": "\\\ud83d\\"}', {"a": "\\\ufffd\\"}),
    "a backslash before it": (r'{"a": "\\ud83d\ud83d"}', {"a": "\\ud83d\ufffd"}),
    "another escape after it": (r'{"a": "\ud83d\u00e9\n"}', {"a": "\ufffdé\n"}),
    "a whole pair": (r'{"a": "\ud83d\ude00 \\u"}', {"a": "\U0001f600 \\u"}),
}


@for_each("stream", [True, False], ids=["streamed", "whole"])
@for_each(("arguments", "expected"), HALVES.values(), ids=HALVES)
def test_row_c9_half_a_pair_becomes_a_replacement_character(
    arguments: str, expected: dict[str, Any], stream: bool
) -> None:
    chunks = [calls(call("f", arguments, index=0, id="a")), finish("tool_calls")]
    if not stream:
        function = {"name": "f", "arguments": arguments}
        chunks = [completion("tool_calls", tool_calls=[{"id": "a", "function": function}])]
    content = content_of(chunks, stream)
    assert [block["input"] for block in content] == [expected]
    sent = sent_back([HELLO, *turns(content)])[1]["tool_calls"][0]["function"]
    assert json.loads(sent["arguments"]) == expected


@for_each("arguments", [each for each, _ in HALVES.values()])
def test_row_c9_where_arguments_are_split_makes_no_difference(arguments: str) -> None:
    at_once = written([arguments])
    assert written(list(arguments)) == at_once
    for place in range(len(arguments)):
        for length in range(3):
            ends = place, min(place + length, len(arguments))
            pieces = [arguments[: ends[0]], arguments[slice(*ends)], arguments[ends[1] :]]
            assert written(pieces) == at_once


#: Without stop sequences, which may cut a call: arguments are sent as they come.
AT_ONCE = support.chat_request(stream=True)


def written(pieces: list[str]) -> str:
    """The arguments a client gets for those in pieces, as they are on the wire."""
    chunks = [calls(call("f", "", index=0, id="a"))]
    chunks += [calls(call(None, piece, index=0)) for piece in pieces]
    events, _ = run([*chunks, finish("tool_calls")], True, AT_ONCE)
    return "".join(event.text for event in events if isinstance(event, e.BlockDelta))


def test_row_c9_only_a_possible_half_escape_is_held_back() -> None:
    def forwarded(first: str) -> str:
        chunks = [calls(call("f", first, index=0, id="a"))]
        events, _ = run(chunks, True, AT_ONCE)
        return next(event.text for event in events if isinstance(event, e.BlockDelta))

    for buffered in (
        "\\",
        "\\u",
        "\\uD",
        "\\ud8",
        "\\ud83",
        "\\ud83d",
        "\\ud83d\\",
        "\\ud83d\\ude0",
    ):
        assert forwarded(f'{{"a": "x{buffered}') == '{"a": "x'
    for sent in ("\\\\", "\\n", "\\u0", "\\u00e", "\\ud83d\\ude00", "\\\\u", "ud83d"):
        assert forwarded(f'{{"a": "x{sent}') == f'{{"a": "x{sent}'


def test_row_c9_arguments_cut_in_an_escape_keep_the_whole_part() -> None:
    for end in ("\\", "\\u", "\\ud83d", "\\ud83d\\u"):
        chunks = [calls(call("f", f'{{"a": 1, "b": "x{end}', index=0, id="a")), finish("length")]
        assert [block["input"] for block in content_of(chunks, stream=False)] == [{"a": 1}]
        assert written([f'{{"a": 1, "b": "x{end}']).endswith(end.replace("\\ud83d", "\\ufffd"))


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (rb'{"a": "{\"b\": \"\\ud83d\\ude00\"} \ud83d"}', '{"b": "\\ud83d\\ude00"} \ufffd'),
        (b'{"a": "x\xed\xa0\xbd"}', "x\ufffd\ufffd\ufffd"),
        (b'{"a": "x\xf0\x9f"}', "x\ufffd"),
    ],
    ids=["a pair in the JSON inside", "half a pair in UTF-8", "half a character"],
)
def test_row_c9_one_bad_character_does_not_end_a_response(data: bytes, value: str) -> None:
    assert decode_lenient(data) == {"a": value}
