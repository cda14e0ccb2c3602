"""JSON schemas as a backend takes them, in tools and as the form of the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from attrs import define, field, frozen

from stages.chat_completions.json_values import as_array, as_object
from stages.messages_api.errors import UnsupportedError
from stages.profiles.profile import Profile
from stages.translation.json_schema_types import as_any_of, as_nullable, typed_members

# Here the members are names of the author's, not keywords.
_NAMED = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
# Here the value is data.
_DATA = ("const", "default", "enum", "examples")
#: Where the schemas are that others refer to.
_DEFINITIONS = ("$defs", "definitions")
#: Schemas that may be made of one by writing out what it refers to.
_MOST = 5_000
#: Levels of JSON in each other below which nothing is written out; models need far fewer.
_DEEPEST = 50
# What alternatives, or parts, of a schema are called.
_COMBINED = ("anyOf", "oneOf", "allOf")


@frozen
class FittedSchema:
    """A schema as the backend takes it; whether it allows what the client's does not."""

    schema: Any
    loosened: bool = False


def fit_schema(schema: Any, profile: Profile) -> FittedSchema:
    """`schema` in the forms that the profile wants. Raises UnsupportedError if it is too deep."""
    try:
        return _fitted(schema, profile)
    except RecursionError as error:
        raise UnsupportedError("a JSON schema is nested too deep: use fewer levels") from error


def _fitted(schema: Any, profile: Profile) -> FittedSchema:
    loosened = False
    if not profile.schema_refs:
        inliner = _Inliner(schema)
        schema, loosened = inliner.written_out(schema), inliner.loosened
    schema = without(schema, frozenset(profile.unsupported_schema_keywords))
    if profile.schema_types != "list":
        form = {"anyOf": as_any_of, "nullable": as_nullable}[profile.schema_types]
        schema = _changed(schema, form)
    if profile.typed_any_of and isinstance(schema, dict):
        schema, flat = _flat_root(schema)
        schema, loosened = _changed(schema, typed_members), loosened or flat
    return FittedSchema(schema, loosened)


def without(schema: Any, keywords: frozenset[str]) -> Any:
    """`schema` without `keywords`, wherever they stand as keywords."""

    def kept(each: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in each.items() if key not in keywords}

    return _changed(schema, kept)


def _changed(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """`schema` with each schema in it changed, the innermost first."""
    if isinstance(schema, list):
        return [_changed(each, change) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return change(_each_within(schema, lambda inner: _changed(inner, change)))


def _each_within(schema: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """`schema` with the schemas directly in it changed."""
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _DATA:
            made[key] = value
        elif key in _NAMED and isinstance(value, dict):
            made[key] = {name: change(each) for name, each in value.items()}
        else:
            made[key] = change(value)
    return made


@define
class _Inliner:
    """Writes what a schema refers to in the place of each `$ref`.

    A schema that holds itself, one of another document, and what is over the limits become a
    schema that allows anything.
    """

    root: Any
    left: int = _MOST
    loosened: bool = False
    _open: list[str] = field(factory=list)
    """What is written out now, one within the other."""
    _depth: int = 0

    def written_out(self, schema: Any) -> Any:
        """`schema` without references."""
        self._depth += 1
        if isinstance(schema, list):
            made: Any = [self.written_out(each) for each in schema]
        else:
            made = self._object(schema) if isinstance(schema, dict) else schema
        self._depth -= 1
        return made

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        self.left -= 1
        held = {key: value for key, value in schema.items() if key not in _DEFINITIONS}
        ref = held.pop("$ref", None)
        rest = _each_within(held, self.written_out)
        if ref is None:
            return rest
        target = self._target(ref)
        if not isinstance(target, dict):
            self.loosened = True
            return rest
        self._open.append(ref)
        made = self._object(target)
        self._open.pop()
        return {**made, **rest}

    def _target(self, ref: Any) -> Any:
        """What `ref` refers to; None where it cannot be written out."""
        known = isinstance(ref, str) and (ref == "#" or ref.startswith("#/"))
        if not known or ref in self._open or self._depth > _DEEPEST or self.left <= 0:
            return None
        target = self.root
        for step in ref.split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            target = target.get(name) if isinstance(target, dict) else None
        return target


def _flat_root(schema: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The root with the properties of all its alternatives: the root itself has to be an object.

    Also whether anything became of it.
    """
    combined = [each for key in _COMBINED for each in as_array(schema.get(key))]
    members = [each for each in combined if isinstance(each, dict)]
    if not members:
        return schema, False
    properties: dict[str, Any] = {}
    for each in (*members, schema):
        properties |= as_object(each.get("properties"))
    rest = {key: value for key, value in schema.items() if key not in _COMBINED}
    return {**rest, "type": "object", "properties": properties}, True


def is_closed(schema: Any) -> bool:
    """Whether each object in `schema` requires all its properties, and allows no other."""
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
