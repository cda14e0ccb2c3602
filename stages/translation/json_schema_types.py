"""One JSON schema whose types are said in another way. The schemas in it are done before."""

from __future__ import annotations

from typing import Any

from stages.chat_completions.json_values import as_array

Schema = dict[str, Any]

_NULL = "null"
# Keywords whose members are alternatives.
_ALTERNATIVES = ("anyOf", "oneOf")


def as_any_of(schema: Schema) -> Schema:
    """`type: [a, b]` as `anyOf`; next to another `anyOf` they hold both, as `allOf`."""
    kinds = schema.get("type")
    if not isinstance(kinds, list):
        return schema
    rest = {key: value for key, value in schema.items() if key != "type"}
    if len(kinds) == 1:
        return {**rest, "type": kinds[0]}
    members = [{"type": kind} for kind in kinds]
    if "anyOf" in rest:
        return {**rest, "allOf": [*as_array(rest.get("allOf")), {"anyOf": members}]}
    return {**rest, "anyOf": members}


def as_nullable(schema: Schema) -> Schema:
    """As Gemini's own schemas have it: one `type`, `nullable`, `enum`, and `anyOf` alone."""
    made = dict(schema)
    if "const" in made:
        made["enum"] = [made.pop("const")]
    if "oneOf" in made:
        made["anyOf"] = [*as_array(made.get("anyOf")), *as_array(made.pop("oneOf"))]
    made = _one_type(made)
    if "anyOf" in made:
        made = _without_null_member(made)
    if isinstance(made.get("enum"), list) and None in made["enum"]:
        made |= {"enum": [each for each in made["enum"] if each is not None], "nullable": True}
    return made


def _one_type(schema: Schema) -> Schema:
    kinds = schema.get("type")
    if not isinstance(kinds, list):
        return schema
    rest = {key: value for key, value in schema.items() if key != "type"}
    if _NULL in kinds:
        rest["nullable"] = True
    named = [kind for kind in kinds if kind != _NULL]
    if len(named) == 1:
        return {**rest, "type": named[0]}
    # Next to other alternatives, which say more, the types are left out.
    return {"anyOf": [{"type": kind} for kind in named], **rest} if named else rest


def _without_null_member(schema: Schema) -> Schema:
    """Without a member that allows only null; a member that is then alone joins the schema."""
    members = as_array(schema["anyOf"])
    named = [each for each in members if not _is_null(each)]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    if len(named) < len(members):
        rest["nullable"] = True
    if len(named) == 1 and isinstance(named[0], dict):
        return {**named[0], **rest}
    return {**rest, "anyOf": named} if named else rest


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == _NULL


def typed_members(schema: Schema) -> Schema:
    """`type` in each of the alternatives, and none next to them."""
    kind = schema.get("type")
    found = [key for key in _ALTERNATIVES if isinstance(schema.get(key), list)]
    if kind is None or not found:
        return schema
    made = {key: value for key, value in schema.items() if key != "type"}
    for key in found:
        made[key] = [
            {"type": kind, **each} if isinstance(each, dict) else each for each in made[key]
        ]
    return made
