"""Several tool calls in one response, and fragments without index or id."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from stages.chat_completions.think_tags import THINK, Tags
from stages.messages_api import stream_events as e
from stages.messages_api.errors import InternalError
from stages.translation.response import ResponseTranslator
from tests.cases import for_each
from tests.stages.translation.response_support import PARIS, ROME, TWO
from tests.stages.translation.support import (
    THINKING,
    call,
    calls,
    content,
    delta,
    finish,
    message,
    pieces,
    text,
)
from tests.support import chat_request

# Tools


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_pitfall_02_parallel_calls_become_a_block_each(size: int) -> None:
    chunks = [calls(call("f", "", id="a", index=0))]
    chunks += [calls(call(arguments=piece, index=0)) for piece in pieces(PARIS, size)]
    chunks += [calls(call("g", "", id="b", index=1))]
    chunks += [calls(call(arguments=piece, index=1)) for piece in pieces(ROME, size)]
    result = message([*chunks, finish("tool_calls")])
    assert content([*chunks, finish("tool_calls")]) == TWO
    assert [block["id"] for block in result["content"]] == ["a", "b"]
    assert result["stop_reason"] == "tool_use"


@pytest.mark.parametrize("size", [1, 2, 5])
def test_pitfall_03_interleaved_calls_are_sent_in_sequence(size: int) -> None:
    chunks = [calls(call("f", id="a", index=0)), calls(call("g", id="b", index=1))]
    for one, two in itertools.zip_longest(pieces(PARIS, size), pieces(ROME, size), fillvalue=""):
        chunks += [calls(call(arguments=one, index=0)), calls(call(arguments=two, index=1))]
    assert content([*chunks, finish("tool_calls")]) == TWO


def test_pitfall_03_the_open_call_is_live_and_the_other_waits() -> None:
    translator = ResponseTranslator(chat_request())
    translator.translate(calls(call("f", '{"a":', id="a", index=0)))
    assert translator.translate(calls(call("g", ROME, id="b", index=1))) == []
    assert translator.translate(calls(call(arguments=" []", index=0))) == [
        e.BlockDelta(0, "input_json_delta", " []")
    ]
    events = translator.translate(calls(call(arguments="}", index=0)))
    assert events[:2] == [e.BlockDelta(0, "input_json_delta", "}"), e.BlockStop(0)]
    assert events[3:] == [e.BlockDelta(1, "input_json_delta", ROME)]


@pytest.mark.parametrize("size", [4, 1000])
def test_pitfall_04_two_calls_with_index_0_stay_two_calls(size: int) -> None:
    chunks = []
    for name, whole, identity in (("f", PARIS, "a"), ("g", ROME, "b")):
        chunks.append(calls(call(name, "", id=identity, index=0)))
        chunks += [calls(call(arguments=piece, index=0)) for piece in pieces(whole, size)]
    assert content([*chunks, finish("tool_calls")]) == TWO


@for_each(
    "members",
    [
        [{"id": "a"}, {"id": "b"}],
        [{"id": "a", "index": 0}, {"id": "b", "index": 0}],
        [{"id": "", "index": 0}, {"id": "", "index": 0}],
        [{"id": None, "index": None}, {"id": None, "index": None}],
        [{"index": 0}, {"index": 0}],
        [{}, {}],
        [{"id": "a", "index": "0"}, {"id": "b", "index": "1"}],
        [{"id": "same", "index": 0}, {"id": "same", "index": 1}],
        [{"id": "a", "index": 7}, {"id": "b", "index": 3}],
        [{"index": 0}, {"id": "b"}],
        [{"id": "a"}, {"index": 0}],
    ],
    ids=[
        "ids alone",
        "index 0 twice",
        "empty ids",
        "null",
        "index 0 alone",
        "nothing",
        "text as index",
        "one id twice",
        "indexes with gaps",
        "an index, then an id",
        "an id, then an index",
    ],
)
@for_each("together", [True, False], ids=["one chunk", "two chunks"])
def test_pitfall_04_two_whole_calls_stay_two_calls(
    members: list[dict[str, Any]], together: bool
) -> None:
    one, two = call("f", PARIS, **members[0]), call("g", ROME, **members[1])
    chunks = [calls(one, two)] if together else [calls(one), calls(two)]
    result = message([*chunks, finish("tool_calls")])
    assert content([*chunks, finish("tool_calls")]) == TWO
    ids = [block["id"] for block in result["content"]]
    assert len(set(ids)) == 2
    assert all(ids)


@for_each(
    "members",
    [{"id": "call_1"}, {"id": "functions.f:0"}, {"id": "x" * 100}, {"id": ""}, {"id": None}, {}],
    ids=["an id", "an unfit id", "a long id", "an empty id", "null", "nothing"],
)
@for_each("index", [{"index": 0}, {}], ids=["index", "no index"])
@for_each("named", [True, False], ids=["the name again", "no name"])
def test_an_id_repeated_with_each_fragment_is_one_call(
    members: dict[str, Any], index: dict[str, Any], named: bool
) -> None:
    chunks = [calls(call("f", "", **members, **index))]
    name = "f" if named else None
    chunks += [calls(call(name, piece, **members, **index)) for piece in pieces(PARIS, 3)]
    assert content([*chunks, finish("tool_calls")]) == TWO[:1]


def test_a_call_whose_index_comes_later_is_one_call() -> None:
    chunks = [
        calls(call("f", "", id="a")),
        calls(call(arguments=PARIS[:5], index=0)),
        calls(call(arguments=PARIS[5:], index=0)),
    ]
    assert content([*chunks, finish("tool_calls")]) == TWO[:1]


def test_a_call_whose_index_is_left_out_later_is_one_call() -> None:
    chunks = [
        calls(call("f", "", id="a", index=0)),
        calls(call(arguments=PARIS[:5])),
        calls(call(arguments=PARIS[5:], id="a")),
    ]
    assert content([*chunks, finish("tool_calls")]) == TWO[:1]


def test_a_call_whose_id_comes_late_is_one_call() -> None:
    chunks = [
        calls(call("f", PARIS[:5], index=0)),
        calls(call(arguments=PARIS[5:], index=0, id="a")),
    ]
    assert content([*chunks, finish("tool_calls")]) == TWO[:1]


def test_the_id_of_the_backend_is_kept_when_it_is_fit() -> None:
    result = message([calls(call("f", "{}", id="call_A-1", index=0)), finish()])
    assert result["content"][0]["id"] == "call_A-1"


@for_each("identity", ["", None, 7, "functions.f:0", "x" * 65, "a b", "é"], ids=str)
def test_a_call_without_a_fit_id_gets_one(identity: Any) -> None:
    result = message([calls(call("f", "{}", id=identity, index=0)), finish()])
    assert result["content"][0]["id"].startswith("toolu_")


@pytest.mark.parametrize(
    "names",
    [
        ["get_", "weather"],
        ["g", "et_weat", "her"],
        ["get_weather", "get_weather"],
        ["", "get_weather"],
    ],
    ids=["two pieces", "three pieces", "twice", "late"],
)
def test_a_name_in_parts_is_put_together(names: list[str]) -> None:
    chunks = [calls(call(name, "", id="a", index=0)) for name in names]
    chunks += [calls(call(arguments=PARIS, index=0)), finish()]
    assert content(chunks) == [("tool_use", "get_weather", {"city": "Paris"})]


def test_a_name_may_come_after_the_arguments_have_begun() -> None:
    chunks = [
        calls(call(None, '{"city":', id="a", index=0)),
        calls(call("f", ' "Paris"', id="a", index=0)),
        calls(call(None, "}", id="a", index=0)),
        finish("tool_calls"),
    ]
    assert content(chunks) == TWO[:1]


def test_a_name_repeated_after_the_arguments_is_no_second_call() -> None:
    chunks = [calls(call("f", PARIS, id="a", index=0)), calls(call("f", "", id="a", index=0))]
    assert content([*chunks, finish()]) == TWO[:1]


@pytest.mark.parametrize(
    "fragment",
    [
        call(None, "{}", id="a", index=0),
        call("", PARIS, index=0),
        call(None, id="a", index=0),
    ],
)
def test_row_b3_a_call_that_never_gets_a_name_is_an_error(fragment: dict[str, Any]) -> None:
    chunks = [calls(fragment), text("Hello"), finish("tool_calls")]
    with pytest.raises(InternalError, match="sent a tool call without a name: try again"):
        message(chunks)


def test_row_b3_a_call_that_is_cut_before_its_name_is_left_out() -> None:
    chunks = [text("Hello"), calls(call(None, id="a", index=0)), finish("length")]
    assert content(chunks) == [("text", "Hello")]


def test_row_b3_a_fragment_that_is_no_call_at_all_is_passed_over() -> None:
    assert content([calls({"index": 0}), text("Hello"), finish()]) == [("text", "Hello")]


@pytest.mark.parametrize("members", [{"index": 0}, {}], ids=["index", "nothing"])
def test_a_name_after_whole_arguments_is_theirs(members: dict[str, Any]) -> None:
    chunks = [calls(call(None, PARIS, **members)), calls(call("f", "", **members)), finish()]
    assert content(chunks) == TWO[:1]


def test_a_call_without_a_name_holds_up_no_text() -> None:
    translator = ResponseTranslator(chat_request())
    translator.translate(calls(call(None, '{"city":', id="a", index=0)))
    assert e.BlockDelta(0, "text_delta", "Hello") in translator.translate(text("Hello"))


@pytest.mark.untraced
@pytest.mark.parametrize("index", [0, 1], ids=["index 0", "indexes"])
def test_thousands_of_calls_take_time_by_their_number(index: int) -> None:
    began = time.process_time()
    translator = ResponseTranslator(chat_request())
    events = [
        *translator.translate(calls(call("f", '{"a', id="open", index=9_999))),
        *itertools.chain.from_iterable(
            translator.translate(calls(call("f", PARIS, id=f"a{n}", index=n * index)))
            for n in range(8_000)
        ),
        *translator.translate(finish("length")),
        *translator.end(True),
    ]
    assert sum(isinstance(event, e.BlockStart) for event in events) == 8_001
    assert time.process_time() - began < 8  # 0.5 s; where each looks at all others, 20 s


OPEN = calls(call("f", '{"a', id="open", index=9_999))
BLANK = " " * 400
WITHOUT_END: dict[str, Callable[[int], dict[str, Any]]] = {
    "white space": lambda n: text(BLANK),
    "white space as reasoning": lambda n: delta(reasoning_content=BLANK),
    "words after an open call": lambda n: text("word " * 80) if n else OPEN,
    "calls without arguments": lambda n: calls(call("f", None, id=f"a{n}", index=n)),
    "calls with empty braces": lambda n: calls(call("f", "{}", id=f"a{n}", index=n)),
}


@pytest.mark.untraced
@for_each("tags", [(), THINK], ids=["", "think tags"])
@for_each("one", WITHOUT_END.values(), ids=WITHOUT_END)
def test_a_response_without_end_takes_linear_time(
    one: Callable[[int], dict[str, Any]], tags: Tags
) -> None:
    began = time.process_time()
    request = evolve(chat_request(thinking=THINKING), think_tags=tags)
    translator = ResponseTranslator(request)
    for n in range(10_000):
        translator.translate(one(n))
    translator.translate(finish("length"))
    translator.end(True)
    assert time.process_time() - began < 3  # 0.2 s; where all that waits is looked at, 3 to 14 s
