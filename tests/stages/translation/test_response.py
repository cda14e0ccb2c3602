"""The chunks of an answer as stream events. Rows are those of the list of pitfalls."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from attrs import evolve

from stages.chat_completions.think_tags import THINK, Tags
from stages.messages_api import stream_events as e
from stages.messages_api.errors import ApiError, InternalError, OverloadedError, RateLimitError
from stages.messages_api.usage import Usage
from stages.translation.envelope import Envelope, owner_of, seal
from stages.translation.request import chat_request as translated
from stages.translation.response import ResponseTranslator
from tests.grammar import check_grammar
from tests.stages.translation.support import (
    THINKING,
    arguments,
    call,
    calls,
    completion,
    content,
    delta,
    finish,
    message,
    pieces,
    text,
    translate,
    usage,
)
from tests.support import chat_request, profile, resolved

PARIS, ROME = arguments(city="Paris"), arguments(city="Rome")
TWO = [("tool_use", "f", {"city": "Paris"}), ("tool_use", "g", {"city": "Rome"})]


def deltas(events: list[e.StreamEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, e.BlockDelta)]


# The frame: start, end, reasons


def test_an_answer_of_text_has_the_whole_sequence_of_events() -> None:
    role = delta(role="assistant", content="")
    events = translate([role, text("Hel"), text("lo"), finish(), usage()])
    [start, *rest] = events
    assert isinstance(start, e.MessageStart)
    assert start.model == "claude-test"
    assert start.id.startswith("msg_proxy_")
    assert rest == [
        e.BlockStart(0, {"type": "text", "text": ""}),
        e.BlockDelta(0, "text_delta", "Hel"),
        e.BlockDelta(0, "text_delta", "lo"),
        e.BlockStop(0),
        e.MessageDelta("end_turn", Usage(11, 7)),
        e.MessageStop(),
    ]


def test_each_answer_has_an_id_of_its_own() -> None:
    ids = {message([text("a"), finish()])["id"] for _ in range(10)}
    assert len(ids) == 10


def test_the_start_says_whether_the_client_streams_and_what_was_dropped() -> None:
    request = chat_request(stream=True, top_k=3)
    [start] = ResponseTranslator(request).chunk(delta(role="assistant"))
    assert isinstance(start, e.MessageStart)
    assert start.request is request.resolved.request
    assert start.exchange is request.exchange


def test_text_is_sent_as_it_comes() -> None:
    translator = ResponseTranslator(chat_request())
    translator.chunk(text("a"))
    assert translator.chunk(text("b")) == [e.BlockDelta(0, "text_delta", "b")]


def test_arguments_are_sent_as_they_come() -> None:
    translator = ResponseTranslator(chat_request())
    translator.chunk(calls(call("f", "", id="a", index=0)))
    opening = translator.chunk(calls(call(arguments='{"a"', index=0)))
    assert opening[1:] == [e.BlockDelta(0, "input_json_delta", '{"a"')]
    assert translator.chunk(calls(call(arguments=":1}", index=0))) == [
        e.BlockDelta(0, "input_json_delta", ":1}")
    ]


ONE_CALL = {
    "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
}


@pytest.mark.parametrize("whole", [False, True], ids=["stream", "whole"])
def test_only_the_first_call_is_passed_on_where_the_client_takes_one(whole: bool) -> None:
    first = call("f", PARIS, id="a", index=0)
    second = call("f", ROME, id="b", index=1)
    third = call("f", "{", id="c", index=2)
    if whole:
        chunks = [completion("tool_calls", tool_calls=[first, second, third])]
    else:
        chunks = [text("So:"), calls(first), calls(second, third), finish("tool_calls")]
    request = chat_request(**ONE_CALL)
    made = message(chunks, request=request)
    assert content(chunks, request=request)[-1] == ("tool_use", "f", {"city": "Paris"})
    assert sum(block["type"] == "tool_use" for block in made["content"]) == 1
    assert made["stop_reason"] == "tool_use"
    assert len(content(chunks)) == len(made["content"]) + 2


def test_a_call_without_a_name_is_not_the_first() -> None:
    chunks = [calls(call("", "", id="a", index=0)), calls(call("f", ROME, id="b", index=1))]
    request = chat_request(**ONE_CALL)
    assert content([*chunks, finish()], request=request) == [("tool_use", "f", {"city": "Rome"})]


def test_what_is_said_behind_a_call_too_many_is_kept() -> None:
    first, second = call("f", PARIS, id="a", index=0), call("f", ROME, id="b", index=1)
    chunks = [calls(first, second), text("And now."), finish()]
    assert content(chunks, request=chat_request(**ONE_CALL)) == [
        ("tool_use", "f", {"city": "Paris"}),
        ("text", "And now."),
    ]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("content_filter", "refusal"),
        ("eos", "end_turn"),
        ("STOP", "end_turn"),
        ("of another protocol", "end_turn"),
    ],
)
def test_a_finish_reason_becomes_a_stop_reason(reason: str, expected: str) -> None:
    assert message([text("a"), finish(reason)])["stop_reason"] == expected


def test_a_filtered_answer_has_the_details_of_a_refusal() -> None:
    details = message([text("a"), finish("content_filter")])["stop_details"]
    assert details == {"type": "refusal", "category": None, "explanation": None}


def test_the_limit_counts_more_than_a_tool() -> None:
    cut = [calls(call("f", '{"a": 1, "b": "lon', id="a", index=0)), finish("length")]
    assert message(cut)["stop_reason"] == "max_tokens"
    assert content(cut) == [("tool_use", "f", {"a": 1})]
    # In a stream the part that was sent stays as it was.
    assert deltas(translate(cut)) == ['{"a": 1, "b": "lon']


@pytest.mark.parametrize("name", ["stop_reason", "matched_stop"])
def test_a_matched_stop_string_is_told(name: str) -> None:
    chunk = finish("stop")
    chunk["choices"][0][name] = "END"
    made = message([text("a"), chunk], request=chat_request(stop_sequences=["END"]))
    assert (made["stop_reason"], made["stop_sequence"]) == ("stop_sequence", "END")


@pytest.mark.parametrize("told", [None, 128009, "", {}, [], "eos"], ids=str)
def test_what_is_no_stop_string_is_none(told: Any) -> None:
    chunk = finish("stop")
    chunk["choices"][0]["stop_reason"] = told
    made = message([text("a"), chunk], request=chat_request(stop_sequences=["END"]))
    assert (made["stop_reason"], made["stop_sequence"]) == ("end_turn", None)


def test_a_stop_string_is_not_told_of_an_answer_that_was_cut() -> None:
    chunk = finish("length")
    chunk["choices"][0]["stop_reason"] = "END"
    made = message([text("a"), chunk], request=chat_request(stop_sequences=["END"]))
    assert (made["stop_reason"], made["stop_sequence"]) == ("max_tokens", None)


# Tools


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_pitfall_02_parallel_calls_become_a_block_each(size: int) -> None:
    chunks = [calls(call("f", "", id="a", index=0))]
    chunks += [calls(call(arguments=each, index=0)) for each in pieces(PARIS, size)]
    chunks += [calls(call("g", "", id="b", index=1))]
    chunks += [calls(call(arguments=each, index=1)) for each in pieces(ROME, size)]
    made = message([*chunks, finish("tool_calls")])
    assert content([*chunks, finish("tool_calls")]) == TWO
    assert [block["id"] for block in made["content"]] == ["a", "b"]
    assert made["stop_reason"] == "tool_use"


@pytest.mark.parametrize("size", [1, 2, 5])
def test_pitfall_03_interleaved_calls_are_sent_one_after_the_other(size: int) -> None:
    chunks = [calls(call("f", id="a", index=0)), calls(call("g", id="b", index=1))]
    for one, two in itertools.zip_longest(pieces(PARIS, size), pieces(ROME, size), fillvalue=""):
        chunks += [calls(call(arguments=one, index=0)), calls(call(arguments=two, index=1))]
    assert content([*chunks, finish("tool_calls")]) == TWO


def test_pitfall_03_the_open_call_is_sent_live_while_the_other_waits() -> None:
    translator = ResponseTranslator(chat_request())
    translator.chunk(calls(call("f", '{"a":', id="a", index=0)))
    assert translator.chunk(calls(call("g", ROME, id="b", index=1))) == []
    assert translator.chunk(calls(call(arguments=" []", index=0))) == [
        e.BlockDelta(0, "input_json_delta", " []")
    ]
    events = translator.chunk(calls(call(arguments="}", index=0)))
    assert events[:2] == [e.BlockDelta(0, "input_json_delta", "}"), e.BlockStop(0)]
    assert events[3:] == [e.BlockDelta(1, "input_json_delta", ROME)]


@pytest.mark.parametrize("size", [4, 1000])
def test_pitfall_04_two_calls_with_index_0_stay_two_calls(size: int) -> None:
    chunks = []
    for name, whole, identity in (("f", PARIS, "a"), ("g", ROME, "b")):
        chunks.append(calls(call(name, "", id=identity, index=0)))
        chunks += [calls(call(arguments=each, index=0)) for each in pieces(whole, size)]
    assert content([*chunks, finish("tool_calls")]) == TWO


@pytest.mark.parametrize(
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
@pytest.mark.parametrize("together", [True, False], ids=["one chunk", "two chunks"])
def test_pitfall_04_two_whole_calls_stay_two_calls(
    members: list[dict[str, Any]], together: bool
) -> None:
    one, two = call("f", PARIS, **members[0]), call("g", ROME, **members[1])
    chunks = [calls(one, two)] if together else [calls(one), calls(two)]
    made = message([*chunks, finish("tool_calls")])
    assert content([*chunks, finish("tool_calls")]) == TWO
    ids = [block["id"] for block in made["content"]]
    assert len(set(ids)) == 2
    assert all(ids)


@pytest.mark.parametrize(
    "members",
    [{"id": "call_1"}, {"id": "functions.f:0"}, {"id": "x" * 100}, {"id": ""}, {"id": None}, {}],
    ids=["an id", "an unfit id", "a long id", "an empty id", "null", "nothing"],
)
@pytest.mark.parametrize("index", [{"index": 0}, {}], ids=["index", "no index"])
@pytest.mark.parametrize("named", [True, False], ids=["the name again", "no name"])
def test_an_id_repeated_with_each_fragment_is_one_call(
    members: dict[str, Any], index: dict[str, Any], named: bool
) -> None:
    chunks = [calls(call("f", "", **members, **index))]
    name = "f" if named else None
    chunks += [calls(call(name, each, **members, **index)) for each in pieces(PARIS, 3)]
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
    made = message([calls(call("f", "{}", id="call_A-1", index=0)), finish()])
    assert made["content"][0]["id"] == "call_A-1"


@pytest.mark.parametrize("identity", ["", None, 7, "functions.f:0", "x" * 65, "a b", "é"], ids=str)
def test_a_call_without_a_fit_id_gets_one(identity: Any) -> None:
    made = message([calls(call("f", "{}", id=identity, index=0)), finish()])
    assert made["content"][0]["id"].startswith("toolu_")


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
def test_a_name_in_pieces_is_put_together(names: list[str]) -> None:
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


def test_a_name_repeated_behind_the_arguments_is_no_second_call() -> None:
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
def test_a_name_behind_whole_arguments_is_theirs(members: dict[str, Any]) -> None:
    chunks = [calls(call(None, PARIS, **members)), calls(call("f", "", **members)), finish()]
    assert content(chunks) == TWO[:1]


def test_a_call_without_a_name_holds_up_no_text() -> None:
    translator = ResponseTranslator(chat_request())
    translator.chunk(calls(call(None, '{"city":', id="a", index=0)))
    assert e.BlockDelta(0, "text_delta", "Hello") in translator.chunk(text("Hello"))


@pytest.mark.untraced
@pytest.mark.parametrize("index", [0, 1], ids=["index 0", "indexes"])
def test_thousands_of_calls_take_time_by_their_number(index: int) -> None:
    began = time.process_time()
    translator = ResponseTranslator(chat_request())
    events = [
        *translator.chunk(calls(call("f", '{"a', id="open", index=9_999))),
        *itertools.chain.from_iterable(
            translator.chunk(calls(call("f", PARIS, id=f"a{n}", index=n * index)))
            for n in range(8_000)
        ),
        *translator.chunk(finish("length")),
        *translator.end(True),
    ]
    assert sum(isinstance(event, e.BlockStart) for event in events) == 8_001
    assert time.process_time() - began < 8  # 0.5 s; where each looks at all others, 20 s


OPEN = calls(call("f", '{"a', id="open", index=9_999))
BLANK = " " * 400
WITHOUT_END: dict[str, Callable[[int], dict[str, Any]]] = {
    "white space": lambda n: text(BLANK),
    "white space as reasoning": lambda n: delta(reasoning_content=BLANK),
    "words behind an open call": lambda n: text("word " * 80) if n else OPEN,
    "calls without arguments": lambda n: calls(call("f", None, id=f"a{n}", index=n)),
    "calls with empty braces": lambda n: calls(call("f", "{}", id=f"a{n}", index=n)),
}


@pytest.mark.untraced
@pytest.mark.parametrize("tags", [(), THINK], ids=["", "think tags"])
@pytest.mark.parametrize("one", WITHOUT_END.values(), ids=WITHOUT_END)
def test_an_answer_without_end_takes_time_by_its_length(
    one: Callable[[int], dict[str, Any]], tags: Tags
) -> None:
    began = time.process_time()
    request = evolve(chat_request(thinking=THINKING), think_tags=tags)
    translator = ResponseTranslator(request)
    for n in range(10_000):
        translator.chunk(one(n))
    translator.chunk(finish("length"))
    translator.end(True)
    assert time.process_time() - began < 3  # 0.2 s; where all that waits is looked at, 3 to 14 s


def test_pitfall_05_arguments_in_the_chunk_of_the_name_are_kept() -> None:
    assert content([calls(call("f", PARIS, id="a", index=0)), finish()]) == TWO[:1]


@pytest.mark.parametrize("value", [{"city": "Paris"}, {"city": {"a": [1, None]}}, {}], ids=str)
def test_pitfall_05_arguments_as_an_object_are_kept(value: dict[str, Any]) -> None:
    chunks = [calls(call("f", value, id="a", index=0)), finish()]
    assert content(chunks) == [("tool_use", "f", value)]


def test_pitfall_05_empty_braces_first_are_no_arguments() -> None:
    chunks = [calls(call("f", "{}", id="a", index=0))]
    chunks += [calls(call(arguments=each, index=0)) for each in pieces(PARIS, 4)]
    assert content([*chunks, finish()]) == TWO[:1]


def test_pitfall_05_empty_braces_first_of_two_calls_are_no_arguments() -> None:
    chunks = [
        calls(call("f", "{}", id="a", index=0)),
        calls(call("g", "{}", id="b", index=1)),
        calls(call(arguments=PARIS, index=0)),
        calls(call(arguments=ROME, index=1)),
    ]
    assert content([*chunks, finish()]) == TWO


@pytest.mark.parametrize("nothing", ["", "{}", None, {}], ids=str)
def test_a_call_may_have_no_arguments(nothing: Any) -> None:
    chunks = [
        calls(call("f", nothing, id="a", index=0)),
        calls(call("g", nothing, id="b", index=1)),
    ]
    assert content([*chunks, finish("tool_calls")]) == [
        ("tool_use", "f", {}),
        ("tool_use", "g", {}),
    ]


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "function_call", "eos"])
def test_pitfall_06_an_answer_with_a_tool_ends_with_tool_use(reason: str) -> None:
    made = message([text("a"), calls(call("f", "{}", id="a", index=0)), finish(reason)])
    assert made["stop_reason"] == "tool_use"


def test_pitfall_06_a_tool_counts_more_than_a_stop_string() -> None:
    chunk = finish("stop")
    chunk["choices"][0]["stop_reason"] = "</tool>"
    asked = chat_request(stop_sequences=["</tool>"])
    made = message([calls(call("f", "{}", id="a", index=0)), chunk], request=asked)
    assert (made["stop_reason"], made["stop_sequence"]) == ("tool_use", None)


@pytest.mark.parametrize("reason", ["tool_calls", "function_call"])
def test_pitfall_07_an_answer_without_a_tool_does_not_end_with_tool_use(reason: str) -> None:
    assert message([text("a"), finish(reason)])["stop_reason"] == "end_turn"
    assert message([calls(), finish(reason)])["stop_reason"] == "end_turn"


@pytest.mark.parametrize(
    "pieces", [[" ", "\n", " {}"], ["  {", "}"], ["null"], [" n", "ull "]], ids=str
)
def test_arguments_begin_with_their_first_letter(pieces: list[str]) -> None:
    chunks = [calls(call("f", each, index=0)) for each in pieces] + [finish("tool_calls")]

    assert content(chunks) == [("tool_use", "f", {})]
    assert "".join(deltas(translate(chunks))) in ("{}", "")


@pytest.mark.parametrize("arguments", ["5", "[1]", "none", '"a"'])
def test_arguments_that_are_no_object_are_the_same_in_a_stream(arguments: str) -> None:
    chunks = [calls(call("f", each, index=0)) for each in arguments] + [finish("tool_calls")]

    assert content(chunks) == [("tool_use", "f", {"_raw": arguments})]
    assert json.loads("".join(deltas(translate(chunks)))) == {"_raw": arguments}


def test_the_legacy_function_call_is_a_tool_call() -> None:
    chunks = [
        delta(function_call={"name": "f", "arguments": ""}),
        delta(function_call={"arguments": PARIS[:4]}),
        delta(function_call={"arguments": PARIS[4:]}),
        finish("function_call"),
    ]
    assert content(chunks) == TWO[:1]
    assert message(chunks)["stop_reason"] == "tool_use"


def test_text_after_a_tool_call_is_a_block_of_its_own() -> None:
    chunks = [text("Let me"), calls(call("f", PARIS, id="a", index=0)), text("Done"), finish()]
    assert content(chunks) == [("text", "Let me"), *TWO[:1], ("text", "Done")]


def test_text_within_a_tool_call_waits_for_its_end() -> None:
    chunks = [
        calls(call("f", PARIS[:5], id="a", index=0)),
        text("and "),
        calls(call(arguments=PARIS[5:], index=0)),
        text("so on"),
        finish(),
    ]
    assert content(chunks) == [*TWO[:1], ("text", "and so on")]


def test_content_thinking_and_a_call_in_one_chunk_come_in_this_order() -> None:
    chunk = delta(
        tool_calls=[call("f", PARIS, id="a", index=0)], content="Hello", reasoning_content="Hm"
    )
    assert content([chunk, finish()], request=chat_request(thinking=THINKING)) == [
        ("thinking", "Hm"),
        ("text", "Hello"),
        *TWO[:1],
    ]


def test_many_calls_keep_their_order() -> None:
    fragments = [call("f", arguments(n=n), id=f"c{n}", index=n) for n in range(20)]
    expected = [("tool_use", "f", {"n": n}) for n in range(20)]
    assert content([calls(*fragments), finish()]) == expected
    assert content([*(calls(each) for each in fragments), finish()]) == expected


# White space


@pytest.mark.parametrize("blank", ["", "\n\n", " ", "\t"], ids=repr)
def test_white_space_before_a_tool_call_opens_no_block(blank: str) -> None:
    assert content([text(blank), calls(call("f", PARIS, id="a", index=0)), finish()]) == TWO[:1]


def test_white_space_alone_is_an_empty_answer() -> None:
    assert content([text(" "), text("\n"), finish()]) == []


def test_white_space_around_text_is_kept() -> None:
    chunks = [text("\n"), text("\n a"), text(" "), text("\n"), text("b "), finish()]
    assert content(chunks) == [("text", "\n\n a \nb ")]


def test_line_separators_in_text_are_kept() -> None:
    assert content([text("a\u2028\u2029\u0085b"), finish()]) == [("text", "a\u2028\u2029\u0085b")]


# Thinking


@pytest.mark.parametrize("member", ["reasoning_content", "reasoning"])
def test_thinking_comes_signed_and_before_the_text(member: str) -> None:
    chunks = [delta(**{member: "H"}), delta(**{member: "m"}), text("Hello"), finish()]
    made = message(chunks, request=chat_request(thinking=THINKING))
    [thought, said] = made["content"]
    signature = seal(Envelope(owner_of("fake", "some-model")))
    assert thought == {"type": "thinking", "thinking": "Hm", "signature": signature}
    assert said == {"type": "text", "text": "Hello"}


@pytest.mark.parametrize("thinking", [None, {"type": "disabled"}], ids=["not given", "disabled"])
def test_thinking_nobody_asked_for_is_not_sent(thinking: Any) -> None:
    chunks = [delta(reasoning_content="Hm", content=None), text("Hello"), finish()]
    assert content(chunks, request=chat_request(thinking=thinking)) == [("text", "Hello")]


TAGGED = [text("\n<th"), text("ink>Hm</thi"), text("nk>\n\nHello"), finish()]


def test_thinking_between_tags_is_thinking() -> None:
    asked = chat_request(thinking=THINKING)
    assert content(TAGGED, request=asked) == [("thinking", "Hm"), ("text", "Hello")]
    assert content(TAGGED) == [("text", "Hello")]


def test_tags_are_text_where_the_profile_says_so() -> None:
    plain = translated(resolved(thinking=THINKING), profile(think_tags=False))
    assert content(TAGGED, request=plain) == [("text", "\n<think>Hm</think>\n\nHello")]


@pytest.mark.parametrize("held", ["<", "\n<think", "  <t"])
@pytest.mark.parametrize(
    ("follows", "expected"),
    [
        (calls(call("f", "{}", index=0)), ("tool_use", "f", {})),
        (delta(reasoning="Hm"), ("thinking", "Hm")),
    ],
    ids=["a call", "thinking"],
)
def test_what_could_begin_a_tag_stays_before_what_follows(
    held: str, follows: Any, expected: Any
) -> None:
    made = content([text(held), follows, finish()], request=chat_request(thinking=THINKING))
    assert made == [("text", held), expected]


@pytest.mark.parametrize("follows", [delta(refusal="No."), delta(content=[{"text": "No."}])])
def test_what_could_begin_a_tag_stays_before_other_text(follows: Any) -> None:
    assert content([text("<"), follows, finish()]) == [("text", "<No.")]


def test_white_space_before_a_call_is_not_put_behind_it() -> None:
    chunks = [text("\n\n"), calls(call("f", "{}", index=0)), text("x"), finish()]
    assert content(chunks) == [("tool_use", "f", {}), ("text", "x")]


def test_the_tokens_of_thinking_are_told() -> None:
    told = usage(prompt_tokens=3, completion_tokens_details={"reasoning_tokens": 5})
    made = message([text("Hello"), finish(), told])
    assert made["usage"]["output_tokens_details"] == {"thinking_tokens": 5}


def test_a_shortened_name_comes_back_as_the_client_knows_it() -> None:
    name = "n" * 70
    tools = [{"name": name, "input_schema": {"type": "object"}}]
    asked = translated(resolved(tools=tools), profile(tool_name_limit=40))
    short = asked.options["tools"][0]["function"]["name"]
    assert short != name
    chunks = [calls(call(short, "{}", index=0)), finish()]
    assert content(chunks, request=asked) == [("tool_use", name, {})]


def test_thinking_told_twice_is_sent_once() -> None:
    chunk = delta(reasoning="Hm", reasoning_content="Hm")
    assert content([chunk, finish()], request=chat_request(thinking=THINKING)) == [
        ("thinking", "Hm")
    ]


def test_pitfall_27_text_and_thinking_do_not_share_a_block() -> None:
    chunks = [delta(reasoning="a"), text("b"), delta(reasoning="c"), text("d"), finish()]
    assert content(chunks, request=chat_request(thinking=THINKING)) == [
        ("thinking", "a"),
        ("text", "b"),
        ("thinking", "c"),
        ("text", "d"),
    ]


def test_pitfall_27_text_and_thinking_in_one_chunk_do_not_share_a_block() -> None:
    chunks = [delta(reasoning="a", content="b"), delta(reasoning="c", content="d"), finish()]
    assert content(chunks, request=chat_request(thinking=THINKING)) == [
        ("thinking", "a"),
        ("text", "b"),
        ("thinking", "c"),
        ("text", "d"),
    ]


def test_white_space_between_thoughts_opens_no_block() -> None:
    chunks = [delta(reasoning="a"), text("\n\n"), calls(call("f", PARIS, id="a")), finish()]
    assert content(chunks, request=chat_request(thinking=THINKING)) == [
        ("thinking", "a"),
        *TWO[:1],
    ]


# Other shapes of content


def test_a_list_as_content_is_read_part_by_part() -> None:
    parts = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]},
        {"type": "text", "text": "Hel"},
        {"type": "text", "text": "lo"},
        {"type": "image_url", "image_url": {"url": "data:"}},
        "no part",
        None,
    ]
    assert content([delta(content=parts), finish()]) == [("text", "Hello")]
    assert content([delta(content=parts), finish()], request=chat_request(thinking=THINKING)) == [
        ("thinking", "Hm"),
        ("text", "Hello"),
    ]


def test_a_refusal_is_text_and_the_stop_reason() -> None:
    made = message([delta(refusal="I"), delta(refusal=" cannot"), finish("stop")])
    assert made["content"] == [{"type": "text", "text": "I cannot"}]
    assert made["stop_reason"] == "refusal"
    assert made["stop_details"] == {"type": "refusal", "category": None, "explanation": None}


def test_a_refusal_may_be_a_part_of_the_content() -> None:
    part = {"type": "refusal", "refusal": "I cannot"}
    made = message([delta(content=[part]), finish("stop")])
    assert made["content"] == [{"type": "text", "text": "I cannot"}]
    assert made["stop_reason"] == "refusal"


def test_reasoning_may_be_a_part_of_the_content() -> None:
    mistral = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    databricks = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    for part in (mistral, databricks):
        chunks = [delta(content=[part]), delta(content=[{"type": "text", "text": "4"}]), finish()]
        made = content(chunks, request=chat_request(thinking=THINKING))
        assert made == [("thinking", "hm"), ("text", "4")]


def test_pitfall_40_null_content_and_empty_choices_do_no_harm() -> None:
    chunks: list[dict[str, Any]] = [
        {"choices": []},
        {"choices": None},
        {},
        {"choices": [None]},
        {"choices": [{}]},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": {"content": None, "tool_calls": None, "refusal": None}}]},
        {"error": None, "choices": [{"delta": {"content": "Hello", "function_call": None}}]},
        {"choices": [{"delta": {"tool_calls": [None, {}, {"function": None}]}}]},
        {"choices": [{"delta": None, "finish_reason": "stop"}]},
        {"choices": [], "usage": None},
    ]
    assert content(chunks) == [("text", "Hello")]
    assert message(chunks)["stop_reason"] == "end_turn"


@pytest.mark.parametrize("reason", ["stop", "length"])
@pytest.mark.parametrize("member", [{"delta": None}, {}], ids=["a null delta", "no delta"])
def test_a_finish_reason_is_read_without_a_delta(member: dict[str, Any], reason: str) -> None:
    chunk = {"choices": [{**member, "finish_reason": reason}]}
    assert message([text("a"), chunk], done=False)["stop_reason"] == (
        "end_turn" if reason == "stop" else "max_tokens"
    )


def test_a_finish_reason_is_not_forgotten() -> None:
    chunks = [text("a"), finish("length"), {"choices": [{"delta": {}, "finish_reason": None}]}]
    assert message(chunks)["stop_reason"] == "max_tokens"


def test_text_in_the_first_chunk_is_kept() -> None:
    assert content([delta(role="assistant", content="Hello"), finish()]) == [("text", "Hello")]


def test_text_in_the_chunk_with_the_finish_reason_is_kept() -> None:
    chunk = {"choices": [{"delta": {"content": "lo"}, "finish_reason": "stop"}]}
    assert content([text("Hel"), chunk]) == [("text", "Hello")]


def test_an_answer_may_be_empty() -> None:
    made = message([delta(role="assistant", content=""), finish("stop")])
    assert (made["content"], made["stop_reason"]) == ([], "end_turn")


# Usage


def test_pitfall_11_the_start_has_an_estimate_and_the_end_the_truth() -> None:
    request = chat_request(system="word " * 400)
    [start, *_, end, _] = translate([text("a"), finish(), usage()], request=request)
    assert isinstance(start, e.MessageStart)
    assert isinstance(end, e.MessageDelta)
    assert 400 < start.usage.input_tokens < 1000
    assert start.usage.output_tokens == 1
    assert end.usage == Usage(11, 7)


TOLD = {"prompt_tokens": 11, "completion_tokens": 7}


@pytest.mark.parametrize(
    "chunks",
    [
        [usage(), text("a"), finish()],
        [text("a"), finish(usage=TOLD)],
        [text("a"), finish(), usage()],
        [{**text("a"), "usage": {"prompt_tokens": 11, "completion_tokens": 1}}, finish(usage=TOLD)],
        [text("a"), finish(usage=TOLD), {"choices": [], "usage": None}],
        [text("a"), finish(usage=TOLD), {"choices": [], "usage": {}}],
    ],
    ids=["before", "with", "after", "with each chunk", "before a null", "before an empty one"],
)
def test_usage_is_taken_wherever_it_stands(chunks: list[dict[str, Any]]) -> None:
    used = message(chunks)["usage"]
    assert (used["input_tokens"], used["output_tokens"]) == (11, 7)


@pytest.mark.parametrize("told", [None, {}, [], "7", {"prompt_tokens": "x"}], ids=str)
def test_usage_that_never_comes_is_estimated(told: Any) -> None:
    chunks = [text("word " * 100), finish(usage=told)]
    used = message(chunks)["usage"]
    assert used["input_tokens"] > 0
    assert 100 < used["output_tokens"] < 200
    assert marked(chunks)


def marked(chunks: list[dict[str, Any]]) -> bool:
    """Whether the usage at the end is marked as an estimate."""
    (end,) = (event for event in translate(chunks) if isinstance(event, e.MessageDelta))
    return end.usage.estimated


def test_usage_is_marked_as_estimated_unless_all_of_it_was_told() -> None:
    assert not marked([text("a"), finish(), usage()])
    assert marked([text("a"), finish()])
    assert marked([text("a"), finish(), usage(prompt_tokens=11)])
    assert marked([text("a"), finish(), usage(completion_tokens=7)])


def test_the_half_of_the_usage_that_is_missing_is_estimated() -> None:
    request = chat_request(system="word " * 400)
    chunks = [text("word " * 100), finish()]
    read = message([*chunks, usage(prompt_tokens=999)], request=request)["usage"]
    assert read["input_tokens"] == 999
    assert 100 < read["output_tokens"] < 200
    said = message([*chunks, usage(completion_tokens=7)], request=request)["usage"]
    assert 400 < said["input_tokens"] < 1000
    assert said["output_tokens"] == 7


def test_thinking_that_is_sent_counts_in_the_estimate() -> None:
    request = chat_request(thinking=THINKING)
    used = message([delta(reasoning="word " * 100), finish()], request=request)["usage"]
    assert used["output_tokens"] > 100


# Ends and failures


def test_a_finish_reason_without_done_is_a_whole_answer() -> None:
    assert content([text("a"), finish()], done=False) == [("text", "a")]


def test_done_without_a_finish_reason_is_a_whole_answer() -> None:
    made = message([text("a")], done=True)
    said = [{"type": "text", "text": "a"}]
    assert (made["content"], made["stop_reason"]) == (said, "end_turn")


@pytest.mark.parametrize(
    "chunks",
    [
        [text("a")],
        [delta(role="assistant")],
        [calls(call("f", '{"a', id="a", index=0))],
    ],
    ids=["text", "role", "a call"],
)
def test_pitfall_21_half_an_answer_is_an_error(chunks: list[dict[str, Any]]) -> None:
    translator = ResponseTranslator(chat_request())
    events = [event for chunk in chunks for event in translator.chunk(chunk)]
    with pytest.raises(InternalError, match="backend `fake` closed the stream early"):
        translator.end(done=False)
    check_grammar((event.payload() for event in events), whole=False)


@pytest.mark.parametrize("done", [True, False])
def test_pitfall_21_no_answer_at_all_is_an_error(done: bool) -> None:
    with pytest.raises(InternalError, match="sent no answer"):
        ResponseTranslator(chat_request()).end(done)


@pytest.mark.parametrize("reason", ["error", "abort"])
def test_a_finish_reason_that_means_failure_is_an_error(reason: str) -> None:
    translator = ResponseTranslator(chat_request())
    translator.chunk(text("a"))
    translator.chunk(finish(reason))
    with pytest.raises(InternalError, match="broke off its answer"):
        translator.end(done=True)


@pytest.mark.parametrize(
    ("said", "expected", "words"),
    [
        ({"message": "GPU on fire", "code": 500}, InternalError, "GPU on fire"),
        ({"message": "slow down", "code": 429}, RateLimitError, "slow down"),
        ({"message": "busy", "code": 503}, OverloadedError, "busy"),
        ("out of memory", InternalError, "out of memory"),
        ({"message": "odd", "code": "server_error"}, InternalError, "odd"),
        ({"message": "odd", "code": 200}, InternalError, "odd"),
        (["odd"], InternalError, "odd"),
        (True, InternalError, "no reason was given"),
    ],
    ids=["500", "429", "503", "text", "code as text", "code 200", "a list", "true"],
)
@pytest.mark.parametrize("place", ["first", "in the middle", "last"])
def test_an_error_in_a_chunk_is_raised_wherever_it_stands(
    place: str, said: Any, expected: type[ApiError], words: str
) -> None:
    before = {"first": [], "in the middle": [text("a")], "last": [text("a"), finish()]}[place]
    translator = ResponseTranslator(chat_request())
    events = [event for chunk in before for event in translator.chunk(chunk)]
    with pytest.raises(expected, match=words):
        translator.chunk({"error": said, "choices": [{"delta": {"content": "b"}}]})
    assert not any(isinstance(event, e.BlockStop) for event in events)


@pytest.mark.parametrize("said", [None, "", {}, False, 0], ids=repr)
def test_an_empty_error_is_none(said: Any) -> None:
    assert content([{**text("a"), "error": said}, finish()]) == [("text", "a")]


@pytest.mark.parametrize("data", [None, [], "x", 1], ids=repr)
def test_a_chunk_that_is_no_object_is_an_error(data: Any) -> None:
    with pytest.raises(InternalError, match="backend `fake` sent a chunk that is no JSON object"):
        ResponseTranslator(chat_request()).chunk(data)


# Whole completions


def same(chunks: list[dict[str, Any]], whole: dict[str, Any], **how: Any) -> None:
    """A streamed and a whole answer lead to the same message, but for ids made by chance."""
    streamed, at_once = message(chunks, **how), message([whole], **how)
    for made in (streamed, at_once):
        made.pop("id")
        for block in made["content"]:
            if block.get("id", "").startswith("toolu_"):
                block["id"] = "toolu_"
    assert streamed == at_once


def test_a_whole_completion_of_text_is_as_the_stream() -> None:
    chunks = [text("Hel"), text("lo"), finish(), usage()]
    same(chunks, completion(content="Hello"))


def test_a_whole_completion_with_thinking_text_and_tools_is_as_the_stream() -> None:
    chunks = [
        delta(reasoning_content="Hm"),
        text("Hello"),
        calls(call("f", PARIS[:4], id="a", index=0)),
        calls(call(arguments=PARIS[4:], index=0)),
        calls(call("g", "", id="b", index=1)),
        finish("tool_calls"),
        usage(),
    ]
    whole = completion(
        "tool_calls",
        reasoning_content="Hm",
        content="Hello",
        tool_calls=[call("f", PARIS, id="a"), call("g", "", id="b")],
    )
    same(chunks, whole, request=chat_request(thinking=THINKING))


def test_a_whole_completion_that_was_cut_is_as_the_stream() -> None:
    chunks = [calls(call("f", '{"a": "lo', id="a", index=0)), finish("length"), usage()]
    whole = completion("length", content=None, tool_calls=[call("f", '{"a": "lo', id="a")])
    same(chunks, whole)


def test_a_whole_refusal_is_as_the_stream() -> None:
    chunks = [delta(refusal="I "), delta(refusal="cannot"), finish(), usage()]
    same(chunks, completion(refusal="I cannot"))


def test_an_empty_whole_completion_is_as_the_stream() -> None:
    same([delta(role="assistant"), finish(), usage()], completion(content=""))


@pytest.mark.parametrize(
    "members",
    [[{}, {}], [{"id": "same"}, {"id": "same"}], [{"id": ""}, {"id": ""}], [{"index": 0}] * 2],
    ids=["nothing", "one id twice", "empty ids", "one index twice"],
)
@pytest.mark.parametrize("broken", ["", '{"city": '], ids=["no arguments", "broken arguments"])
def test_pitfall_04_calls_of_a_whole_completion_stay_apart(
    members: list[dict[str, Any]], broken: str
) -> None:
    tools = [call("f", broken, **members[0]), call("g", ROME, **members[1])]
    made = message([completion("tool_calls", content=None, tool_calls=tools)])
    first, second = made["content"]
    assert (first["name"], first["input"]) == ("f", {"_raw": broken} if broken else {})
    assert (second["name"], second["input"]) == ("g", {"city": "Rome"})
    assert first["id"] != second["id"]


@pytest.mark.parametrize(
    "broken",
    ['{"a": "b', "{'a': 1}", "ls -l", "[1]", '{"a": NaN}', "", "null"],
)
def test_pitfall_35_malformed_arguments_are_no_failure(broken: str) -> None:
    whole = completion("tool_calls", tool_calls=[call("f", broken, id="a")])
    chunks = [calls(call("f", each, id="a", index=0)) for each in pieces(broken, 2) or [""]]
    same([*chunks, finish("tool_calls"), usage()], whole)
    [(kind, name, value)] = content([whole])
    assert (kind, name) == ("tool_use", "f")
    assert value in ({"a": None}, {}, {"_raw": broken})


def test_pitfall_35_a_call_behind_a_malformed_one_is_sent_too() -> None:
    chunks = [calls(call("f", "oops", id="a", index=0)), calls(call("g", ROME, id="b", index=1))]
    assert content([*chunks, finish()]) == [("tool_use", "f", {"_raw": "oops"}), TWO[1]]


def test_a_stream_may_end_with_the_whole_completion_in_one_chunk() -> None:
    assert content([completion(content="Hello")], done=False) == [("text", "Hello")]


@pytest.mark.parametrize(
    "data", [{}, {"choices": None}, {"choices": []}, {"usage": {"prompt_tokens": 1}}]
)
def test_an_answer_without_choices_is_no_answer(data: dict[str, Any]) -> None:
    translator = ResponseTranslator(chat_request())
    translator.chunk(data)

    with pytest.raises(InternalError, match="sent no answer"):
        translator.end(True)


def test_what_a_backend_says_in_the_place_of_an_answer_is_kept() -> None:
    translator = ResponseTranslator(chat_request())
    assert translator.chunk({"status": "error", "detail": "Not Found"}) == []

    with pytest.raises(InternalError, match="sent no answer: Not Found"):
        translator.end(True)


class TestUsualChunks:
    """Chunks with nothing but text take a shorter way; what comes of them is the same."""

    SAID = (
        delta(role="assistant", content=""),
        delta(content="  "),
        delta(content="Hello"),
        delta(role="assistant", content=" "),
        delta(content=" there"),
        delta(content=""),
        {**delta(content="!"), "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
        delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]),
        delta(content="More"),
        delta(content=" text"),
        delta(content="."),
        finish("stop"),
    )

    @pytest.mark.parametrize("together", [1, 2, 3, 20])
    @pytest.mark.parametrize("think_tags", [THINK, ()])
    @pytest.mark.parametrize("stops", [(), ("xyz",)])
    def test_they_come_to_the_same(
        self, together: int, think_tags: Tags, stops: tuple[str, ...]
    ) -> None:
        def events(chunks: Sequence[Any]) -> list[e.StreamEvent]:
            request = evolve(
                chat_request(stream=True), think_tags=think_tags, scanned_stop_sequences=stops
            )
            translator = ResponseTranslator(request)
            told: list[e.StreamEvent] = []
            for n, chunk in enumerate(chunks, 1):
                told += translator.chunk(chunk, n % together != 0 and n < len(chunks))
            told += translator.end(done=True)
            return [each for each in told if not isinstance(each, e.MessageStart)]

        assert events(self.SAID) == events([padded(chunk) for chunk in self.SAID])

    def test_text_behind_a_call_is_not_text_before_it(self) -> None:
        translator = ResponseTranslator(chat_request(stream=True))
        call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}
        translator.chunk(delta(content="One"))
        translator.chunk(delta(tool_calls=[call]), followed=True)
        told = [
            *translator.chunk(delta(content="two"), followed=True),
            *translator.chunk(delta(tool_calls=[{"index": 0, "function": {"arguments": "}"}}])),
            *translator.end(done=True),
        ]
        assert [each.text for each in told if isinstance(each, e.BlockDelta)] == ["{", "}", "two"]


def padded(chunk: dict[str, Any]) -> dict[str, Any]:
    """The same chunk, which has something else to say: nothing."""
    (choice,) = chunk["choices"]
    return {**chunk, "choices": [{**choice, "delta": {**choice["delta"], "padding": None}}]}


# Odd ends of answers


def test_a_whole_message_behind_its_deltas_is_not_said_twice() -> None:
    last = {"delta": {}, "message": {"role": "assistant", "content": "Hello"}}
    end = {"choices": [{**last, "finish_reason": "stop"}]}
    assert content([text("Hel"), text("lo"), end]) == [("text", "Hello")]
    assert content([delta(role="assistant"), end]) == [("text", "Hello")]


@pytest.mark.parametrize("later", ["stop", ""])
def test_an_answer_that_was_cut_stays_so_whatever_comes_later(later: str) -> None:
    assert message([text("a"), finish("length"), finish(later)])["stop_reason"] == "max_tokens"


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "odd"])
def test_a_finish_reason_of_no_protocol_is_known_as_such(reason: str) -> None:
    translator = ResponseTranslator(chat_request())
    translator.chunk(finish(reason))
    translator.end(True)
    assert translator.unknown_finish == ("odd" if reason == "odd" else "")


def test_usage_in_a_choice_is_read() -> None:
    end = finish("stop")
    end["choices"][0]["usage"] = {"prompt_tokens": 12.0, "completion_tokens": "3"}
    used = message([text("a"), end])["usage"]
    assert (used["input_tokens"], used["output_tokens"]) == (12, 3)
