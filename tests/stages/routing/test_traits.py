"""Traits of a request."""

from __future__ import annotations

from typing import Any

import pytest

from stages.routing.traits import has_images, input_tokens, prefix_key, wants_thinking
from tests.cases import for_each
from tests.secrets import PROMPT
from tests.support import request

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "a" * 99}}
TOOL = {"name": "look", "description": "d" * 400, "input_schema": {"type": "object"}}


def asking(*content: Any, **more: Any) -> Any:
    return request(messages=[{"role": "user", "content": list(content)}], **more)


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def result(*content: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "t", "content": list(content)}


def document(*content: Any) -> dict[str, Any]:
    return {"type": "document", "source": {"type": "content", "content": list(content)}}


def system_block(*content: Any) -> dict[str, Any]:
    return {"type": "mid_conv_system", "content": list(content)}


PDF = {"type": "base64", "media_type": "application/pdf", "data": "a" * 40_000}
TEXT = {"type": "text", "media_type": "text/plain", "data": "x" * 4000}


@for_each(
    ("asked", "tokens"),
    [
        (request(), 1),
        (asking(text("x" * 4000)), 1000),
        (asking(text("ä" * 4000)), 2000),
        (request(system="x" * 4000), 1001),
        (asking(result(text("x" * 4000))), 1000),
        (asking(document(text("x" * 4000))), 1000),
        (asking(system_block(text("x" * 4000))), 1000),
        (asking(IMAGE), 1300),
        (asking({"type": "document", "source": PDF}), 1300),
        (asking({"type": "document", "source": TEXT}), 1000),
        (asking(result(IMAGE, IMAGE)), 2600),
    ],
    ids=[
        "short",
        "long",
        "two bytes",
        "system",
        "result",
        "document of blocks",
        "system block",
        "image",
        "PDF",
        "text document",
        "images",
    ],
)
def test_tokens_are_estimated_by_size(asked: Any, tokens: int) -> None:
    assert input_tokens(asked) == tokens


def test_tools_and_calls_count_as_tokens() -> None:
    call = {"type": "tool_use", "id": "t", "name": "look", "input": {"at": "x" * 400}}
    thought = {"type": "thinking", "thinking": "x" * 400, "signature": ""}
    turns = [{"role": "assistant", "content": [thought, call]}]
    assert 100 < input_tokens(request(tools=[TOOL])) < 125
    assert 200 < input_tokens(request(messages=turns)) < 205


@pytest.mark.parametrize(
    "place", [lambda each: each, result, document], ids=["bare", "result", "document"]
)
def test_images_are_found_wherever_they_are(place: Any) -> None:
    assert has_images(asking(place(IMAGE)))
    assert not has_images(asking(place(text("an image"))))


@for_each(
    ("thinking", "wanted"),
    [
        (None, False),
        ({"type": "disabled"}, False),
        ({"type": "adaptive"}, True),
        ({"type": "between_tools"}, False),
        ({"type": "enabled", "budget_tokens": 1024}, True),
    ],
    ids=str,
)
def test_thinking_is_seen(thinking: Any, wanted: bool) -> None:
    assert wants_thinking(request(thinking=thinking)) is wanted


FIRST = {"role": "user", "content": PROMPT}
LINE = "x-anthropic-billing-header: cch="


def test_a_conversation_keeps_its_beginning_while_it_grows() -> None:
    value = {"system": "Be brief.", "tools": [TOOL]}
    later = [FIRST, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Go on"}]
    one = prefix_key(request(**value))
    assert prefix_key(request(**value, messages=later, max_tokens=7, model="x")) == one


@pytest.mark.parametrize(
    "other",
    [{"system": "Be long."}, {"tools": [TOOL]}, {"messages": [{**FIRST, "content": "Bye"}]}],
    ids=str,
)
def test_conversations_that_begin_otherwise_differ(other: Any) -> None:
    assert prefix_key(request(**other)) != prefix_key(request())


def test_the_line_that_changes_with_each_request_does_not_count() -> None:
    for remaining in ("", "\nBe brief."):
        one, two = (request(system=f"{LINE}{n}{remaining}") for n in (1, 2))
        assert prefix_key(one) == prefix_key(two)
    assert prefix_key(request(system=f"{LINE}1\nA")) != prefix_key(request(system=f"{LINE}1\nB"))
