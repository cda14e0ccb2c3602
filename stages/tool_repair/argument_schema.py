"""Check arguments against a tool's schema, and coerce their types to it."""

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
#: Bytes of one compiled pattern; clients write the patterns.
_MAX_PATTERN = 500_000


@define(eq=False)
class ToolSchema:
    """A schema, compiled once. A schema that is invalid or too expensive accepts everything.

    For the cost see validation_cost.py.
    """

    schema: dict[str, Any] = field(converter=as_object)
    _is_compilable: bool = field(init=False)
    _validator: Any = field(default=None, init=False)

    @_is_compilable.default
    def _measure(self) -> bool:
        return is_compilable(self.schema)

    def can_check(self, value: Any) -> bool:
        """Whether checking `value` is cheap enough."""
        return self._is_compilable and is_cheap_to_validate(self.schema, value)

    def fits(self, value: Any) -> bool:
        """Whether `value` is valid, or cannot be checked."""
        if not self.can_check(value):
            return True
        import jsonschema_rs  # late: it takes 30 ms, and most calls need no check

        try:
            self._validator = self._validator or jsonschema_rs.validator_for(
                self.schema,
                # Patterns in linear time, and no fetching of references.
                pattern_options=jsonschema_rs.RegexOptions(size_limit=_MAX_PATTERN),
                retriever=_refuse,
            )
            return bool(self._validator.is_valid(value))
        except (ValueError, jsonschema_rs.ReferencingError):
            self._is_compilable = False
            return True

    def coerce_types(self, value: Any) -> Any:
        """`value` with simple conversions to the types in the schema; see arguments.py."""
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
        properties = as_object(schema.get("properties"))
        return {k: _coerce(v, properties.get(k), root, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_coerce(item, schema.get("items"), root, depth + 1) for item in value]
    return value


def _types(schema: dict[str, Any], root: dict[str, Any]) -> set[str]:
    """The types that a schema and its alternatives name."""
    named = schema.get("type")
    types = {as_string(name) for name in (named if isinstance(named, list) else [named])}
    for alternative in (*as_array(schema.get("anyOf")), *as_array(schema.get("oneOf"))):
        types.add(as_string(resolve_reference(as_object(alternative), root).get("type")))
    return types - {""}


def _as_type(value: Any, types: set[str]) -> Any:
    if isinstance(value, str) and "string" not in types:
        lowered = value.strip().lower()
        parsed = decode(lowered if lowered in ("true", "false") else value)
        fits = _type(parsed) & types and (parsed is not None or lowered == "null")
        return parsed if fits else value
    if isinstance(value, int) and types == {"string"}:
        return encode(value)
    return value


def _type(value: Any) -> set[str]:
    """The names of the value's type in JSON Schema."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"integer", "number"} if value % 1 == 0 else {"number"}
    return {_TYPES[type(value)]}


_TYPES = {bool: "boolean", str: "string", dict: "object", list: "array", type(None): "null"}


def decode(arguments: str) -> Any:
    """The value of JSON text; None if it is not valid JSON."""
    try:
        return json_codec.decode_lenient(arguments.encode())
    except ValueError:
        return None


def encode(value: Any) -> str:
    """`value` as JSON; empty if it cannot be encoded, as with a lone surrogate."""
    try:
        return json_codec.encode(value).decode()
    except ValueError:
        return ""
