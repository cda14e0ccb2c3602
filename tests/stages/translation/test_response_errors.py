"""Responses that end early, fail, or are no responses."""

from __future__ import annotations

from typing import Any

import pytest

from stages.messages_api import stream_events as e
from stages.messages_api.errors import ApiError, InternalError, OverloadedError, RateLimitError
from stages.translation.response import ResponseTranslator
from tests.cases import for_each
from tests.grammar import check_grammar
from tests.stages.translation.support import (
    call,
    calls,
    content,
    delta,
    finish,
    message,
    text,
)
from tests.support import chat_request

# Ends and failures


def test_a_finish_reason_without_done_is_a_whole_response() -> None:
    assert content([text("a"), finish()], done=False) == [("text", "a")]


def test_done_without_a_finish_reason_is_a_whole_response() -> None:
    result = message([text("a")], done=True)
    response = [{"type": "text", "text": "a"}]
    assert (result["content"], result["stop_reason"]) == (response, "end_turn")


@pytest.mark.parametrize(
    "chunks",
    [
        [text("a")],
        [delta(role="assistant")],
        [calls(call("f", '{"a', id="a", index=0))],
    ],
    ids=["text", "role", "a call"],
)
def test_pitfall_21_half_a_response_is_an_error(chunks: list[dict[str, Any]]) -> None:
    translator = ResponseTranslator(chat_request())
    events = [event for chunk in chunks for event in translator.translate(chunk)]
    with pytest.raises(InternalError, match="backend `fake` closed the stream early"):
        translator.end(done=False)
    check_grammar((event.payload() for event in events), whole=False)


@pytest.mark.parametrize("done", [True, False])
def test_pitfall_21_no_response_at_all_is_an_error(done: bool) -> None:
    with pytest.raises(InternalError, match="sent no response"):
        ResponseTranslator(chat_request()).end(done)


@pytest.mark.parametrize("reason", ["error", "abort"])
def test_a_finish_reason_that_means_failure_is_an_error(reason: str) -> None:
    translator = ResponseTranslator(chat_request())
    translator.translate(text("a"))
    translator.translate(finish(reason))
    with pytest.raises(InternalError, match="broke off its response"):
        translator.end(done=True)


@for_each(
    ("body", "expected", "words"),
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
@for_each("place", ["first", "in the middle", "last"])
def test_an_error_in_a_chunk_is_raised_anywhere(
    place: str, body: Any, expected: type[ApiError], words: str
) -> None:
    before = {"first": [], "in the middle": [text("a")], "last": [text("a"), finish()]}[place]
    translator = ResponseTranslator(chat_request())
    events = [event for chunk in before for event in translator.translate(chunk)]
    with pytest.raises(expected, match=words):
        translator.translate({"error": body, "choices": [{"delta": {"content": "b"}}]})
    assert not any(isinstance(event, e.BlockStop) for event in events)


@for_each("body", [None, "", {}, False, 0], ids=repr)
def test_an_empty_error_is_no_error(body: Any) -> None:
    assert content([{**text("a"), "error": body}, finish()]) == [("text", "a")]


@pytest.mark.parametrize("data", [None, [], "x", 1], ids=repr)
def test_a_chunk_that_is_no_object_is_an_error(data: Any) -> None:
    with pytest.raises(InternalError, match="a chunk that is not a JSON object"):
        ResponseTranslator(chat_request()).translate(data)


@pytest.mark.parametrize(
    "data", [{}, {"choices": None}, {"choices": []}, {"usage": {"prompt_tokens": 1}}]
)
def test_a_response_without_choices_is_no_response(data: dict[str, Any]) -> None:
    translator = ResponseTranslator(chat_request())
    translator.translate(data)

    with pytest.raises(InternalError, match="sent no response"):
        translator.end(True)


def test_text_in_place_of_a_response_is_in_the_error() -> None:
    translator = ResponseTranslator(chat_request())
    assert translator.translate({"status": "error", "detail": "Not Found"}) == []

    with pytest.raises(InternalError, match="sent no response: Not Found"):
        translator.end(True)
