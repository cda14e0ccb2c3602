"""Stop sequences that are looked for here."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.chat_completions.stop_sequences import (
    StopScanner,
    split_partial_match,
)
from stages.events import ChatRequest
from stages.messages_api import stream_events as e
from stages.messages_api.accumulate import MessageBuilder
from stages.profiles.describe import profile_named
from stages.profiles.profile import Profile, profiles
from stages.translation.request import chat_request
from stages.translation.request_options import divide_stop_sequences
from stages.translation.response import ResponseTranslator
from tests.cases import for_each
from tests.grammar import check_grammar
from tests.stages.translation.support import (
    THINKING,
    call,
    calls,
    completion,
    delta,
    finish,
    pieces,
    text,
    usage,
)
from tests.support import profile, resolved

MAPPED = {"stop_sequences": "map"}
FIVE = ("a", "b", "c", "d", "e")


@for_each(
    ("options", "sent", "scanned"),
    [
        ({"max_stop_sequences": None, "fields": MAPPED}, 5, ()),
        ({"max_stop_sequences": 5, "fields": MAPPED}, 5, ()),
        ({"max_stop_sequences": 4, "fields": MAPPED}, 4, FIVE),
        ({"max_stop_sequences": 0, "fields": MAPPED}, 0, FIVE),
        ({"max_stop_sequences": None}, 0, FIVE),
        ({"fields": {"stop_sequences": "warn"}}, 0, ()),
    ],
    ids=["no limit", "at the limit", "over it", "none at all", "emulated", "dropped"],
)
def test_stop_sequences_are_sent_or_matched_here(
    options: dict[str, Any], sent: int, scanned: tuple[str, ...]
) -> None:
    result: Profile = profile(**options)
    assert divide_stop_sequences(FIVE, result) == (list(FIVE[:sent]), scanned)


@for_each("count", [4, 5, 16, 20])
def test_row_l1_vllm_gets_at_most_four_stop_sequences(count: int) -> None:
    asked = tuple(f"<{n}>" for n in range(count))
    sent, scanned = divide_stop_sequences(asked, profile_named("vllm"))
    assert sent == list(asked[:4])
    assert scanned == (asked if count > 4 else ())


@for_each("name", profiles())
def test_a_shipped_backend_reports_stop_sequences_or_gets_none(name: str) -> None:
    reports = name in ("vllm", "sglang")
    assert profile_named(name).fields["stop_sequences"] == ("map" if reports else "emulate")


@pytest.mark.parametrize(("policy", "streams"), [("emulate", True), ("map", False)])
def test_a_backend_that_is_to_be_left_at_a_stop_sequence_streams(
    policy: str, streams: bool
) -> None:
    options = profile(fields={"stop_sequences": policy}, echoes_prefill=True)
    begun = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    result = chat_request(resolved(stop_sequences=["END"], messages=begun), options)
    assert result.stream is streams
    assert bool(result.echoed_prefill) is not streams
    assert chat_request(resolved(), options).stream is False


def fed(sequences: tuple[str, ...], parts: list[str]) -> tuple[str, str | None]:
    """All that comes out, and what was found."""
    scanner = StopScanner(sequences)
    output = "".join(scanner.feed(part) for part in parts) + scanner.finish()
    return output, scanner.matched


CASES: dict[str, tuple[tuple[str, ...], str, tuple[str, str | None]]] = {
    "none looked for": ((), "abc", ("abc", None)),
    "none there": (("END",), "abc", ("abc", None)),
    "in the middle": (("END",), "abENDcd", ("ab", "END")),
    "first": (("END",), "ENDcd", ("", "END")),
    "last": (("END",), "abEND", ("ab", "END")),
    "half of one at the end": (("END",), "abEN", ("abEN", None)),
    "half of one, then a whole one": (("END",), "ENENDx", ("EN", "END")),
    "one that overlaps itself": (("aab",), "aaab", ("a", "aab")),
    "the one that is complete first": (("abcd", "b"), "abcd", ("a", "b")),
    "the longest of those that end together": (("b", "ab"), "xab", ("x", "ab")),
    "the first of two": (("B", "A"), "xAyB", ("x", "A")),
    "a line break": (("\n\n",), "a\nb\n\nc", ("a\nb", "\n\n")),
    "beyond ASCII": (("終",), "ab終c", ("ab", "終")),
}


@for_each(("sequences", "value", "expected"), CASES.values(), ids=CASES)
@for_each("size", [1, 2, 3, 100])
def test_text_is_cut_before_the_first_stop_sequence(
    size: int, sequences: tuple[str, ...], value: str, expected: tuple[str, str | None]
) -> None:
    assert fed(sequences, pieces(value, size)) == expected


@given(
    st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=4),
    st.text("abc", max_size=30),
    st.integers(1, 7),
)
def test_it_does_not_matter_where_the_text_is_cut(wanted: list[str], value: str, size: int) -> None:
    sequences = tuple(wanted)
    assert fed(sequences, pieces(value, size)) == fed(sequences, [value])


def test_only_a_possible_beginning_is_held_back() -> None:
    scanner = StopScanner(("END", "STOP"))
    assert scanner.feed("The E") == "The "
    assert scanner.feed("N") == ""
    assert scanner.feed("T ") == "ENT "
    assert scanner.matched is None


def test_the_longest_possible_beginning_is_held_back() -> None:
    assert split_partial_match("xaba", ("abab", "ac")) == ("x", "aba")
    assert split_partial_match("xabab", ("abab",)) == ("xab", "ab")
    assert split_partial_match("", ("a",)) == ("", "")


# In a response


def asked(**changes: Any) -> ChatRequest:
    options = profile(fields={"stop_sequences": "emulate"})
    return chat_request(resolved(**{"stop_sequences": ["END"], **changes}), options)


def answered(chunks: list[Any], **changes: Any) -> tuple[dict[str, Any], bool]:
    """The message, and whether the backend is not to be read further."""
    translator = ResponseTranslator(asked(**changes))
    events: list[e.StreamEvent] = []
    for chunk in chunks:
        events += translator.translate(chunk)
    if not translator.stopped:
        events += translator.end(True)
    check_grammar(event.payload() for event in events)
    builder = MessageBuilder()
    for event in events:
        builder.add(event)
    return builder.message, translator.stopped


@for_each("size", [1, 2, 3, 5, 100])
def test_a_response_ends_before_its_stop_sequence_and_says_which(size: int) -> None:
    chunks = [text(piece) for piece in pieces("Hello ENDless", size)]
    result, stopped = answered([*chunks, finish(), usage()])
    assert stopped
    assert [block["text"] for block in result["content"]] == ["Hello "]
    assert (result["stop_reason"], result["stop_sequence"]) == ("stop_sequence", "END")


def test_the_end_is_reported_in_the_chunk_with_the_stop_sequence() -> None:
    translator = ResponseTranslator(asked())
    translator.translate(text("a"))
    *_, end, stop = translator.translate(text("bENDc"))
    assert isinstance(end, e.MessageDelta)
    assert isinstance(stop, e.MessageStop)
    assert end.usage.estimated
    assert translator.translate(text("more")) == []
    assert translator.end(True) == []


def test_a_response_without_one_is_whole() -> None:
    result, stopped = answered([text("The EN"), finish(), usage()])
    assert not stopped
    assert [block["text"] for block in result["content"]] == ["The EN"]
    assert (result["stop_reason"], result["stop_sequence"]) == ("end_turn", None)


def test_a_whole_completion_is_cut_and_its_usage_reported() -> None:
    tools = [call("f", "{}", id="a")]
    result, _ = answered([completion(content="Hello END more", tool_calls=tools)])
    assert [block["text"] for block in result["content"]] == ["Hello "]
    assert result["stop_reason"] == "stop_sequence"
    assert result["usage"]["output_tokens"] == 7


def test_a_stop_sequence_over_parts_of_a_content_list_is_found() -> None:
    chunks = [delta(content=[{"type": "text", "text": item}]) for item in ("a E", "N", "D b")]
    result, stopped = answered([*chunks, finish()])
    assert stopped
    assert [block["text"] for block in result["content"]] == ["a "]


def test_thinking_and_the_json_of_tools_are_not_searched() -> None:
    chunks = [
        delta(reasoning="the END of it"),
        text("E"),
        calls(call("f", '{"a": "END"}', id="a", index=0)),
        finish("tool_calls"),
    ]
    result, stopped = answered(chunks, thinking=THINKING)
    assert not stopped
    thought, before, tool = result["content"]
    assert thought["thinking"] == "the END of it"
    assert before["text"] == "E"
    assert tool["input"] == {"a": "END"}
    assert result["stop_reason"] == "tool_use"


def test_thinking_between_tags_is_not_searched() -> None:
    result, _ = answered([text("<think>END</think>a END b"), finish()], thinking=THINKING)
    thought, output = result["content"]
    assert (thought["thinking"], output["text"]) == ("END", "a ")


@pytest.mark.parametrize("between", [calls(call("f", "{}", id="a", index=0)), delta(refusal="no")])
def test_a_stop_sequence_does_not_go_on_after_something_else(between: dict[str, Any]) -> None:
    _, stopped = answered([text("EN"), between, text("D"), finish()])
    assert not stopped


def test_a_call_before_the_stop_sequence_is_kept() -> None:
    chunks = [calls(call("f", "{}", id="a", index=0)), text("bENDc"), finish()]
    result, _ = answered(chunks)
    assert [block["type"] for block in result["content"]] == ["tool_use", "text"]
    assert result["stop_reason"] == "stop_sequence"


def test_a_response_that_begins_with_it_is_empty() -> None:
    result, _ = answered([text("ENDx")])
    assert result["content"] == []
    assert result["stop_sequence"] == "END"


def test_unwanted_reasoning_does_not_split_a_stop_sequence() -> None:
    result, stopped = answered([text("a EN"), delta(reasoning="hm"), text("D b"), finish()])
    assert stopped
    assert [block["text"] for block in result["content"]] == ["a "]
