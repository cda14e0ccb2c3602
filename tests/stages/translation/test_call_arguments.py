"""The arguments of tool calls, and how a response with calls ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.stages.translation.response_support import PARIS, ROME, TWO, deltas
from tests.stages.translation.support import (
    call,
    calls,
    content,
    delta,
    finish,
    message,
    pieces,
    text,
    translate,
)
from tests.support import chat_request


def test_pitfall_05_arguments_in_the_chunk_of_the_name_are_kept() -> None:
    assert content([calls(call("f", PARIS, id="a", index=0)), finish()]) == TWO[:1]


@pytest.mark.parametrize("value", [{"city": "Paris"}, {"city": {"a": [1, None]}}, {}], ids=str)
def test_pitfall_05_arguments_as_an_object_are_kept(value: dict[str, Any]) -> None:
    chunks = [calls(call("f", value, id="a", index=0)), finish()]
    assert content(chunks) == [("tool_use", "f", value)]


def test_pitfall_05_empty_braces_first_are_no_arguments() -> None:
    chunks = [calls(call("f", "{}", id="a", index=0))]
    chunks += [calls(call(arguments=piece, index=0)) for piece in pieces(PARIS, 4)]
    assert content([*chunks, finish()]) == TWO[:1]


def test_pitfall_05_empty_braces_of_the_first_call_are_ignored() -> None:
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
def test_pitfall_06_a_response_with_a_tool_ends_with_tool_use(reason: str) -> None:
    result = message([text("a"), calls(call("f", "{}", id="a", index=0)), finish(reason)])
    assert result["stop_reason"] == "tool_use"


def test_pitfall_06_a_tool_counts_more_than_a_stop_string() -> None:
    chunk = finish("stop")
    chunk["choices"][0]["stop_reason"] = "</tool>"
    asked = chat_request(stop_sequences=["</tool>"])
    result = message([calls(call("f", "{}", id="a", index=0)), chunk], request=asked)
    assert (result["stop_reason"], result["stop_sequence"]) == ("tool_use", None)


@pytest.mark.parametrize("reason", ["tool_calls", "function_call"])
def test_pitfall_07_tool_use_needs_a_tool_call(reason: str) -> None:
    assert message([text("a"), finish(reason)])["stop_reason"] == "end_turn"
    assert message([calls(), finish(reason)])["stop_reason"] == "end_turn"


@pytest.mark.parametrize(
    "pieces", [[" ", "\n", " {}"], ["  {", "}"], ["null"], [" n", "ull "]], ids=str
)
def test_arguments_begin_with_their_first_letter(pieces: list[str]) -> None:
    chunks = [calls(call("f", piece, index=0)) for piece in pieces] + [finish("tool_calls")]

    assert content(chunks) == [("tool_use", "f", {})]
    assert "".join(deltas(translate(chunks))) in ("{}", "")


@pytest.mark.parametrize("arguments", ["5", "[1]", "none", '"a"'])
def test_arguments_that_are_no_object_are_the_same_in_a_stream(arguments: str) -> None:
    chunks = [calls(call("f", argument, index=0)) for argument in arguments] + [
        finish("tool_calls")
    ]

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
