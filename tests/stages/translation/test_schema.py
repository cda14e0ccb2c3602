"""Schemas without the keywords a backend refuses."""

from stages.translation.schema import without

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
