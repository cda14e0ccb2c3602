"""Schemas in the forms that Gemini and Moonshot want (FAULTS B22)."""

from __future__ import annotations

from typing import Any

import pytest

from stages.messages_api.errors import UnsupportedError
from stages.translation.json_schema import fit_schema
from stages.translation.request import chat_request
from tests.cases import for_each
from tests.support import degradations, profile, resolved


def fitted(schema: Any, **options: Any) -> Any:
    return fit_schema(schema, profile(unsupported_schema_keywords=(), **options)).schema


def loosened(schema: Any, **options: Any) -> bool:
    return fit_schema(schema, profile(**options)).loosened


def inlined(schema: Any) -> Any:
    return fitted(schema, schema_refs=False)


POINT = {"type": "object", "properties": {"x": {"type": "number"}}}


@pytest.mark.parametrize("name", ["$defs", "definitions"])
def test_row_b22_references_are_written_out(name: str) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": f"#/{name}/p"}, "b": {"items": {"$ref": f"#/{name}/p"}}},
        name: {"p": POINT},
    }
    assert inlined(schema) == {
        "type": "object",
        "properties": {"a": POINT, "b": {"items": POINT}},
    }
    assert not loosened(schema, schema_refs=False)
    assert fitted(schema) == schema


def test_row_b22_what_is_next_to_a_reference_stays() -> None:
    schema = {"$ref": "#/$defs/p", "description": "here", "$defs": {"p": {"type": "string"}}}
    assert inlined(schema) == {"type": "string", "description": "here"}


def test_row_b22_a_reference_is_a_pointer() -> None:
    schema = {"items": {"$ref": "#/properties/a~1b%20c"}, "properties": {"a/b c": POINT}}
    assert inlined(schema)["items"] == POINT


def test_row_b22_a_property_may_be_called_as_a_keyword() -> None:
    schema = {"properties": {"$ref": {"type": "string"}, "$defs": {"type": "string"}}}
    assert inlined(schema) == schema


@for_each("ref", ["#", "#/$defs/tree", "#/$defs/none", "other.json#/a", "#anchor", 7, None])
def test_row_b22_an_infinite_schema_allows_anything_and_reports(ref: Any) -> None:
    tree = {"type": "object", "properties": {"next": {"$ref": ref, "description": "more"}}}
    schema = {**tree, "$defs": {"tree": tree}}
    written = inlined(schema)
    while "properties" in written:
        written = written["properties"]["next"]
    assert written == {"description": "more"}
    assert loosened(schema, schema_refs=False) is (ref is not None)


def test_row_b22_an_expansion_has_a_bound() -> None:
    """Each level refers twice to the next: written out, it would be 2 ** 60 schemas."""
    levels = {
        f"d{n}": {
            "properties": {"a": {"$ref": f"#/$defs/d{n + 1}"}, "b": {"$ref": f"#/$defs/d{n + 1}"}}
        }
        for n in range(60)
    }
    schema = {"$ref": "#/$defs/d0", "$defs": {**levels, "d60": {"type": "string"}}}
    fit = fit_schema(schema, profile(schema_refs=False))
    assert fit.loosened
    assert str(fit.schema).count("properties") < 20_000


def test_row_b22_a_schema_that_is_too_deep_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(900):
        schema = {"items": schema}
    with pytest.raises(UnsupportedError, match="too deep"):
        fitted(schema, schema_refs=False)


@for_each(
    ("schema", "any_of", "nullable"),
    [
        (
            {"type": ["string", "null"], "description": "d"},
            {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "d"},
            {"type": "string", "nullable": True, "description": "d"},
        ),
        (
            {"type": ["object", "null"], "properties": {"a": {"type": ["null", "integer"]}}},
            {
                "anyOf": [{"type": "object"}, {"type": "null"}],
                "properties": {"a": {"anyOf": [{"type": "null"}, {"type": "integer"}]}},
            },
            {
                "type": "object",
                "nullable": True,
                "properties": {"a": {"type": "integer", "nullable": True}},
            },
        ),
        (
            {"type": ["string", "integer"]},
            {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        ),
        ({"type": ["string"]}, {"type": "string"}, {"type": "string"}),
        (
            {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            {"type": "string", "nullable": True, "default": None},
        ),
        ({"const": "a"}, {"const": "a"}, {"enum": ["a"]}),
        (
            {"type": ["string", "null"], "enum": ["a", None]},
            {"anyOf": [{"type": "string"}, {"type": "null"}], "enum": ["a", None]},
            {"type": "string", "nullable": True, "enum": ["a"]},
        ),
        (
            {"oneOf": [{"type": "string"}, {"type": "integer"}]},
            {"oneOf": [{"type": "string"}, {"type": "integer"}]},
            {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        ),
        (
            {"type": ["string", "array"], "anyOf": [{"minLength": 1}]},
            {
                "anyOf": [{"minLength": 1}],
                "allOf": [{"anyOf": [{"type": "string"}, {"type": "array"}]}],
            },
            {"minLength": 1},
        ),
        ({"enum": [{"type": ["a"]}]}, {"enum": [{"type": ["a"]}]}, {"enum": [{"type": ["a"]}]}),
    ],
)
def test_row_b22_several_types(schema: Any, any_of: Any, nullable: Any) -> None:
    assert fitted(schema, schema_types="anyOf") == any_of
    assert fitted(schema, schema_types="nullable") == nullable
    assert fitted(schema) == schema


def test_row_b22_alternatives_have_their_type_themselves() -> None:
    inner = {"type": "object", "anyOf": [{"required": ["a"]}, {"type": "array"}]}
    schema = {"type": "object", "properties": {"p": inner}}
    assert fitted(schema, typed_any_of=True)["properties"]["p"] == {
        "anyOf": [{"type": "object", "required": ["a"]}, {"type": "array"}]
    }
    assert not loosened(schema, typed_any_of=True)


@pytest.mark.parametrize("key", ["anyOf", "oneOf", "allOf"])
def test_row_b22_alternatives_at_the_root_are_one_object(key: str) -> None:
    schema = {
        "type": "object",
        "required": ["c"],
        "properties": {"c": {}},
        key: [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {}}}],
    }
    assert fitted(schema, typed_any_of=True) == {
        "type": "object",
        "required": ["c"],
        "properties": {"a": {"type": "string"}, "b": {}, "c": {}},
    }
    assert loosened(schema, typed_any_of=True)


LOOSE = {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}


def test_a_loosened_schema_is_reported_and_not_strict() -> None:
    options = profile(schema_refs=False, fields={"tools.strict": "map"})
    tool = {"name": "f", "input_schema": LOOSE, "strict": True}
    request = chat_request(resolved(tools=[tool]), options)
    assert degradations(request) == ("tools.input_schema:loosened", "tools.strict:dropped")
    assert request.options["tools"][0]["function"]["strict"] is False
    assert ("tools", "loosened") in [
        (degradation.field, degradation.action) for degradation in request.degradations
    ]


def test_a_loosened_form_is_not_strict() -> None:
    form = {"format": {"type": "json_schema", "schema": LOOSE}}
    request = chat_request(resolved(output_config=form), profile(schema_refs=False))
    assert request.options["response_format"]["json_schema"]["strict"] is False
    assert degradations(request) == ("output_config.format:not-strict",)


def test_row_b22_the_apis_own_tools_have_the_form_too() -> None:
    tool = {"type": "browser_toolset_20260801", "name": "browser"}
    request = chat_request(resolved(tools=[tool]), profile(schema_types="nullable"))
    sent = {item["function"]["name"]: item["function"] for item in request.options["tools"]}
    value = sent["browser__form_input"]["parameters"]["properties"]["value"]
    assert [item["type"] for item in value["anyOf"]] == ["string", "number", "boolean"]
