"""Content as a list, refusals, and members that are null or missing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stages.translation.support import (
    THINKING,
    content,
    delta,
    finish,
    message,
    text,
)
from tests.support import chat_request

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
    result = message([delta(refusal="I"), delta(refusal=" cannot"), finish("stop")])
    assert result["content"] == [{"type": "text", "text": "I cannot"}]
    assert result["stop_reason"] == "refusal"
    assert result["stop_details"] == {"type": "refusal", "category": None, "explanation": None}


def test_a_refusal_may_be_a_part_of_the_content() -> None:
    part = {"type": "refusal", "refusal": "I cannot"}
    result = message([delta(content=[part]), finish("stop")])
    assert result["content"] == [{"type": "text", "text": "I cannot"}]
    assert result["stop_reason"] == "refusal"


def test_reasoning_may_be_a_part_of_the_content() -> None:
    mistral = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    databricks = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    for part in (mistral, databricks):
        chunks = [delta(content=[part]), delta(content=[{"type": "text", "text": "4"}]), finish()]
        result = content(chunks, request=chat_request(thinking=THINKING))
        assert result == [("thinking", "hm"), ("text", "4")]


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


def test_a_response_may_be_empty() -> None:
    result = message([delta(role="assistant", content=""), finish("stop")])
    assert (result["content"], result["stop_reason"]) == ([], "end_turn")
