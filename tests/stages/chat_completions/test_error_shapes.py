"""Errors are found in any shape of body."""

from __future__ import annotations

from typing import Any

import pytest

from stages.chat_completions.errors import error_in_document
from stages.messages_api.errors import OutputLimitError
from tests.cases import for_each
from tests.stages.chat_completions.support import refused

# B25: other shapes

SHAPES: dict[str, tuple[Any, int, str]] = {
    "a list": ([{"error": {"code": 503, "message": "Overloaded."}}], 529, "Overloaded."),
    "MiniMax": (
        {
            "id": "x",
            "choices": None,
            "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"},
        },
        402,
        "insufficient balance",
    ),
    "MiniMax, too fast": (
        {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
        429,
        "rate limit",
    ),
    "MiniMax, unknown": ({"base_resp": {"status_code": 9, "status_msg": "Oh"}}, 500, "Oh"),
    "OpenRouter, a choice": (
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": ""},
                    "finish_reason": "error",
                    "error": {"code": 502, "message": "Upstream error from Chutes"},
                }
            ]
        },
        529,
        "Upstream error from Chutes",
    ),
    "OpenRouter, a later choice": (
        {"choices": [{"index": 0}, {"index": 1, "error": {"code": 429, "message": "Slow"}}]},
        429,
        "Slow",
    ),
    "old vLLM, flat": ({"object": "error", "message": "Bad", "code": 400}, 400, "Bad"),
    "a text": ({"error": "Oh"}, 500, "Oh"),
}


ALIBABA = "<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 8192]"


@pytest.mark.parametrize(
    "body",
    [
        f'event:error\ndata:{{"code":"InvalidParameter","message":"{ALIBABA}"}}\n\n',
        f'id:1\nevent:error\n:HTTP_STATUS/400\ndata:{{"message":"{ALIBABA}"}}',
        f'data: {{"error":{{"code":"invalid_parameter_error","message":"{ALIBABA}"}}}}\r\n\r\n',
        ALIBABA,
    ],
    ids=["event", "whole head", "OpenAI", "text"],
)
def test_row_b25_a_refusal_is_found_in_events_and_in_markup(body: str) -> None:
    error = refused(400, body.encode())  # musistudio/claude-code-router#1327, opencode#40770
    assert isinstance(error, OutputLimitError)
    assert error.limit == 8192


@pytest.mark.parametrize("body", ["<html>Bad Request</html>", " \n<!DOCTYPE html><p>max</p>"])
def test_row_b25_a_page_says_nothing(body: str) -> None:
    assert refused(400, body.encode()).message.endswith("no reason was given")


@for_each(("value", "status", "words"), SHAPES.values(), ids=SHAPES)
def test_row_b25_an_error_is_found_in_any_document_of_a_200(
    value: Any, status: int, words: str
) -> None:
    error = error_in_document("local", value)
    assert error is not None
    assert error.status == status
    assert error.message.endswith(f": {words}")


@for_each(
    "value",
    [
        {},
        [],
        7,
        None,
        "error",
        {"error": None, "choices": [{"delta": {"content": "x"}}]},
        {"base_resp": {"status_code": 0, "status_msg": ""}, "choices": [{"error": None}]},
        {"choices": "no"},
        {"base_resp": "no", "choices": [7]},
    ],
    ids=str,
)
def test_row_b25_a_response_is_no_error(value: Any) -> None:
    assert error_in_document("local", value) is None
