"""The form of the response, as an option and as an instruction."""

from __future__ import annotations

from typing import Any

from stages.events import ChatRequest
from stages.translation.request import chat_request
from tests.support import degradations, profile, resolved

SCHEMA = {"type": "object", "properties": {"é": {"type": "string"}}}
FORM = {"type": "json_schema", "schema": SCHEMA}
EMULATED = {"fields": {"output_config.format": "emulate"}}
MAPPED = {
    "type": "json_schema",
    "json_schema": {"name": "response", "schema": SCHEMA, "strict": True},
}


def translated(options: dict[str, Any] | None = None, **changes: Any) -> ChatRequest:
    return chat_request(resolved(**changes), profile(**(options or {})))


def test_a_form_is_the_backends_response_format() -> None:
    result = translated(output_config={"format": FORM})
    assert result.options["response_format"] == MAPPED
    assert len(result.messages) == 1


def test_a_form_goes_without_the_keywords_the_backend_refuses() -> None:
    schema = {**SCHEMA, "$schema": "x", "format": "y"}
    form = {"format": {"type": "json_schema", "schema": schema}}
    result = translated({"unsupported_schema_keywords": ("$schema", "format")}, output_config=form)
    assert result.options["response_format"] == MAPPED


def test_an_open_schema_is_not_strict_where_that_needs_closed() -> None:
    closed = {**SCHEMA, "required": ["é"], "additionalProperties": False}
    for schema, strict in ((SCHEMA, False), (closed, True)):
        form = {"format": {"type": "json_schema", "schema": schema}}
        result = translated({"strict_needs_closed_schema": True}, output_config=form)
        buffered = result.options["response_format"]["json_schema"]
        assert buffered == {"name": "response", "schema": schema, "strict": strict}
        assert degradations(result) == (() if strict else ("output_config.format:not-strict",))


def test_output_format_of_older_clients_is_the_same() -> None:
    result = translated(output_format=FORM)
    assert result.options["response_format"] == MAPPED
    assert degradations(result) == ()


def test_of_both_that_in_output_config_counts() -> None:
    other = {"type": "json_schema", "schema": {"type": "array"}}
    result = translated(output_config={"format": FORM}, output_format=other)
    assert result.options["response_format"] == MAPPED


def test_an_emulated_form_is_the_end_of_the_system_prompt() -> None:
    result = translated(EMULATED, output_config={"format": FORM}, system="Be brief.")
    prompt = result.messages[0]["content"]
    assert prompt.startswith("Be brief.\n\nAnswer with one JSON document")
    assert prompt.endswith('\n{"type":"object","properties":{"é":{"type":"string"}}}')
    assert "response_format" not in result.options
    assert degradations(result) == ()


def test_an_emulated_form_adds_a_system_prompt_if_missing() -> None:
    result = translated(EMULATED, output_config={"format": FORM})
    assert [message["role"] for message in result.messages] == ["system", "user"]
    assert [m["role"] for m in translated(EMULATED).messages] == ["user"]


def test_an_emulated_form_uses_json_mode_where_supported() -> None:
    result = translated({**EMULATED, "json_object": True}, output_config={"format": FORM})
    assert result.options["response_format"] == {"type": "json_object"}
    assert result.messages[0]["role"] == "system"
    assert "response_format" not in translated({**EMULATED, "json_object": True}).options


def test_a_dropped_form_has_no_effect() -> None:
    result = translated(
        {"fields": {"output_config.format": "warn"}}, output_config={"format": FORM}
    )
    assert result.options == {"max_tokens": 100}
    assert len(result.messages) == 1
    assert degradations(result) == ("output_config.format:dropped",)
