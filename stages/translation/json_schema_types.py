"""Converts the types of one JSON schema. The schemas in it must be converted before."""

from __future__ import annotations

from typing import Any

from stages.chat_completions.json_values import as_array

Schema = dict[str, Any]

_NULL = "null"
# Keywords whose members are alternatives.
_ALTERNATIVES = ("anyOf", "oneOf")


def as_any_of(schema: Schema) -> Schema:
    """Convert `type: [a, b]` to `anyOf`; next to another `anyOf`, to a member of `allOf`."""
    kinds = schema.get("type")
    if not isinstance(kinds, list):
        return schema
    others = {key: value for key, value in schema.items() if key != "type"}
    if len(kinds) == 1:
        return {**others, "type": kinds[0]}
    members = [{"type": kind} for kind in kinds]
    if "anyOf" in others:
        return {**others, "allOf": [*as_array(others.get("allOf")), {"anyOf": members}]}
    return {**others, "anyOf": members}


def as_nullable(schema: Schema) -> Schema:
    """Convert to Gemini's own dialect: one `type`, `nullable`, `enum`, and only `anyOf`."""
    converted = dict(schema)
    if "const" in converted:
        converted["enum"] = [converted.pop("const")]
    if "oneOf" in converted:
        converted["anyOf"] = [*as_array(converted.get("anyOf")), *as_array(converted.pop("oneOf"))]
    converted = _one_type(converted)
    if "anyOf" in converted:
        converted = _without_null_member(converted)
    if isinstance(converted.get("enum"), list) and None in converted["enum"]:
        converted |= {
            "enum": [value for value in converted["enum"] if value is not None],
            "nullable": True,
        }
    return converted


def _one_type(schema: Schema) -> Schema:
    kinds = schema.get("type")
    if not isinstance(kinds, list):
        return schema
    others = {key: value for key, value in schema.items() if key != "type"}
    if _NULL in kinds:
        others["nullable"] = True
    named = [kind for kind in kinds if kind != _NULL]
    if len(named) == 1:
        return {**others, "type": named[0]}
    # Next to other alternatives, which are more specific, drop the types.
    return {"anyOf": [{"type": kind} for kind in named], **others} if named else others


def _without_null_member(schema: Schema) -> Schema:
    """Drop the members that allow only null; merge a single remaining member into the schema."""
    members = as_array(schema["anyOf"])
    named = [value for value in members if not _is_null(value)]
    others = {key: value for key, value in schema.items() if key != "anyOf"}
    if len(named) < len(members):
        others["nullable"] = True
    if len(named) == 1 and isinstance(named[0], dict):
        return {**named[0], **others}
    return {**others, "anyOf": named} if named else others


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == _NULL


def typed_members(schema: Schema) -> Schema:
    """Move `type` from next to the alternatives into each of them."""
    kind = schema.get("type")
    keywords = [key for key in _ALTERNATIVES if isinstance(schema.get(key), list)]
    if kind is None or not keywords:
        return schema
    converted = {key: value for key, value in schema.items() if key != "type"}
    for key in keywords:
        converted[key] = [
            {"type": kind, **inner} if isinstance(inner, dict) else inner
            for inner in converted[key]
        ]
    return converted
