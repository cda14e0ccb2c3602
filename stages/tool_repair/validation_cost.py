"""Bound the cost of validating a value against a JSON Schema, before it is validated.

Clients write schemas, models write values. A schema of 3 kB can take hours: each level that refers
to the next one twice doubles the work, within one value or along a recursive one. So the applied
subschemas are counted, up to a limit, which also bounds the count itself.

    counted                                                               limits
    -------------------------------------------------------------------   -------------------------
    1 for each value in the schema, 100 for each pattern                  the time to compile it
    1 for each subschema that is applied to a part of the value; those    the time to apply it
    next to `unevaluatedProperties` or `unevaluatedItems` three times;
    1 for each value of an `enum`, and for each 1,000 characters of a
    text
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from stages.chat_completions.json_values import as_array, as_object, as_string

#: Counting this much takes 8 ms, the validation less.
MAX_COST = 5_000
_PATTERN = 100
_CHARACTERS = 1_000
#: Keywords that refer to a subschema by more than a path in the document.
_ELSEWHERE = ("$dynamicRef", "$recursiveRef")
# Keywords whose subschemas apply to the same value: a subschema, a list of them, an object of them.
_ONE = ("not", "if", "then", "else")
_LISTS = ("allOf", "anyOf", "oneOf")
_NAMED = ("dependentSchemas", "dependencies")
# Keywords whose subschema applies to each item, or to each member.
_OF_ITEMS = ("items", "additionalItems", "contains", "unevaluatedItems")
_OF_MEMBERS = ("additionalProperties", "unevaluatedProperties")
_UNEVALUATED = ("unevaluatedItems", "unevaluatedProperties")

Pairs = Iterator[tuple[Any, Any]]


def is_compilable(schema: dict[str, Any]) -> bool:
    """Whether a schema is cheap to compile, and refers only to paths within itself."""
    base = "id" if "draft-04" in as_string(schema.get("$schema")) else "$id"
    pending: list[Any] = [schema]
    cost = 0
    while pending and cost + len(pending) <= MAX_COST:
        subschema = pending.pop()
        cost += 1
        if isinstance(subschema, dict):
            if _refers_elsewhere(subschema, base, is_root=subschema is schema):
                return False
            cost += _PATTERN * isinstance(subschema.get("pattern"), str)
            cost += _PATTERN * len(as_object(subschema.get("patternProperties")))
        inner = subschema.values() if isinstance(subschema, dict) else as_array(subschema)
        pending += islice(inner, MAX_COST)
    return not pending and cost <= MAX_COST


def _refers_elsewhere(schema: dict[str, Any], base: str, is_root: bool) -> bool:
    """Whether a subschema has a reference that is not a plain path, or a base for references."""
    reference = schema.get("$ref")
    if isinstance(reference, str) and ("%" in reference or f"{reference}/"[:2] != "#/"):
        return True
    names = _ELSEWHERE if is_root else (*_ELSEWHERE, base)
    return any(isinstance(schema.get(name), str) for name in names)


def is_cheap_to_validate(schema: dict[str, Any], value: Any) -> bool:
    """Whether validating a value is cheap, for a schema that is compilable."""
    pending: list[tuple[Any, Any]] = [(schema, value)]
    cost = 0
    while pending and cost + len(pending) <= MAX_COST:
        subschema, part = pending.pop()
        cost += 1
        if not isinstance(subschema, dict):
            continue
        if isinstance(part, str):
            cost += len(part) // _CHARACTERS
        cost += _enum_cost(subschema.get("enum"))
        times = 3 if any(name in subschema for name in _UNEVALUATED) else 1
        pending += list(islice(_in_place_subschemas(subschema, schema, part), MAX_COST)) * times
        pending += islice(_child_subschemas(subschema, part), MAX_COST)
    return not pending


def _enum_cost(enum: Any) -> int:
    """The number of values in an enum that has lists or objects; 0 for plain values."""
    if not any(isinstance(each, (dict, list)) for each in as_array(enum)):
        return 0
    pending, counted = list(enum), 0
    while pending and counted + len(pending) <= MAX_COST:
        each = pending.pop()
        counted += 1
        pending += islice(each.values() if isinstance(each, dict) else as_array(each), MAX_COST)
    return counted + len(pending)


def _in_place_subschemas(schema: dict[str, Any], root: dict[str, Any], value: Any) -> Pairs:
    """The subschemas that apply to the value itself."""
    if "$ref" in schema:
        yield resolve_reference(schema, root), value
    for name in _ONE:
        if name in schema:
            yield schema[name], value
    for name in _LISTS:
        for each in as_array(schema.get(name)):
            yield each, value
    for name in _NAMED:
        for each in as_object(schema.get(name)).values():
            yield each, value


def _child_subschemas(schema: dict[str, Any], value: Any) -> Pairs:
    """The subschemas that apply to the items, members and names of the value."""
    if isinstance(value, list):
        of_place = [*as_array(schema.get("prefixItems")), *as_array(schema.get("items"))]
        yield from zip(of_place, value, strict=False)
        for name in _OF_ITEMS:
            if isinstance(schema.get(name), dict):
                yield from ((schema[name], each) for each in value)
    elif isinstance(value, dict):
        yield from _member_subschemas(schema, value)


def _member_subschemas(schema: dict[str, Any], value: dict[str, Any]) -> Pairs:
    properties = as_object(schema.get("properties"))
    yield from ((properties[name], v) for name, v in value.items() if name in properties)
    for name in _OF_MEMBERS:
        if isinstance(schema.get(name), dict):
            yield from ((schema[name], each) for each in value.values())
    for each in as_object(schema.get("patternProperties")).values():
        yield from ((each, member) for member in value.values())
    if "propertyNames" in schema:
        yield from ((schema["propertyNames"], name) for name in value)


def resolve_reference(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The target of a reference within the document; `schema` itself without one."""
    reference = as_string(schema.get("$ref"))
    if not reference.startswith("#"):
        return schema
    target: Any = root
    for name in reference.split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        target = (
            target[int(name)]
            if isinstance(target, list) and _is_index(name, target)
            else (as_object(target).get(name))
        )
    return as_object(target)


def _is_index(name: str, target: list[Any]) -> bool:
    return name.isdecimal() and len(name) < 9 and int(name) < len(target)
