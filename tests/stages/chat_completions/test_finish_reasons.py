"""The translation of the finish reasons of providers."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from stages.chat_completions.finish_reasons import _MEANINGS, Finish, meaning
from stages.messages_api.errors import InternalError
from stages.translation.response import ResponseTranslator
from tests.cases import for_each
from tests.stages.translation.support import call, calls, completion, finish, message, text
from tests.support import chat_request

FAILED = [
    *("network_error", "insufficient_system_resource", "error", "abort", "aborted", "timeout"),
    *("malformed_function_call", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"),
    *("function_call_filter: MALFORMED_FUNCTION_CALL", "function_call_filter:UNEXPECTED_TOOL_CALL"),
]
STOP_REASONS = {
    "end_turn": [
        *("stop", "STOP", "eos", "eos_token", "EOS", "stop_sequence", "end_turn", "complete"),
        *("tool_calls", "tool_call", "function_call", "something_new", "OTHER"),
    ],
    "max_tokens": ["length", "MAX_TOKENS", "max_tokens", "repetition", "repetition_truncation"],
    "model_context_window_exceeded": ["model_context_window_exceeded", "model_length"],
    "refusal": [
        *("content_filter", "sensitive", "SAFETY", "PROHIBITED_CONTENT", "RECITATION"),
        "content_filter: PROHIBITED_CONTENT",
    ],
}
KNOWN = [(reason, stop) for stop, reasons in STOP_REASONS.items() for reason in reasons]


ASKED = chat_request(max_tokens=7)  # the number of a whole response of these tests


def ended(chunks: list[dict[str, Any]]) -> str:
    """The stop_reason, or `error`."""
    try:
        return str(message(chunks, request=ASKED)["stop_reason"])
    except InternalError:
        return "error"


@for_each(("reason", "expected"), [*KNOWN, *((each, "error") for each in FAILED)])
def test_row_b2_a_finish_reason_of_a_provider_has_a_meaning(reason: str, expected: str) -> None:
    assert ended([text("Half an ans"), finish(reason)]) == expected
    assert ended([completion(reason, content="Half an ans")]) == expected


def test_row_b2_a_repeating_model_did_not_fill_the_window() -> None:
    body = completion("repetition", content="no no no")
    assert message([body], request=chat_request(max_tokens=100))["stop_reason"] == "max_tokens"


def test_row_b2_the_error_says_which_reason_it_was() -> None:
    translator = ResponseTranslator(chat_request())
    translator.translate(text("Half an ans"))
    translator.translate(finish("network_error"))
    with pytest.raises(InternalError, match=r"broke off its response \(network_error\): try again"):
        translator.end(True)


def test_row_b2_a_broken_finish_counts_with_a_call_too() -> None:
    called = calls(call("f", '{"a": 1}', id="a", index=0))
    assert ended([called, finish("MALFORMED_FUNCTION_CALL")]) == "error"
    assert ended([called, finish("eos")]) == "tool_use"


NATIVE = [
    ("stop", "network_error", "error"),
    ("stop", "MALFORMED_FUNCTION_CALL", "error"),
    (None, "insufficient_system_resource", "error"),
    ("stop", "SAFETY", "refusal"),
    ("stop", "MAX_TOKENS", "max_tokens"),
    ("length", "model_context_window_exceeded", "model_context_window_exceeded"),
    ("stop", "end_turn", "end_turn"),
    ("stop", "of its own", "end_turn"),
    ("length", "stop", "max_tokens"),
    ("content_filter", "stop", "refusal"),
]


@for_each("message", ["", "Half an ans"], ids=["empty", "half"])
@for_each(("reason", "native", "expected"), NATIVE)
def test_row_b2_the_worse_of_openrouter_s_two_reasons_counts(
    reason: str | None, native: str, expected: str, message: str
) -> None:
    end = finish(reason)
    end["choices"][0]["native_finish_reason"] = native
    assert ended([text(message), end]) == expected


@for_each("reasons", [*itertools.permutations(["stop", "length", "odd"])])
def test_of_several_reasons_the_worst_counts(reasons: tuple[str, ...]) -> None:
    assert ended([text("a"), *map(finish, reasons)]) == "max_tokens"
    assert ended([text("a"), *map(finish, reasons), finish("abort"), finish("stop")]) == "error"


def test_each_reason_is_in_lower_case_and_found_in_any() -> None:
    for reason, finished in _MEANINGS.items():
        assert reason == reason.lower()
        assert meaning(reason.upper()) is finished
    assert meaning("") is Finish.NONE
    assert meaning("nobody knows") is Finish.UNKNOWN
