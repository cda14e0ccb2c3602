"""The events of a response: text, single calls, stop reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import evolve

from stages.chat_completions.think_tags import THINK, Tags
from stages.messages_api import stream_events as e
from stages.messages_api.usage import Usage
from stages.translation.response import ResponseTranslator
from tests.cases import for_each
from tests.stages.translation.response_support import PARIS, ROME, deltas
from tests.stages.translation.support import (
    call,
    calls,
    completion,
    content,
    delta,
    finish,
    message,
    text,
    translate,
    usage,
)
from tests.support import chat_request

# The frame: start, end, reasons


def test_a_response_of_text_has_the_whole_sequence_of_events() -> None:
    role = delta(role="assistant", content="")
    events = translate([role, text("Hel"), text("lo"), finish(), usage()])
    [start, *remaining] = events
    assert isinstance(start, e.MessageStart)
    assert start.model == "claude-test"
    assert start.id.startswith("msg_proxy_")
    assert remaining == [
        e.BlockStart(0, {"type": "text", "text": ""}),
        e.BlockDelta(0, "text_delta", "Hel"),
        e.BlockDelta(0, "text_delta", "lo"),
        e.BlockStop(0),
        e.MessageDelta("end_turn", Usage(11, 7)),
        e.MessageStop(),
    ]


def test_each_response_has_its_own_id() -> None:
    ids = {message([text("a"), finish()])["id"] for _ in range(10)}
    assert len(ids) == 10


def test_the_start_has_the_streaming_flag_and_the_dropped_fields() -> None:
    request = chat_request(stream=True, top_k=3)
    [start] = ResponseTranslator(request).translate(delta(role="assistant"))
    assert isinstance(start, e.MessageStart)
    assert start.request is request.resolved.request
    assert start.exchange is request.exchange


def test_text_is_sent_as_it_comes() -> None:
    translator = ResponseTranslator(chat_request())
    translator.translate(text("a"))
    assert translator.translate(text("b")) == [e.BlockDelta(0, "text_delta", "b")]


def test_arguments_are_sent_as_they_come() -> None:
    translator = ResponseTranslator(chat_request())
    translator.translate(calls(call("f", "", id="a", index=0)))
    opening = translator.translate(calls(call(arguments='{"a"', index=0)))
    assert opening[1:] == [e.BlockDelta(0, "input_json_delta", '{"a"')]
    assert translator.translate(calls(call(arguments=":1}", index=0))) == [
        e.BlockDelta(0, "input_json_delta", ":1}")
    ]


ONE_CALL = {
    "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
}


@pytest.mark.parametrize("whole", [False, True], ids=["stream", "whole"])
def test_only_the_first_call_is_sent_if_the_client_takes_one(whole: bool) -> None:
    first = call("f", PARIS, id="a", index=0)
    second = call("f", ROME, id="b", index=1)
    third = call("f", "{", id="c", index=2)
    if whole:
        chunks = [completion("tool_calls", tool_calls=[first, second, third])]
    else:
        chunks = [text("So:"), calls(first), calls(second, third), finish("tool_calls")]
    request = chat_request(**ONE_CALL)
    result = message(chunks, request=request)
    assert content(chunks, request=request)[-1] == ("tool_use", "f", {"city": "Paris"})
    assert sum(block["type"] == "tool_use" for block in result["content"]) == 1
    assert result["stop_reason"] == "tool_use"
    assert len(content(chunks)) == len(result["content"]) + 2


def test_a_call_without_a_name_is_not_the_first() -> None:
    chunks = [calls(call("", "", id="a", index=0)), calls(call("f", ROME, id="b", index=1))]
    request = chat_request(**ONE_CALL)
    assert content([*chunks, finish()], request=request) == [("tool_use", "f", {"city": "Rome"})]


def test_text_after_a_surplus_call_is_kept() -> None:
    first, second = call("f", PARIS, id="a", index=0), call("f", ROME, id="b", index=1)
    chunks = [calls(first, second), text("And now."), finish()]
    assert content(chunks, request=chat_request(**ONE_CALL)) == [
        ("tool_use", "f", {"city": "Paris"}),
        ("text", "And now."),
    ]


@for_each(
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


def test_a_filtered_response_has_the_details_of_a_refusal() -> None:
    details = message([text("a"), finish("content_filter")])["stop_details"]
    assert details == {"type": "refusal", "category": None, "explanation": None}


def test_the_limit_counts_more_than_a_tool() -> None:
    cut = [calls(call("f", '{"a": 1, "b": "lon', id="a", index=0)), finish("length")]
    assert message(cut)["stop_reason"] == "max_tokens"
    assert content(cut) == [("tool_use", "f", {"a": 1})]
    # In a stream the part that was sent stays as it was.
    assert deltas(translate(cut)) == ['{"a": 1, "b": "lon']


@pytest.mark.parametrize("name", ["stop_reason", "matched_stop"])
def test_a_matched_stop_string_is_reported(name: str) -> None:
    chunk = finish("stop")
    chunk["choices"][0][name] = "END"
    result = message([text("a"), chunk], request=chat_request(stop_sequences=["END"]))
    assert (result["stop_reason"], result["stop_sequence"]) == ("stop_sequence", "END")


@for_each("counts", [None, 128009, "", {}, [], "eos"], ids=str)
def test_other_stop_reasons_are_no_stop_string(counts: Any) -> None:
    chunk = finish("stop")
    chunk["choices"][0]["stop_reason"] = counts
    result = message([text("a"), chunk], request=chat_request(stop_sequences=["END"]))
    assert (result["stop_reason"], result["stop_sequence"]) == ("end_turn", None)


def test_a_truncated_response_reports_no_stop_string() -> None:
    chunk = finish("length")
    chunk["choices"][0]["stop_reason"] = "END"
    result = message([text("a"), chunk], request=chat_request(stop_sequences=["END"]))
    assert (result["stop_reason"], result["stop_sequence"]) == ("max_tokens", None)


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

    @for_each("together", [1, 2, 3, 20])
    @for_each("think_tags", [THINK, ()])
    @for_each("stops", [(), ("xyz",)])
    def test_they_come_to_the_same(
        self, together: int, think_tags: Tags, stops: tuple[str, ...]
    ) -> None:
        def events(chunks: Sequence[Any]) -> list[e.StreamEvent]:
            request = evolve(
                chat_request(stream=True), think_tags=think_tags, scanned_stop_sequences=stops
            )
            translator = ResponseTranslator(request)
            reported: list[e.StreamEvent] = []
            for n, chunk in enumerate(chunks, 1):
                reported += translator.translate(chunk, n % together != 0 and n < len(chunks))
            reported += translator.end(done=True)
            return [item for item in reported if not isinstance(item, e.MessageStart)]

        assert events(self.SAID) == events([padded(chunk) for chunk in self.SAID])

    def test_text_after_a_call_is_not_text_before_it(self) -> None:
        translator = ResponseTranslator(chat_request(stream=True))
        call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}
        translator.translate(delta(content="One"))
        translator.translate(delta(tool_calls=[call]), more_buffered=True)
        reported = [
            *translator.translate(delta(content="two"), more_buffered=True),
            *translator.translate(delta(tool_calls=[{"index": 0, "function": {"arguments": "}"}}])),
            *translator.end(done=True),
        ]
        assert [item.text for item in reported if isinstance(item, e.BlockDelta)] == [
            "{",
            "}",
            "two",
        ]


def padded(chunk: dict[str, Any]) -> dict[str, Any]:
    """The same chunk, which has something else to say: nothing."""
    (choice,) = chunk["choices"]
    return {**chunk, "choices": [{**choice, "delta": {**choice["delta"], "padding": None}}]}


# Odd ends of responses


def test_a_whole_message_after_its_deltas_is_not_said_twice() -> None:
    last = {"delta": {}, "message": {"role": "assistant", "content": "Hello"}}
    end = {"choices": [{**last, "finish_reason": "stop"}]}
    assert content([text("Hel"), text("lo"), end]) == [("text", "Hello")]
    assert content([delta(role="assistant"), end]) == [("text", "Hello")]


@pytest.mark.parametrize("later", ["stop", ""])
def test_a_response_that_was_cut_stays_so_whatever_comes_later(later: str) -> None:
    assert message([text("a"), finish("length"), finish(later)])["stop_reason"] == "max_tokens"


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "odd"])
def test_a_finish_reason_of_no_protocol_is_known_as_such(reason: str) -> None:
    translator = ResponseTranslator(chat_request())
    translator.translate(finish(reason))
    translator.end(True)
    assert translator.unknown_finish == ("odd" if reason == "odd" else "")


def test_usage_in_a_choice_is_read() -> None:
    end = finish("stop")
    end["choices"][0]["usage"] = {"prompt_tokens": 12.0, "completion_tokens": "3"}
    used = message([text("a"), end])["usage"]
    assert (used["input_tokens"], used["output_tokens"]) == (12, 3)
