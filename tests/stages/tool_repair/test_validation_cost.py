"""The limit on the cost of a schema: usual schemas are used, the worst are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stages.tool_repair.argument_schema import ToolSchema
from stages.tool_repair.arguments import repair_arguments
from stages.tool_repair.validation_cost import MAX_COST, is_cheap_to_validate, is_compilable
from tests.cases import for_each

Schema = dict[str, Any]


def ref(n: int) -> Schema:
    """A reference to one of the definitions of `chain`."""
    return {"$ref": f"#/$defs/a{n}"}


def chain(levels: int, level: Callable[[int], Any], last: Any = True) -> Schema:
    """A schema of `levels` definitions, each of which names the next."""
    named = {f"a{n}": level(n) for n in range(levels)}
    return {"$defs": {**named, f"a{levels}": last}, "allOf": [ref(0)]}


def nested(levels: int) -> dict[str, Any]:
    """A nested value."""
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"c": value}
    return value


def both(n: int) -> list[Schema]:
    """The next level, twice."""
    return [ref(n + 1), ref(n + 1)]


AGAIN = {"properties": {"c": {"$ref": "#/$defs/a"}}}
IN_PLACE: dict[str, Schema] = {
    "allOf": chain(40, lambda n: {"allOf": both(n)}),
    "anyOf": chain(30, lambda n: {"anyOf": both(n)}, last=False),
    "oneOf": chain(40, lambda n: {"oneOf": both(n)}),
    "not": chain(40, lambda n: {"not": ref(n + 1), "allOf": [ref(n + 1)]}),
    "if": chain(40, lambda n: {"if": ref(n + 1), "then": ref(n + 1)}),
    "else": chain(40, lambda n: {"if": ref(n + 1), "else": ref(n + 1)}),
    "next to a reference": chain(40, lambda n: {**ref(n + 1), "allOf": [ref(n + 1)]}),
    "dependencies": chain(40, lambda n: {"dependentSchemas": dict.fromkeys("ab", ref(n + 1))}),
    "a circle": chain(0, lambda n: True, last={"allOf": [ref(0), ref(0)]}),
    "a circle of references": {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "unevaluated members": chain(
        24, lambda n: {"allOf": [ref(n + 1)], "unevaluatedProperties": False}
    ),
    "unevaluated items": chain(24, lambda n: {"allOf": [ref(n + 1)], "unevaluatedItems": False}),
    "escaped names": {
        "$defs": {"a/b": {"allOf": [{"$ref": "#/$defs/a~1b"}, {"$ref": "#/$defs/a~1b"}]}},
        "$ref": "#/$defs/a~1b",
    },
    "places": {"allOf": [{"allOf": [{"$ref": "#/allOf/0"}, {"$ref": "#/allOf/0"}]}]},
    "empty names": {
        "$defs": {"": {"x": {"allOf": [{"$ref": "#/$defs//x"}, {"$ref": "#/$defs//x"}]}}, "x": {}},
        "$ref": "#/$defs//x",
    },
}
ALONG: dict[str, tuple[Schema, Any]] = {
    "a tree": (
        {"$defs": {"a": {"allOf": [AGAIN, AGAIN]}}, "$ref": "#/$defs/a"},
        nested(60),
    ),
    "a tree of any members": (
        {"additionalProperties": {"$ref": "#"}, "properties": {"c": {"$ref": "#"}}},
        nested(60),
    ),
    "a tree of patterns": (
        {"patternProperties": {"c": {"$ref": "#"}, ".": {"$ref": "#"}}},
        nested(60),
    ),
    "many values": ({"items": {"type": "integer"}}, list(range(MAX_COST))),
    "values of an enum": (
        {"items": {"enum": [{"a": n} for n in range(300)]}},
        [{"a": 299}] * 300,
    ),
    "names": ({"propertyNames": {"pattern": "^a"}}, dict.fromkeys(map(str, range(MAX_COST)))),
    "long texts": (
        {"items": {"anyOf": [{"pattern": f"(a|b)*{n}$"} for n in range(40)]}},
        ["ab" * 5_000] * 30,
    ),
}
LARGE: dict[str, Schema] = {
    "patterns": {"properties": {f"p{n}": {"pattern": "(a{100}){100}"} for n in range(60)}},
    "patterns of names": {"patternProperties": {f"(a{{100}}){{{n}}}": {} for n in range(60)}},
    "members": {"properties": {f"p{n}": {"type": "string"} for n in range(MAX_COST)}},
    "a long enum": {"enum": list(range(MAX_COST))},
}
ELSEWHERE: dict[str, Schema] = {
    "an anchor": {"$defs": {"a": {"$anchor": "x"}}, "$ref": "#x"},
    "a dynamic one": {"$defs": {"a": {"$dynamicAnchor": "x"}}, "$dynamicRef": "#x"},
    "a recursive one": {"properties": {"a": {"$recursiveRef": "#"}}},
    "a base": {"$defs": {"a": {"$id": "http://x.invalid/a"}}, "$ref": "#/$defs/a"},
    "a base of draft 4": {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "definitions": {"a": {"id": "http://x.invalid/a"}},
    },
    "a file": {"$ref": "other.json#/a"},
    "an escaped path": {"$defs": {"a0": True}, "$ref": "#/$defs/a%30"},
}


@for_each("schema", IN_PLACE.values(), ids=IN_PLACE)
def test_row_a3_a_schema_that_doubles_the_work_is_not_asked(schema: Schema) -> None:
    assert not is_cheap_to_validate(schema, {"a": 1, "b": 2})
    assert repair_arguments('{"a": 1, "b": 2}', schema) == ('{"a": 1, "b": 2}', "")
    assert repair_arguments("{'a': 1, 'b': 2}", schema) == ('{"a":1,"b":2}', "repaired")


@for_each(("schema", "value"), ALONG.values(), ids=ALONG)
def test_row_a3_an_expensive_schema_is_not_used(schema: Schema, value: Any) -> None:
    assert is_compilable(schema)
    assert not is_cheap_to_validate(schema, value)
    assert ToolSchema(schema).fits(value)
    assert is_cheap_to_validate(schema, [])


@pytest.mark.parametrize("schema", LARGE.values(), ids=LARGE)
def test_row_a3_a_schema_that_takes_long_to_compile_is_not_asked(schema: Schema) -> None:
    assert not is_compilable(schema)
    assert ToolSchema(schema).fits({"p0": "no"})


@for_each("schema", ELSEWHERE.values(), ids=ELSEWHERE)
def test_row_a3_only_plain_references_are_followed(schema: Schema) -> None:
    assert not is_compilable(schema)


class Counted(dict[str, Any]):
    """A schema that counts how often a member of it is read."""

    reads = 0

    def get(self, *of: Any) -> Any:
        Counted.reads += 1
        return super().get(*of)


@pytest.mark.parametrize("levels", [12, 40])
def test_row_a3_the_count_itself_ends_at_the_limit(levels: int) -> None:
    Counted.reads = 0
    schema = chain(levels, lambda n: Counted(allOf=both(n)))
    assert not is_cheap_to_validate(schema, {})
    assert Counted.reads <= 10 * MAX_COST


USUAL: dict[str, tuple[Schema, Any]] = {
    "a list of todos": (
        {
            "type": "object",
            "properties": {
                "todos": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "content": {"type": "string", "minLength": 1},
                            "status": {"enum": ["pending", "in_progress", "completed"]},
                        },
                        "required": ["content"],
                        "additionalProperties": False,
                    },
                }
            },
        },
        {"todos": [{"content": "x" * 500, "status": "pending"}] * 200},
    ),
    "a tree": (
        {
            "type": "object",
            "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "name": {}},
        },
        {"left": {"left": {"name": "a"}, "right": {"name": "b"}}, "right": {"name": "c"}},
    ),
    "a file": (
        {"properties": {"path": {"type": "string"}, "text": {"type": "string"}}},
        {"path": "a", "text": "x" * 1_000_000},
    ),
    "definitions": (
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$id": "http://x.invalid/root",
            "definitions": {"id": {"type": "string"}, "a": {"anyOf": [{"type": "null"}, True]}},
            "properties": {"id": {"$ref": "#/definitions/id"}, "a": {"$ref": "#/definitions/a"}},
            "default": {"id": "x"},
        },
        {"id": "x", "a": None},
    ),
}


@pytest.mark.parametrize(("schema", "value"), USUAL.values(), ids=USUAL)
def test_the_usual_schemas_are_asked(schema: Schema, value: Any) -> None:
    asked = ToolSchema(schema)
    assert asked.can_check(value)
    assert asked.fits(value)
    assert not asked.fits([] if "properties" not in schema else {next(iter(value)): 7})


def test_a_schema_is_compiled_once() -> None:
    asked = ToolSchema({"properties": {"a": {"type": "string"}}})
    assert asked.fits({"a": "x"})
    compiled = asked._validator
    assert compiled is not None
    assert not asked.fits({"a": 1})
    assert asked._validator is compiled
