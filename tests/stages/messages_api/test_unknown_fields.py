"""Members of a request that nothing reads are named, wherever they are."""

from __future__ import annotations

from typing import Any

import pytest

from stages.messages_api.errors import InvalidRequestError
from stages.translation.request import chat_request
from tests.cases import for_each
from tests.support import degradations, profile, request, resolved

MARK = {"type": "ephemeral"}
TOOL = {"name": "f", "input_schema": {"type": "object"}}
TEXT = {"type": "text", "text": "a"}
USE = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
PNG = {"type": "base64", "media_type": "image/png", "data": "QUJD"}
IMAGE = {"type": "image", "source": PNG}


def user_turn(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def talk(*blocks: dict[str, Any], result: Any = "R", **members: Any) -> dict[str, Any]:
    """`blocks` and a call of the assistant, and the call's result."""
    response = {"type": "tool_result", "tool_use_id": "a", "content": result, **members}
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": [*blocks, USE]},
        {"role": "user", "content": [response]},
    ]
    return {"messages": turns, "tools": [TOOL]}


def document(**source: Any) -> dict[str, Any]:
    return {"type": "document", "source": source}


MARKED: dict[str, dict[str, Any]] = {
    "the request": {"cache_control": MARK},
    "a system block": {"system": [{**TEXT, "cache_control": MARK}]},
    "a tool": {"tools": [{**TOOL, "cache_control": MARK}]},
    "a typed tool": {"tools": [{"type": "bash_20250124", "name": "b", "cache_control": MARK}]},
    "a text block": user_turn({**TEXT, "cache_control": MARK}),
    "an image": user_turn({**IMAGE, "cache_control": MARK}),
    "a tool result": talk(cache_control=MARK),
    "inside a tool result": talk(result=[{**TEXT, "cache_control": MARK}]),
    "a reference": talk(
        result=[{"type": "tool_reference", "tool_name": "f", "cache_control": MARK}]
    ),
    "inside a document": user_turn(
        document(type="content", content=[{**TEXT, "cache_control": MARK}]),
    ),
    "a call": talk({**USE, "id": "b", "cache_control": MARK}),
}


@for_each("body", MARKED.values(), ids=MARKED)
def test_a_cache_mark_is_reported_anywhere(body: dict[str, Any]) -> None:
    options = profile(fields={"cache_control": "warn"})
    notes = degradations(chat_request(resolved(**body), options))
    assert [note for note in notes if "cache" in note] == ["cache_control:dropped"]
    usual = degradations(chat_request(resolved(**body), profile()))
    assert not [note for note in usual if "cache" in note]


LOST: dict[str, tuple[dict[str, Any], str]] = {
    "of an image": (
        user_turn({**IMAGE, "transformations": {"oversized_image": "error"}}),
        "image.transformations",
    ),
    "of a source": (user_turn({"type": "image", "source": {**PNG, "x": 1}}), "image.source.x"),
    "of thinking": (
        {"thinking": {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "error"}}},
        "thinking.block_binding",
    ),
    "of the output's form": ({"output_config": {"tone": "dry"}}, "output_config.tone"),
    "of the format": (
        {"output_config": {"format": {"type": "json_schema", "schema": {}, "name": "x"}}},
        "output_config.format.name",
    ),
    "of an editor": (
        {"tools": [{"type": "text_editor_20250728", "name": "e", "max_characters": 9}]},
        "tools.max_characters",
    ),
    "of a computer": (
        {"tools": [{"type": "computer_20251124", "name": "c", "enable_zoom": True}]},
        "tools.enable_zoom",
    ),
    "of a tool": ({"tools": [{**TOOL, "x": 1}]}, "tools.x"),
    "of the choice": (
        {"tools": [TOOL], "tool_choice": {"type": "auto", "x": 1}},
        "tool_choice.x",
    ),
    "of a block": (user_turn({**TEXT, "x": 1}), "text.x"),
    "of a message": ({"messages": [{"role": "user", "content": "a", "x": 1}]}, "messages.x"),
    "of a system block": ({"system": [{**TEXT, "x": 1}]}, "text.x"),
    "of a system message": (
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "system", "content": "b", "output_config": {"task_budget": {"a": 1}}},
            ]
        },
        "messages.output_config.task_budget",
    ),
    "deep down": (talk(result=[{**IMAGE, "x": 1}]), "image.x"),
}


@for_each(("body", "name"), LOST.values(), ids=LOST)
def test_a_member_that_nothing_reads_is_reported(body: dict[str, Any], name: str) -> None:
    assert f"{name}:dropped" in degradations(chat_request(resolved(**body), profile()))


@for_each("value", [{"type": "strict"}, ["cyber"], "off", True], ids=str)
def test_decided_safeguards_are_dropped_and_reported(value: Any) -> None:
    result = chat_request(resolved(safeguards=value), profile())
    assert degradations(result) == ("safeguards:dropped",)
    assert "safeguards" not in result.options
    with pytest.raises(InvalidRequestError, match=r"^safeguards: would be dropped"):
        chat_request(resolved(safeguards=value), profile(), strict=True)


def test_strict_refuses_a_member_that_nothing_reads() -> None:
    with pytest.raises(InvalidRequestError, match=r"^text\.x: would be dropped"):
        chat_request(resolved(**user_turn({**TEXT, "x": 1})), profile(), strict=True)


def test_members_of_responses_and_neutral_ones_are_not_reported() -> None:
    blocks: list[dict[str, Any]] = [
        {**TEXT, "citations": None, "parsed_output": {"a": 1}},
        {**USE, "id": "b", "caller": {"type": "direct"}, "toolset_name": None},
        {"type": "thinking", "thinking": "a", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
    ]
    body = talk(*blocks, result=[document(type="text", media_type="text/plain", data="a")])
    body["tools"][0] |= {"defer_loading": True, "eager_input_streaming": True}
    body["messages"][2]["content"][0]["toolset_name"] = "computer"
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
    body["tools"] = [*body["tools"], search]
    assert request(**body).unknown_fields == ()


EMPTY: dict[str, Any] = {
    "mcp_servers": [],
    "context_management": {"edits": []},
    "container": {"id": None, "skills": []},
    "betas": [],
    "fallbacks": [],
    "diagnostics": {"previous_message_id": None},
    "thinking": {"type": "disabled", "block_binding": {}},
    "inference_geo": "",
    "tools": [],
    "stop_sequences": [],
    "system": [],
    "metadata": {},
    "output_config": {"effort": None, "format": None, "task_budget": {}},
    "tomorrows_field": {},
}


@for_each(("name", "value"), EMPTY.items(), ids=EMPTY)
def test_row_c11_a_member_that_is_empty_asks_for_nothing(name: str, value: Any) -> None:
    assert degradations(chat_request(resolved(**{name: value}), profile(), strict=True)) == ()


def test_row_c11_an_empty_member_requests_nothing() -> None:
    tool = {**TOOL, "input_examples": [], "allowed_callers": [], "x": {}}
    image = {**IMAGE, "transformations": {}}
    body = {**talk(image, result=[]), "tools": [tool]}
    assert degradations(chat_request(resolved(**body), profile(), strict=True)) == ()


def test_row_c11_what_is_not_empty_is_still_refused() -> None:
    for name, value in (("mcp_servers", [{}]), ("container", {"skills": [{"skill_id": "a"}]})):
        with pytest.raises(InvalidRequestError, match=name):
            chat_request(resolved(**{name: value}), profile())


def test_null_is_not_given() -> None:
    assert request(**user_turn({**TEXT, "x": None})).unknown_fields == ()


def test_a_name_is_reported_once_up_to_a_limit() -> None:
    many = [{**TEXT, f"x{n}": 1, "same": 1} for n in range(200)]
    result = request(
        brand_new=1, **user_turn(*many, {**TEXT, "cache_control": MARK})
    ).unknown_fields
    assert result[0] == "brand_new"
    assert result.count("text.same") == 1
    assert len(result) == 52
    assert result[-1] == "cache_control"


def test_members_that_nothing_reads_may_hold_anything() -> None:
    odd = user_turn({**TEXT, "content": [1]}, {"type": "image", "source": {**PNG, "content": [1]}})
    assert request(**odd).unknown_fields == ("text.content", "image.source.content")


def test_examples_of_a_typed_tool_are_shown_to_the_model_too() -> None:
    tool = {"type": "bash_20250124", "name": "bash", "input_examples": [{"command": "ls"}]}
    options = profile(fields={"tools.strict": "map"})
    result = chat_request(resolved(tools=[{**tool, "strict": False}]), options)
    function = result.options["tools"][0]["function"]
    assert 'Examples of its input:\n{"command":"ls"}' in function["description"]
    assert function["strict"] is False
    assert degradations(result) == ()
