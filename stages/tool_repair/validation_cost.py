"""What it costs to ask a schema about a value, counted before it is asked.

Clients write schemas, models write values. A schema of 3 kB can take hours: each level that names
the next one twice doubles the work, within one value or along a recursive one. So the subschemas
that would be applied are counted, up to a limit; the count itself takes no longer than that.

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

#: Counting so much takes 8 ms, and what is counted less.
MAX_COST = 5_000
_PATTERN = 100
_CHARACTERS = 1_000
#: Keywords that lead to another subschema by more than a path in the document.
_ELSEWHERE = ("$dynamicRef", "$recursiveRef")
# Whose values are applied to the same value: a subschema, a list of them, an object of them.
_ONE = ("not", "if", "then", "else")
_LISTS = ("allOf", "anyOf", "oneOf")
_NAMED = ("dependentSchemas", "dependencies")
# Whose values are applied to each item, or to each member.
_OF_ITEMS = ("items", "additionalItems", "contains", "unevaluatedItems")
_OF_MEMBERS = ("additionalProperties", "unevaluatedProperties")
_UNEVALUATED = ("unevaluatedItems", "unevaluatedProperties")

Pairs = Iterator[tuple[Any, Any]]


def is_compilable(schema: dict[str, Any]) -> bool:
    """Whether a schema can be compiled, and refers to nothing but paths within it."""
    base = "id" if "draft-04" in as_string(schema.get("$schema")) else "$id"
    pending: list[Any] = [schema]
    effort = 0
    while pending and effort + len(pending) <= MAX_COST:
        each = pending.pop()
        effort += 1
        if isinstance(each, dict):
            if _refers_elsewhere(each, base, is_root=each is schema):
                return False
            effort += _PATTERN * isinstance(each.get("pattern"), str)
            effort += _PATTERN * len(as_object(each.get("patternProperties")))
        inner = each.values() if isinstance(each, dict) else as_array(each)
        pending += islice(inner, MAX_COST)
    return not pending and effort <= MAX_COST


def _refers_elsewhere(schema: dict[str, Any], base: str, is_root: bool) -> bool:
    """Whether it has a reference that is no plain path, or a base for other references."""
    reference = schema.get("$ref")
    if isinstance(reference, str) and ("%" in reference or f"{reference}/"[:2] != "#/"):
        return True
    names = _ELSEWHERE if is_root else (*_ELSEWHERE, base)
    return any(isinstance(schema.get(name), str) for name in names)


def is_cheap_to_validate(schema: dict[str, Any], value: Any) -> bool:
    """Whether a value can be asked about, of a schema that is small."""
    pending: list[tuple[Any, Any]] = [(schema, value)]
    effort = 0
    while pending and effort + len(pending) <= MAX_COST:
        each, part = pending.pop()
        effort += 1
        if not isinstance(each, dict):
            continue
        if isinstance(part, str):
            effort += len(part) // _CHARACTERS
        effort += _enum_cost(each.get("enum"))
        times = 3 if any(name in each for name in _UNEVALUATED) else 1
        pending += list(islice(_in_place_subschemas(each, schema, part), MAX_COST)) * times
        pending += islice(_child_subschemas(each, part), MAX_COST)
    return not pending


def _enum_cost(enum: Any) -> int:
    """The values in an enum: as many as are compared where they are no plain ones."""
    if not any(isinstance(each, (dict, list)) for each in as_array(enum)):
        return 0
    pending, counted = list(enum), 0
    while pending and counted + len(pending) <= MAX_COST:
        each = pending.pop()
        counted += 1
        pending += islice(each.values() if isinstance(each, dict) else as_array(each), MAX_COST)
    return counted + len(pending)


def _in_place_subschemas(schema: dict[str, Any], root: dict[str, Any], value: Any) -> Pairs:
    """The subschemas that are applied to the value itself."""
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
    """The subschemas that are applied to its items, members and names."""
    if isinstance(value, list):
        of_place = [*as_array(schema.get("prefixItems")), *as_array(schema.get("items"))]
        yield from zip(of_place, value, strict=False)
        for name in _OF_ITEMS:
            if isinstance(schema.get(name), dict):
                yield from ((schema[name], each) for each in value)
    elif isinstance(value, dict):
        yield from _member_subschemas(schema, value)


def _member_subschemas(schema: dict[str, Any], value: dict[str, Any]) -> Pairs:
    known = as_object(schema.get("properties"))
    yield from ((known[name], each) for name, each in value.items() if name in known)
    for name in _OF_MEMBERS:
        if isinstance(schema.get(name), dict):
            yield from ((schema[name], each) for each in value.values())
    for each in as_object(schema.get("patternProperties")).values():
        yield from ((each, member) for member in value.values())
    if "propertyNames" in schema:
        yield from ((schema["propertyNames"], name) for name in value)


def resolve_reference(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference within the same document leads to; itself without one."""
    reference = as_string(schema.get("$ref"))
    if not reference.startswith("#"):
        return schema
    found: Any = root
    for name in reference.split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        found = (
            found[int(name)]
            if isinstance(found, list) and _is_index(name, found)
            else (as_object(found).get(name))
        )
    return as_object(found)


def _is_index(name: str, found: list[Any]) -> bool:
    return name.isdecimal() and len(name) < 9 and int(name) < len(found)
