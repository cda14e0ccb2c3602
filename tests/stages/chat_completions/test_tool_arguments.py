"""Arguments of calls that come in odd ways: repeated, encoded twice, under other ids."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.messages_api import stream_events as e
from stages.translation.response import ResponseTranslator
from tests.cases import for_each
from tests.stages.translation.support import (
    arguments,
    call,
    calls,
    completion,
    content,
    finish,
    pieces,
    text,
    translate,
)
from tests.support import chat_request

COMMAND = arguments(command="ls -l")
SPACED = '{ "command" : "ls -l" }'


def streamed(*fragments: Any, end: str = "tool_calls") -> list[dict[str, Any]]:
    """One call whose arguments come in these fragments."""
    begun = calls(call("Bash", "", index=0, id="call_a"))
    return [
        begun,
        *(calls(call(arguments=fragment, index=0)) for fragment in fragments),
        finish(end),
    ]


def sent(chunks: list[dict[str, Any]]) -> str:
    """The arguments, as a client of a stream gets them."""
    events = translate(chunks)
    return "".join(event.text for event in events if isinstance(event, e.BlockDelta))


# B3: which call a fragment belongs to


@pytest.mark.parametrize("index", [{"index": 0}, {}], ids=["index", "no index"])
@pytest.mark.parametrize("name", [None, ""], ids=["none", "empty"])
def test_row_b3_fragments_whose_ids_differ_are_of_one_call(name: Any, index: Any) -> None:
    chunks = [calls(call("Bash", "", id="call_0", **index))]
    for n, more in enumerate(pieces(COMMAND, 5)):
        chunks.append(calls(call(name, more, id=f"call_{n + 1}", **index)))
    assert content([*chunks, finish("tool_calls")]) == [("tool_use", "Bash", {"command": "ls -l"})]


def test_row_b3_fragments_of_two_calls_belong_to_their_index() -> None:
    chunks = [calls(call("f", "", id="a", index=0)), calls(call("g", "", id="b", index=1))]
    for n, more in enumerate(pieces(COMMAND, 5)):
        chunks += [calls(call(arguments=more, id=f"x{n}{i}", index=i)) for i in (1, 0)]
    result = content([*chunks, finish("tool_calls")])
    assert result == [("tool_use", name, {"command": "ls -l"}) for name in "fg"]


def test_row_b3_another_id_with_a_name_is_another_call() -> None:
    chunks = [
        calls(call("f", "{}", id="a", index=0)),
        calls(call("g", COMMAND[:5], id="b", index=0)),
        calls(call(arguments=COMMAND[5:], id="c", index=0)),
        finish("tool_calls"),
    ]
    assert content(chunks) == [("tool_use", "f", {}), ("tool_use", "g", {"command": "ls -l"})]


# B6: repeated arguments


@for_each("again", [COMMAND, SPACED, COMMAND * 2, f"\n{COMMAND}\n", COMMAND + " "])
@for_each("size", [3, 100])
def test_row_b6_arguments_that_are_repeated_are_sent_once(again: str, size: int) -> None:
    chunks = streamed(*pieces(COMMAND, 5), *pieces(again, size))
    assert sent(chunks).strip() == COMMAND


def test_row_b6_also_where_another_call_follows() -> None:
    other = calls(call("g", "{}", index=1, id="call_b"))
    chunks = [*streamed(COMMAND, COMMAND)[:-1], other, finish("tool_calls")]
    assert content(chunks) == [("tool_use", "Bash", {"command": "ls -l"}), ("tool_use", "g", {})]


@for_each("again", ['{"command": "rm"}', COMMAND[:-3], "}", "x", COMMAND + "x"])
def test_row_b6_what_does_not_repeat_them_is_not_dropped(again: str) -> None:
    assert sent(streamed(COMMAND, again)) == COMMAND + again


def test_row_b6_an_object_within_the_arguments_is_no_repetition() -> None:
    whole = arguments(a={"b": {}}, c=[{}, {}])
    for size in (1, 2, 3, 5):
        assert sent(streamed(*pieces(whole, size))) == whole


def test_row_b6_a_number_in_parts_is_no_repetition() -> None:
    assert content(streamed("1", "1")) == [("tool_use", "Bash", {"_raw": "11"})]


def test_row_b6_arguments_are_sent_while_they_come() -> None:
    translator = ResponseTranslator(chat_request())
    result = [translator.translate(item) for item in streamed('{"a": ', '{"b"', ": 1}", "}")[:-1]]
    deltas = [item.text for events in result for item in events if isinstance(item, e.BlockDelta)]
    assert deltas == ['{"a": ', '{"b"', ": 1}", "}"]


@pytest.mark.untraced
def test_row_b6_many_repetitions_take_time_by_their_number() -> None:
    began = time.process_time()
    assert sent(streamed(COMMAND, *[COMMAND] * 30_000)) == COMMAND
    assert time.process_time() - began < 10  # 0.4 s


# B30: encoded twice


def encoded(value: str, times: int = 1) -> str:
    for _ in range(times):
        value = json.dumps(value)
    return value


@for_each("times", [1, 2, 3])
@for_each("size", [1, 7, 200])
def test_row_b30_a_string_that_holds_an_object_is_that_object(times: int, size: int) -> None:
    text = encoded(COMMAND, times)
    expected = [("tool_use", "Bash", {"command": "ls -l"})]
    assert content(streamed(*pieces(text, size))) == expected
    whole = {"type": "function", **call("Bash", text, id="call_a")}
    assert content([completion("tool_calls", tool_calls=[whole])]) == expected
    assert sent(streamed(*pieces(text, size))) == COMMAND


@pytest.mark.parametrize("buffered", ["", "null", " "])
def test_row_b30_a_string_that_holds_nothing_is_no_arguments(buffered: str) -> None:
    assert content(streamed(encoded(buffered))) == [("tool_use", "Bash", {})]


@pytest.mark.parametrize("buffered", ["ls -l", "[1]", "7", '{"a": '])
def test_row_b30_what_holds_no_object_is_kept_as_it_is(buffered: str) -> None:
    assert content(streamed(encoded(buffered))) == [
        ("tool_use", "Bash", {"_raw": encoded(buffered)})
    ]


def test_row_b30_a_string_that_is_repeated_is_one() -> None:
    text = encoded(COMMAND)
    assert content(streamed(text, text)) == [("tool_use", "Bash", {"command": "ls -l"})]


# All of them


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9), max_size=3),
    st.integers(0, 2),
    st.booleans(),
    st.integers(1, 30),
)
@settings(derandomize=True, deadline=None, max_examples=50)
def test_arguments_are_the_same_however_they_come(
    value: dict[str, Any], times: int, again: bool, size: int
) -> None:
    text = encoded(json.dumps(value), times)
    whole = {"type": "function", **call("Bash", text, id="call_a")}
    fragments = [*pieces(text, size), *(pieces(text, size) if again and value else [])]
    expected = [("tool_use", "Bash", value)]
    assert content(streamed(*fragments)) == expected
    assert content([completion("tool_calls", tool_calls=[whole])]) == expected


def test_text_after_a_call_still_waits_for_nothing() -> None:
    result = content([*streamed(COMMAND)[:-1], text("So."), finish("tool_calls")])
    assert [kind for kind, *_ in result] == ["tool_use", "text"]
    assert list(itertools.chain(result[-1])) == ["text", "So."]
