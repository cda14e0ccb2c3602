"""Fits JSON schemas, of tools and of structured output, to the dialect of a backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from attrs import define, field, frozen

from stages.chat_completions.json_values import as_array, as_object
from stages.messages_api.errors import UnsupportedError
from stages.profiles.profile import Profile
from stages.translation.json_schema_types import as_any_of, as_nullable, typed_members

# Keywords whose members are names chosen by the author, not keywords.
_NAMED = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
# Keywords whose value is data, not a schema.
_DATA = ("const", "default", "enum", "examples")
#: Keywords of schemas that `$ref` refers to.
_DEFINITIONS = ("$defs", "definitions")
#: At most this many schemas are made of one by inlining its references.
_MAX_SCHEMAS = 5_000
#: References are inlined down to this level of nested JSON. Models need far fewer levels.
_MAX_DEPTH = 50
# Keywords of the alternatives, or parts, of a schema.
_COMBINED = ("anyOf", "oneOf", "allOf")


@frozen
class FittedSchema:
    """A schema for the backend. `loosened`: it allows values that the client's schema forbids."""

    schema: Any
    loosened: bool = False


def fit_schema(schema: Any, profile: Profile) -> FittedSchema:
    """Convert `schema` to the profile's dialect. Raises UnsupportedError if it is too deep."""
    try:
        return _fit(schema, profile)
    except RecursionError as error:
        raise UnsupportedError("a JSON schema is nested too deep: use fewer levels") from error


def _fit(schema: Any, profile: Profile) -> FittedSchema:
    loosened = False
    if not profile.schema_refs:
        inliner = _Inliner(schema)
        schema, loosened = inliner.inline(schema), inliner.loosened
    schema = without(schema, frozenset(profile.unsupported_schema_keywords))
    if profile.schema_types != "list":
        convert = {"anyOf": as_any_of, "nullable": as_nullable}[profile.schema_types]
        schema = _map_schemas(schema, convert)
    if profile.typed_any_of and isinstance(schema, dict):
        schema, flattened = _flatten_root(schema)
        schema, loosened = _map_schemas(schema, typed_members), loosened or flattened
    return FittedSchema(schema, loosened)


def without(schema: Any, keywords: frozenset[str]) -> Any:
    """Remove `keywords` from `schema` and all schemas in it, but not from names and data."""

    def remove(inner: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in inner.items() if key not in keywords}

    return _map_schemas(schema, remove)


def _map_schemas(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Apply `change` to each schema in `schema`, the innermost first."""
    if isinstance(schema, list):
        return [_map_schemas(item, change) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return change(_map_members(schema, lambda inner: _map_schemas(inner, change)))


def _map_members(schema: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Apply `change` to the schemas directly in `schema`."""
    changed: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _DATA:
            changed[key] = value
        elif key in _NAMED and isinstance(value, dict):
            changed[key] = {name: change(inner) for name, inner in value.items()}
        else:
            changed[key] = change(value)
    return changed


@define
class _Inliner:
    """Replaces each `$ref` by the schema it refers to.

    A recursive reference, a reference to another document, and a schema above the limits become a
    schema that allows any value.
    """

    root: Any
    budget: int = _MAX_SCHEMAS
    loosened: bool = False
    _open: list[str] = field(factory=list)
    """The references that are being inlined, outermost first."""
    _depth: int = 0

    def inline(self, schema: Any) -> Any:
        """Return `schema` without references."""
        self._depth += 1
        if isinstance(schema, list):
            inlined: Any = [self.inline(item) for item in schema]
        else:
            inlined = self._object(schema) if isinstance(schema, dict) else schema
        self._depth -= 1
        return inlined

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        self.budget -= 1
        members = {key: value for key, value in schema.items() if key not in _DEFINITIONS}
        ref = members.pop("$ref", None)
        siblings = _map_members(members, self.inline)
        if ref is None:
            return siblings
        target = self._target(ref)
        if not isinstance(target, dict):
            self.loosened = True
            return siblings
        self._open.append(ref)
        inlined = self._object(target)
        self._open.pop()
        return {**inlined, **siblings}

    def _target(self, ref: Any) -> Any:
        """Return the schema that `ref` refers to; None if it cannot be inlined."""
        is_local = isinstance(ref, str) and (ref == "#" or ref.startswith("#/"))
        if not is_local or ref in self._open or self._depth > _MAX_DEPTH or self.budget <= 0:
            return None
        target = self.root
        for step in ref.split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            target = target.get(name) if isinstance(target, dict) else None
        return target


def _flatten_root(schema: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Merge the properties of the root's alternatives into the root, which must be an object.

    Also returns whether the schema changed.
    """
    combined = [inner for key in _COMBINED for inner in as_array(schema.get(key))]
    alternatives = [inner for inner in combined if isinstance(inner, dict)]
    if not alternatives:
        return schema, False
    properties: dict[str, Any] = {}
    for inner in (*alternatives, schema):
        properties |= as_object(inner.get("properties"))
    others = {key: value for key, value in schema.items() if key not in _COMBINED}
    return {**others, "type": "object", "properties": properties}, True


def is_closed(schema: Any) -> bool:
    """Whether each object in `schema` requires all its properties, and allows no others."""
    if isinstance(schema, list):
        return all(map(is_closed, schema))
    if not isinstance(schema, dict):
        return True
    names, listed = schema.get("properties"), as_array(schema.get("required"))
    required = {name for name in listed if isinstance(name, str)}
    if isinstance(names, dict) or schema.get("type") == "object":
        optional = any(name not in required for name in as_object(names))
        if optional or schema.get("additionalProperties") is not False:
            return False
    inner = (
        list(value.values()) if key in _NAMED and isinstance(value, dict) else value
        for key, value in schema.items()
        if key not in _DATA
    )
    return all(map(is_closed, inner))
