"""What the JSON Schema of `backends` and `models` needs besides the types of their options.

It follows the hooks in `stages.backends.config`, which read these sections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.config.schema import JsonSchema
from pipeline.config.walk import option_fields
from stages.backends.backend import Backend
from stages.backends.config import ModelEntry, TargetGroup, WeightedTarget
from stages.profiles.checks import HEADER_NAME, SET_BY_TRANSLATION
from stages.profiles.policies import SUPPORTED
from stages.profiles.price import Price
from stages.profiles.profile import CONNECTION_KEYS, Overrides, Profile, profiles

_VARIABLE: JsonSchema = {"$ref": "#/$defs/variable"}


def _backend(schema: JsonSchema) -> JsonSchema:
    """Keys of a profile, over those of the shipped `profile`, which may have the `base_url`."""
    shipped = profiles()
    with_url = [name for name in shipped if "base_url" in shipped[name]]
    by_name = {"anyOf": [{"enum": list(shipped)}, _VARIABLE]}
    keys = _keys(schema)
    keys["profile"] |= by_name
    del keys["profile"]["type"]
    keys["health"]["type"] = ["string", "boolean"]
    names_one = {"properties": {"profile": {"anyOf": [{"enum": with_url}, _VARIABLE]}}}
    return {
        **schema,
        "properties": keys,
        "required": [],
        "if": {**names_one, "required": ["profile"]},
        "else": {"required": ["base_url"]},
    }


def _overrides(schema: JsonSchema) -> JsonSchema:
    """Keys of a profile for one model: none is required, and none is of the connection."""
    options = option_fields(Profile, {})  # by name, old names included
    of_model = {k for k, (field, _) in options.items() if field.name not in CONNECTION_KEYS}
    keys = {name: key for name, key in _keys(schema).items() if name in of_model}
    for key in keys.values():
        key.pop("default", None)  # it is the backend's
    return {**schema, "properties": keys, "required": []}


def _keys(schema: JsonSchema) -> JsonSchema:
    """The keys of a profile, with a default only if it is the same in each shipped profile."""
    keys: JsonSchema = {name: dict(key) for name, key in schema["properties"].items()}
    keys["fields"]["propertyNames"] = {"enum": list(SUPPORTED)}
    keys["headers"]["propertyNames"] = {"pattern": f"^{HEADER_NAME.pattern}$"}
    keys["body"]["propertyNames"] = {"not": {"enum": list(SET_BY_TRANSLATION)}}
    for profile in profiles().values():
        for name in profile:
            keys[name].pop("default", None)
    return keys


def _entry(_: JsonSchema) -> JsonSchema:
    """An entry of `models`, which has `targets` or is a target."""
    return {
        "if": {"type": "object", "required": ["targets"]},
        "then": {"$ref": "#/$defs/TargetGroup"},
        "else": {"$ref": "#/$defs/ModelTarget"},
    }


def _group(schema: JsonSchema) -> JsonSchema:
    schema["properties"]["targets"]["minItems"] = 1
    return schema


def _weighted(schema: JsonSchema) -> JsonSchema:
    schema["properties"]["weight"]["exclusiveMinimum"] = 0
    return schema


def _price(schema: JsonSchema) -> JsonSchema:
    """A price has at least one amount."""

    def is_set(name: str) -> JsonSchema:
        return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}

    amounts = [name for name in schema["properties"] if name != "since"]
    return {**schema, "anyOf": [is_set(name) for name in amounts]}


def _prices(schema: JsonSchema) -> JsonSchema:
    """One price, or a list of prices."""
    return {"anyOf": [schema["items"], schema]}


JSON_SCHEMAS: Mapping[Any, Callable[[JsonSchema], JsonSchema]] = {
    Backend: _backend,
    Price: _price,
    tuple[Price, ...]: _prices,
    Overrides: _overrides,
    ModelEntry: _entry,
    TargetGroup: _group,
    WeightedTarget: _weighted,
}
