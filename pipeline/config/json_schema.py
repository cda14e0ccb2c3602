"""A JSON Schema (draft 2020-12) of a config file, for editors.

It describes the shape of a file: names, types, bounds and choices. It accepts each file that
`check` accepts. `check` finds more: wrong orders of stages, references to nothing, options that
exclude each other.

A scalar may be a text with `${VAR}`, which may be a number. JSON Schema does not see quotes, so
it accepts a quoted variable for a number; `check` does not.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import NoneType
from typing import Any, get_args

import attrs
from attrs import Factory, define, validators
from cattrs.cols import is_mapping

from pipeline.config.pipelines import ROUTE
from pipeline.config.registry import Registry, StageClass, UnknownStageError
from pipeline.config.schema import JsonSchema, Schema
from pipeline.config.structuring import is_list, is_literal, is_union
from pipeline.config.walk import option_fields

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TEXT: JsonSchema = {"type": "string"}
_NULL: JsonSchema = {"type": "null"}
_VARIABLE: JsonSchema = {"$ref": "#/$defs/variable"}
_DEFINITIONS: JsonSchema = {
    "variable": {
        "description": "a text with an environment variable, as ${NAME} or ${NAME:-default}, or "
        "with the content of a file, as ${file:/run/secrets/name}",
        "type": "string",
        "pattern": r"\$\{",
    },
    "route": {
        "description": "a method and a path, as `POST /v1/messages` or `GET /v1/models/{id:path}`",
        "anyOf": [{"type": "string", "pattern": f"^{ROUTE.pattern}$"}, _VARIABLE],
    },
}
_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}
_BOUNDS = {
    ">=": "minimum",
    ">": "exclusiveMinimum",
    "<=": "maximum",
    "<": "exclusiveMaximum",
}
# attrs gives its classes no public names.
_MIN_LEN: Any = type(validators.min_len(1))
_OPTIONAL: Any = type(validators.optional(validators.min_len(1)))
_AND: Any = type(validators.and_())


def json_schema(
    schema: Schema, entries: Mapping[str, Collection[str]], own_stages: Collection[str] = ()
) -> JsonSchema:
    """Give the JSON Schema of a config.

    `entries` are the names in sections that options may refer to; a reference to a section
    that `entries` does not have may be any text. `own_stages` are import paths of stages whose
    options to describe. Those that cannot be loaded, and all others, may have any options.
    """
    writer = _Writer(schema, entries)
    sections = {name: writer.section(kind) for name, kind in schema.sections.items()}
    for name, section in schema.section_files.items():
        sections[name] = {"description": f"a file with more entries of `{section}`", **_TEXT}
    sections["pipelines"] = writer.pipelines(own_stages)
    return {
        "$schema": DIALECT,
        "title": "the config of llm-proxy",
        "type": "object",
        "properties": sections,
        "required": ["pipelines"],
        "additionalProperties": False,
        "$defs": writer.definitions,
    }


@define
class _Writer:
    """Writes schemas of types. Those of classes and stages go to `definitions`."""

    schema: Schema
    entries: Mapping[str, Collection[str]]
    definitions: JsonSchema = Factory(lambda: dict(_DEFINITIONS))
    _names: dict[Any, str] = Factory(dict)

    def section(self, kind: Any) -> JsonSchema:
        """A section may also be empty."""
        return {"anyOf": [self._of(kind), _NULL]}

    def pipelines(self, own_stages: Collection[str]) -> JsonSchema:
        """The section `pipelines`."""
        route = {"$ref": "#/$defs/route"}
        several = {"type": "array", "items": route, "minItems": 1}
        pipeline = {
            "type": "object",
            "properties": {
                "route": {"description": "one route, or a list", "anyOf": [route, several]},
                "stages": {
                    "description": "the stages of each request, in their order",
                    "type": "array",
                    "items": self._stage(own_stages),
                    "minItems": 1,
                },
            },
            "required": ["route", "stages"],
            "additionalProperties": False,
        }
        return {
            "description": "by name: a route and its stages",
            "type": "object",
            "additionalProperties": pipeline,
            "minProperties": 1,
        }

    def _stage(self, own_stages: Collection[str]) -> JsonSchema:
        """An item of `stages`: a name, or a mapping of a name to its options."""
        names: list[JsonSchema] = []
        options: JsonSchema = {}
        for name, cls in _classes(self.schema.registry, own_stages):
            described = {"description": _summary(cls)}
            definition = self.definitions[name] = {**self._object(cls), **described}
            options[name] = {**described, "$ref": f"#/$defs/{name}"}
            if "required" not in definition:
                names.append({"const": name, **described})
                options[name] = {**described, "anyOf": [{"$ref": f"#/$defs/{name}"}, _NULL]}
        described_paths = "|".join(own_stages).replace(".", r"\.")
        own = f"^(?!(?:{described_paths})$)[^:]+:.+$"
        by_path = {"description": "your own stage, by import path", "type": "string"}
        return {
            "anyOf": [
                *names,
                {**by_path, "pattern": own},
                _VARIABLE,
                {
                    "type": "object",
                    "properties": options,
                    "patternProperties": {own: {"type": ["object", "null"]}},
                    "additionalProperties": False,
                    "minProperties": 1,
                    "maxProperties": 1,
                },
            ]
        }

    def _of(self, kind: Any, text: JsonSchema = _TEXT) -> JsonSchema:
        """Give the schema of a type. `text` is that of its texts."""
        cls = self.schema.option_classes.get(kind, kind)
        if isinstance(cls, type) and attrs.has(cls):
            return self._defined(kind, cls)
        refine = self.schema.json_schemas.get(kind)
        return refine(self._plain(kind, text)) if refine else self._plain(kind, text)

    def _plain(self, kind: Any, text: JsonSchema) -> JsonSchema:
        if is_literal(kind):
            return {"anyOf": [{"enum": list(get_args(kind))}, _VARIABLE]}
        if is_union(kind):
            members = [self._of(member, text) for member in get_args(kind)]
            inner = [one for member in members for one in member.get("anyOf", [member])]
            return {"anyOf": [*(one for one in inner if one != _NULL), *[_NULL] * (_NULL in inner)]}
        if is_list(kind):
            return {"type": "array", "items": self._of((*get_args(kind), Any)[0], text)}
        if is_mapping(kind):
            value = (*get_args(kind), Any, Any)[1]
            return {"type": "object", "additionalProperties": self._of(value, text)}
        if kind is NoneType:
            return _NULL
        if kind is str:
            return text
        if kind in _SCALARS:
            return {"anyOf": [{"type": _SCALARS[kind]}, _VARIABLE]}
        return {}

    def _defined(self, kind: Any, cls: type) -> JsonSchema:
        """Refer to the definition of a class, and write it at the first use."""
        if kind not in self._names:
            name = self._names[kind] = kind.__name__
            if name in self.definitions:
                name = self._names[kind] = f"{kind.__module__}.{name}"
            self.definitions[name] = {}  # a class may contain itself
            refine = self.schema.json_schemas.get(kind, dict)
            self.definitions[name] = refine(self._object(cls))
        return {"$ref": f"#/$defs/{self._names[kind]}"}

    def _object(self, cls: type) -> JsonSchema:
        options = option_fields(cls, {})
        properties: JsonSchema = {}
        for name, (field, kind) in options.items():
            properties[name] = self._option(field, kind)
            if name != field.name:
                properties[name] |= {
                    "description": f"now called `{field.name}`",
                    "deprecated": True,
                    "doNotSuggest": True,  # of the YAML language server
                }
        required = [k for k, (f, _) in options.items() if f.default is attrs.NOTHING]
        whole = {"type": "object", "properties": properties, "additionalProperties": False}
        return {**whole, "required": required} if required else whole

    def _option(self, field: attrs.Attribute[Any], kind: Any) -> JsonSchema:
        names = self.entries.get(field.metadata.get("reference", ""))
        checks = field.metadata.get("validators", ())
        text = _text(checks) if names is None else {"anyOf": [{"enum": sorted(names)}, _VARIABLE]}
        option = {**self._of(kind, text), **dict(_bounds(checks))}
        if description := field.metadata.get("help"):
            option["description"] = description
        return {**option, **_default(field)}


def _classes(registry: Registry, own_stages: Collection[str]) -> Iterator[tuple[str, StageClass]]:
    yield from registry.classes().items()
    for name in own_stages:
        yield name, registry.get(name)


def loadable(registry: Registry, names: Iterable[str]) -> list[str]:
    """Give the import paths among `names` whose stages can be loaded."""
    result = []
    for name in dict.fromkeys(names):
        try:
            registry.get(name)
        except UnknownStageError:
            continue
        result.append(name)
    return result


def _text(checks: Iterable[Any]) -> JsonSchema:
    """The schema of a text that has these validators: see `text_pattern`."""
    patterns = [check.text_pattern for check in checks if hasattr(check, "text_pattern")]
    with_variable = "|".join([*(f"^(?:{pattern})$" for pattern in patterns), r"\$\{"])
    return {**_TEXT, "pattern": with_variable} if patterns else _TEXT


def _bounds(checks: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the keywords for attrs' own validators.

    A keyword counts only for values of its type, so null and variables need no exception.
    """
    for validator in checks:
        if (compared := getattr(validator, "compare_op", None)) in _BOUNDS:
            yield _BOUNDS[compared], validator.bound
        elif isinstance(validator, _MIN_LEN):
            yield from dict.fromkeys(("minLength", "minItems"), validator.min_length).items()
        elif isinstance(validator, _OPTIONAL):
            yield from _bounds([validator.validator])
        elif isinstance(validator, _AND):
            yield from _bounds(validator._validators)


def _default(field: attrs.Attribute[Any]) -> JsonSchema:
    """The default, if it is not computed."""
    value: Any = field.default
    if isinstance(value, attrs.Factory):  # type: ignore[arg-type]
        value = attrs.NOTHING if value.takes_self else value.factory()
    if isinstance(value, (tuple, set, frozenset)):
        value = list(value)
    is_json = value is None or isinstance(value, (str, int, float, list, dict))
    return {"default": value} if is_json else {}


def _summary(cls: type) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].split())
