"""Requests of the Messages API that are in order, however they are written."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Any

import pytest
from cattrs.errors import BaseValidationError

from stages.messages_api import request as m
from stages.messages_api import validation
from stages.messages_api.problem_texts import either
from stages.messages_api.structuring import spell, structure
from tests.cases import for_each
from tests.secrets import PROMPT
from tests.support import body, request

IMAGE = {"type": "base64", "media_type": "image/png", "data": "QUJD"}


def blocks(*content: dict[str, Any]) -> tuple[m.Block, ...]:
    """`content` as it is in a request whose values are in order."""
    result = request(messages=[{"role": "user", "content": list(content)}])
    assert list(validation.problems(result)) == []
    return result.messages[0].content


def test_a_small_request_has_the_defaults() -> None:
    assert request() == m.MessagesRequest(
        model="claude-test",
        max_tokens=100,
        messages=(m.Message("user", (m.TextBlock(PROMPT),)),),
    )


def test_a_request_that_is_refused_is_not_kept_in_memory() -> None:
    class Text(list[str]):
        """Something whose garbage collection is observable."""

    value = body(temperature="hot", messages=[{"role": "user", "content": [{"type": "text"}]}])
    value["system"] = [text := Text()]
    kept = weakref.ref(text)
    with suppress(BaseValidationError):
        structure(value)
    del value, text
    assert kept() is None, "until the garbage collector runs"


def test_a_string_is_one_text_block() -> None:
    assert request(system="Be brief.").system == (m.TextBlock("Be brief."),)


def test_an_empty_string_is_no_block() -> None:
    assert request(system="").system == ()


def test_all_parameters_are_read() -> None:
    tool = {
        "name": "f",
        "input_schema": {"type": "object"},
        "description": "d",
        "type": "custom",
        "strict": True,
        "input_examples": [{"a": 1}],
    }
    screen = {"name": "c", "type": "computer_20250124", "display_width_px": 2}
    result = request(
        stream=True,
        temperature=1,
        top_p=0.5,
        top_k=7,
        stop_sequences=["a", "b"],
        tools=[tool, {**screen, "display_height_px": 1}],
        tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        thinking={"type": "enabled", "budget_tokens": 2048, "display": "omitted"},
        output_config={"effort": "xhigh", "format": {"type": "json_schema", "schema": {"a": 1}}},
        metadata={"user_id": "u"},
    )
    assert result.stream
    assert (result.temperature, result.top_p, result.top_k) == (1, 0.5, 7)
    assert result.stop_sequences == ("a", "b")
    assert result.tools == (
        m.Tool("f", {"type": "object"}, "d", "custom", strict=True, input_examples=({"a": 1},)),
        m.Tool("c", type="computer_20250124", display_width_px=2, display_height_px=1),
    )
    assert result.tool_choice == m.ToolChoice("tool", "f", disable_parallel_tool_use=True)
    assert result.thinking == m.Thinking("enabled", 2048, "omitted")
    assert result.output_config == m.OutputConfig("xhigh", m.OutputFormat("json_schema", {"a": 1}))
    assert result.metadata == m.Metadata("u")
    assert result.unknown_fields == ()


def test_null_is_the_same_as_not_given() -> None:
    names = (
        "system stream temperature top_p top_k stop_sequences tools tool_choice thinking container "
        "output_config metadata"
    )
    result: m.MessagesRequest = structure({**body(), **dict.fromkeys(names.split())})
    assert result == request()


def test_null_within_a_block_is_the_same_as_not_given() -> None:
    assert blocks(
        {"type": "text", "text": "a", "citations": None, "cache_control": None},
        {"type": "tool_result", "tool_use_id": "a", "content": None, "is_error": None},
    ) == (m.TextBlock("a"), m.ToolResultBlock("a"))


def test_unknown_fields_are_kept_by_name() -> None:
    result = request(
        brand_new={"a": "u"}, service_tier="auto", speed=None, fallbacks=[{"model": "m"}]
    )
    assert result.unknown_fields == ("brand_new", "service_tier", "fallbacks")


def test_a_field_named_like_an_attribute_is_unknown_too() -> None:
    assert request(unknown_fields=["x"]).unknown_fields == ("unknown_fields",)


def test_unknown_members_of_blocks_are_left_out() -> None:
    cached = {"type": "ephemeral", "ttl": "1h"}
    assert blocks({"type": "text", "text": "a", "cache_control": cached}) == (m.TextBlock("a"),)


@for_each(
    ("block", "expected"),
    [
        ({"type": "text", "text": " "}, m.TextBlock(" ")),
        ({"type": "image", "source": IMAGE}, m.ImageBlock(m.Base64Source("image/png", "QUJD"))),
        (
            {"type": "image", "source": {"type": "url", "url": "https://x.invalid/a"}},
            m.ImageBlock(m.UrlSource("https://x.invalid/a")),
        ),
        (
            {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
            m.ImageBlock(m.FileSource("file_1")),
        ),
        (
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "QUI="},
                "title": "t",
                "context": "c",
            },
            m.DocumentBlock(m.Base64Source("application/pdf", "QUI="), "t", "c"),
        ),
        (
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "d"},
            },
            m.DocumentBlock(m.TextSource("d")),
        ),
        (
            {"type": "document", "source": {"type": "content", "content": "d"}},
            m.DocumentBlock(m.ContentSource((m.TextBlock("d"),))),
        ),
        (
            {
                "type": "document",
                "source": {"type": "content", "content": [{"type": "image", "source": IMAGE}]},
            },
            m.DocumentBlock(m.ContentSource((m.ImageBlock(m.Base64Source("image/png", "QUJD")),))),
        ),
        (
            {
                "type": "search_result",
                "source": "s",
                "title": "t",
                "content": [{"type": "text", "text": "a"}],
            },
            m.SearchResultBlock("s", "t", (m.TextBlock("a"),)),
        ),
        (
            {"type": "tool_result", "tool_use_id": "a", "content": "done", "is_error": True},
            m.ToolResultBlock("a", (m.TextBlock("done"),), is_error=True),
        ),
        (
            {
                "type": "tool_result",
                "tool_use_id": "a",
                "content": [{"type": "tool_reference", "tool_name": "f"}],
            },
            m.ToolResultBlock(
                "a", (m.OtherBlock("tool_reference", {"type": "tool_reference", "tool_name": "f"}),)
            ),
        ),
        (
            {"type": "container_upload", "file_id": "f"},
            m.OtherBlock("container_upload", {"type": "container_upload", "file_id": "f"}),
        ),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_a_block_of_the_user_is_read(block: dict[str, Any], expected: m.Block) -> None:
    assert blocks(block) == (expected,)


@for_each(
    ("block", "expected"),
    [
        ({"type": "thinking", "thinking": "hm"}, m.ThinkingBlock("hm")),
        ({"type": "thinking", "thinking": "", "signature": "s"}, m.ThinkingBlock("", "s")),
        (
            {"type": "tool_use", "id": "a", "name": "f", "input": {"n": 2**70}, "caller": None},
            m.ToolUseBlock("a", "f", {"n": 2**70}),
        ),
        (
            {"type": "redacted_thinking", "data": "x"},
            m.OtherBlock("redacted_thinking", {"type": "redacted_thinking", "data": "x"}),
        ),
        ({"type": "poem", "n": None}, m.OtherBlock("poem", {"type": "poem", "n": None})),
    ],
    ids=["thinking", "omitted thinking", "tool_use", "redacted_thinking", "an unknown one"],
)
def test_a_block_of_the_assistant_is_read(block: dict[str, Any], expected: m.Block) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": [block]}]
    result = request(messages=turns)
    assert list(validation.problems(result)) == []
    assert result.messages[1].content == (expected,)


@for_each(
    "changes",
    [
        {"max_tokens": 2**70},
        {"temperature": 0, "top_p": 1, "top_k": 0},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 1025},
        {"thinking": {"type": "adaptive", "display": "omitted"}},
        {"thinking": {"type": "between_tools"}},
        {"thinking": {"type": "disabled", "budget_tokens": 1}},
        {"tools": [{"name": "a" * 128, "input_schema": {"type": "object"}, "strict": True}]},
        {"tools": []},
        {"stop_sequences": [" a "]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": []}]},
        {"messages": [{"role": "user", "content": "a"}] * 2},
        {"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]},
        {"model": "a/b:c@d[1m]"},
        {"tools": [{"type": "bash_20250124", "name": "bash"}]},
        {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 5}]},
        {"output_config": {}, "metadata": {"user_id": None}},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_an_allowed_value_is_accepted(changes: dict[str, Any]) -> None:
    assert list(validation.problems(request(**changes))) == []


def test_a_request_without_max_tokens_has_a_budget_of_any_size() -> None:
    thinking = {"type": "enabled", "budget_tokens": 100_000}
    assert list(validation.problems(request(max_tokens=None, thinking=thinking))) == []


def test_thinking_is_wanted_unless_it_is_disabled() -> None:
    kinds: tuple[Any, ...] = ("enabled", "adaptive", "between_tools", "disabled")
    requests = [m.MessagesRequest("m", (), thinking=m.Thinking(kind)) for kind in kinds]
    assert [result.allows_thinking_blocks for result in requests] == [True, True, True, False]


def test_all_that_is_wrong_is_reported_with_its_path() -> None:
    wrong = {
        "model": 1,
        "messages": [
            {"role": "user", "content": [{"type": "text"}, {"type": "image", "source": {}}]},
            7,
        ],
    }
    with pytest.raises(BaseValidationError) as raised:
        structure(wrong)
    assert spell(raised.value) == [
        "model: Input should be a valid string",
        "messages.0.content.0.text: Field required",
        "messages.0.content.1.source: an object with a 'type' is required here",
        "messages.1: Input should be an object",
    ]


def test_a_lone_error_is_spelt_without_a_path() -> None:
    assert spell(ValueError("Input should be an object")) == ["Input should be an object"]


def test_choices_are_spelt_as_people_do() -> None:
    assert either(["a"]) == "'a'"
    assert either(["a", "b"]) == "'a' or 'b'"
    assert either(["a", "b", "c"]) == "'a', 'b' or 'c'"
