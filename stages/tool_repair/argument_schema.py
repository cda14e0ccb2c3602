"""The schema of a tool: whether arguments fit it, and the simple changes that it asks for."""

from __future__ import annotations

from typing import Any, NoReturn

from attrs import define, field

from stages.chat_completions.json_values import as_array, as_object, as_string
from stages.tool_repair.validation_cost import (
    is_cheap_to_validate,
    is_compilable,
    resolve_reference,
)
from stages.wire import json_codec

_DEPTH = 20
#: Bytes of one compiled pattern; clients write them.
_MAX_PATTERN = 500_000


@define(eq=False)
class ToolSchema:
    """A schema, compiled once. One that cannot be read, or costs too much, is not asked.

    For what it costs see effort.py.
    """

    schema: dict[str, Any] = field(converter=as_object)
    _is_compilable: bool = field(init=False)
    _validator: Any = field(default=None, init=False)

    @_is_compilable.default
    def _measure(self) -> bool:
        return is_compilable(self.schema)

    def can_check(self, value: Any) -> bool:
        """Whether it is asked about `value`."""
        return self._is_compilable and is_cheap_to_validate(self.schema, value)

    def fits(self, value: Any) -> bool:
        """Whether `value` is valid against it, or it is not asked."""
        if not self.can_check(value):
            return True
        import jsonschema_rs  # only now: it takes 30 ms, and most calls are not broken

        try:
            self._validator = self._validator or jsonschema_rs.validator_for(
                self.schema,
                # Patterns in linear time, and nothing is fetched.
                pattern_options=jsonschema_rs.RegexOptions(size_limit=_MAX_PATTERN),
                retriever=_refuse,
            )
            return bool(self._validator.is_valid(value))
        except (ValueError, jsonschema_rs.ReferencingError):
            self._is_compilable = False
            return True

    def coerce_types(self, value: Any) -> Any:
        """`value` with the simple changes that the types in the schema ask for."""
        schema = self.schema if self.can_check(value) else {}
        return _coerce(value, {"type": "object", **schema}, schema)


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not fetched")


def _coerce(value: Any, schema: Any, root: dict[str, Any], depth: int = 0) -> Any:
    schema = resolve_reference(as_object(schema), root)
    types = _types(schema, root)
    if depth >= _DEPTH:
        return value
    if types:
        value = _as_type(value, types)
    if isinstance(value, dict):
        of = as_object(schema.get("properties"))
        return {k: _coerce(v, of.get(k), root, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_coerce(each, schema.get("items"), root, depth + 1) for each in value]
    return value


def _types(schema: dict[str, Any], root: dict[str, Any]) -> set[str]:
    """The types that a schema names; of alternatives, those of each."""
    named = schema.get("type")
    found = {as_string(each) for each in (named if isinstance(named, list) else [named])}
    for each in (*as_array(schema.get("anyOf")), *as_array(schema.get("oneOf"))):
        found.add(as_string(resolve_reference(as_object(each), root).get("type")))
    return found - {""}


def _as_type(value: Any, types: set[str]) -> Any:
    if isinstance(value, str) and "string" not in types:
        lowered = value.strip().lower()
        told = decode(lowered if lowered in ("true", "false") else value)
        return told if _type(told) & types and (told is not None or lowered == "null") else value
    if isinstance(value, int) and types == {"string"}:
        return encode(value)
    return value


def _type(value: Any) -> set[str]:
    """What JSON schemas call its type."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"integer", "number"} if value % 1 == 0 else {"number"}
    return {_TYPES[type(value)]}


_TYPES = {bool: "boolean", str: "string", dict: "object", list: "array", type(None): "null"}


def decode(arguments: str) -> Any:
    """What the JSON says; None where it is none."""
    try:
        return json_codec.decode_answer(arguments.encode())
    except ValueError:
        return None


def encode(value: Any) -> str:
    """As JSON; nothing where it cannot be, as with half a pair of UTF-16."""
    try:
        return json_codec.encode(value).decode()
    except ValueError:
        return ""
