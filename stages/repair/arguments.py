"""Arguments of a tool call, mended where they are no JSON or do not fit the tool's schema.

    arguments                               become                       told as
    -------------------------------------   --------------------------   ---------
    a JSON object that fits                 the same bytes               nothing
    JSON that fits after simple changes     the changed object           coerced
    a JSON object that does not             the same bytes               unfit
    no JSON object, and what it is          the repaired one,            repaired
    repaired to fits, perhaps changed       perhaps changed
    anything else                           the same bytes               broken

Simple changes are those that lose nothing: `"5"` is 5 where the schema allows no text, `"true"`
is true, and an object or a list that stands in a text is what it says; the other way round, 5 is
`"5"` where only a text is allowed.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NoReturn

from stages.translation.shapes import items, mapping, text
from stages.wire import json

How = Literal["", "coerced", "unfit", "repaired", "broken"]

# The library takes seconds for what nests without end, or is much longer.
_MAX_REPAIRED, _MAX_NESTED = 50_000, 1_000
_DEPTH = 20
# What its parser raises where the text is odd, or nests too deep; found by fuzzing.
_FAULTS = (ArithmeticError, AssertionError, LookupError, RecursionError, TypeError, ValueError)
_NO_LETTER = re.compile(r"\\u[0-9a-fA-F]{4}|[\W_]+")


def mended(arguments: str, schema: Any) -> tuple[str, How]:
    """The arguments to give to the client, and how they were come by.

    `schema` is that of the tool; one that cannot be read is not asked.
    """
    if not arguments.strip() or arguments.strip() == "null":
        return arguments, ""
    how: How = "coerced"
    value = _decoded(arguments)
    if isinstance(value, dict) and fits(value, schema):
        return arguments, ""
    if value is None:
        how, value = "repaired", repaired(arguments)
    changed = coerced(value, {"type": "object", **mapping(schema)}, mapping(schema))
    if isinstance(changed, dict) and (changed or how == "coerced") and fits(changed, schema):
        encoded = _encoded(changed)
        if _decoded(encoded) == changed:
            return encoded, how
    return arguments, "unfit" if how == "coerced" and isinstance(value, dict) else "broken"


def repaired(text: str) -> Any:
    """What JSON there is in a text that is none, or is broken; None where words would be lost."""
    if len(text) > _MAX_REPAIRED or text.count("{") + text.count("[") > _MAX_NESTED:
        return None
    import json_repair  # only now: it takes 30 ms, and most calls are not broken

    try:
        value = json_repair.loads(text, skip_json_loads=True)
    except _FAULTS:
        return None
    lost = _letters(text.replace("```json", "")) - _letters(_encoded(value))
    return None if lost > 0 else value


def _letters(text: str) -> int:
    return len(_NO_LETTER.sub("", text))


def is_json(text: str) -> bool:
    """Whether a text, broken as it may be, ends as JSON does: a repair drops other words."""
    return text.rstrip().endswith(("}", "]"))


def fits(value: Any, schema: Any) -> bool:
    """Whether `value` is valid against `schema`."""
    import jsonschema_rs  # only now, as above

    try:
        # Patterns in linear time, and nothing is fetched: clients write these schemas.
        validator = jsonschema_rs.validator_for(
            mapping(schema), pattern_options=jsonschema_rs.RegexOptions(), retriever=_refuse
        )
        return bool(validator.is_valid(value))
    except (ValueError, jsonschema_rs.ReferencingError):
        return True


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not fetched")


def coerced(value: Any, schema: Any, root: dict[str, Any], depth: int = 0) -> Any:
    """`value` with the simple changes that the types in `schema` ask for."""
    schema = _resolved(mapping(schema), root)
    types = _types(schema, root)
    if depth >= _DEPTH:
        return value
    if types:
        value = _as_type(value, types)
    if isinstance(value, dict):
        of = mapping(schema.get("properties"))
        return {k: coerced(v, of.get(k), root, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [coerced(each, schema.get("items"), root, depth + 1) for each in value]
    return value


def _resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference within the same document leads to."""
    reference = text(schema.get("$ref"))
    if not reference.startswith("#"):
        return schema
    found: Any = root
    for name in filter(None, reference[1:].split("/")):
        found = mapping(found).get(name)
    return mapping(found)


def _types(schema: dict[str, Any], root: dict[str, Any]) -> set[str]:
    """The types that a schema names; of alternatives, those of each."""
    named = schema.get("type")
    found = {text(each) for each in (named if isinstance(named, list) else [named])}
    for each in (*items(schema.get("anyOf")), *items(schema.get("oneOf"))):
        found.add(text(_resolved(mapping(each), root).get("type")))
    return found - {""}


def _as_type(value: Any, types: set[str]) -> Any:
    if isinstance(value, str) and "string" not in types:
        lowered = value.strip().lower()
        told = _decoded(lowered if lowered in ("true", "false") else value)
        return told if _type(told) & types and (told is not None or lowered == "null") else value
    if isinstance(value, (int, float)) and types == {"string"}:
        return _encoded(value)
    return value


def _type(value: Any) -> set[str]:
    """What JSON schemas call its type."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"integer", "number"} if value % 1 == 0 else {"number"}
    return {_TYPES[type(value)]}


_TYPES = {bool: "boolean", str: "string", dict: "object", list: "array", type(None): "null"}


def _decoded(arguments: str) -> Any:
    """What the JSON says; None where it is none."""
    try:
        return json.decode_answer(arguments.encode())
    except ValueError:
        return None


def _encoded(value: Any) -> str:
    """As JSON; nothing where it cannot be, as with half a pair of UTF-16."""
    try:
        return json.encode(value).decode()
    except ValueError:
        return ""
