"""Schemas without the keywords a backend refuses."""

from typing import Any

from stages.translation.json_schema import is_closed, without
from tests.cases import for_each

DROPPED = frozenset({"$schema", "format"})


def test_keywords_go_at_every_depth() -> None:
    schema = {
        "$schema": "x",
        "anyOf": [{"type": "string", "format": "uri"}],
        "items": {"format": "date"},
        "$defs": {"a": {"format": "b"}},
    }

    assert without(schema, DROPPED) == {
        "anyOf": [{"type": "string"}],
        "items": {},
        "$defs": {"a": {}},
    }


def test_properties_that_are_called_like_keywords_stay() -> None:
    schema = {"properties": {"format": {"type": "string", "format": "uri"}}, "required": ["format"]}

    assert without(schema, DROPPED) == {
        "properties": {"format": {"type": "string"}},
        "required": ["format"],
    }


def test_data_in_a_schema_stays() -> None:
    schema = {"default": {"format": 1}, "enum": [{"format": 2}], "const": {"$schema": 3}}

    assert without(schema, DROPPED) == schema


def an_object(**changes: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
        **changes,
    }


@for_each(
    ("schema", "closed"),
    [
        ({}, True),
        ({"type": "string"}, True),
        (an_object(), True),
        (an_object(required=[]), False),
        (an_object(required=None), False),
        (an_object(required="a"), False),
        (an_object(required=[{}, "a"]), True),
        (an_object(properties=[{}]), True),
        (an_object(additionalProperties=True), False),
        ({"type": "object"}, False),
        ({"properties": {}}, False),
        ({"type": "object", "additionalProperties": False}, True),
        ({"anyOf": [an_object(), an_object(required=[])]}, False),
        ({"type": "array", "items": an_object(required=[])}, False),
        ({"$defs": {"x": an_object(required=[])}}, False),
        (an_object(properties={"a": an_object(required=[])}), False),
        (an_object(properties={"a": {"default": {"type": "object"}}}), True),
        (an_object(properties={"required": {}}, required=["required"]), True),
    ],
)
def test_a_closed_schema_requires_all_and_allows_no_more(schema: Any, closed: bool) -> None:
    assert is_closed(schema) is closed
