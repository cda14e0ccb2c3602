"""Stages and sections as text for people: their events, and their options in the words of YAML."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import NoneType
from typing import Any, get_args

import attrs
from attrs import frozen
from cattrs.cols import is_mapping

from pipeline.config.registry import StageClass
from pipeline.config.structuring import is_list, is_literal, is_union
from pipeline.config.walk import option_fields
from pipeline.stage import signature

_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_PLURALS = {
    "text": "texts",
    "whole number": "whole numbers",
    "number": "numbers",
    "mapping": "mappings",
}


@frozen
class OptionText:
    """One option for people.

    `path` has the names that lead to it: `("rules", "when", "model")` for an option in an option.
    `kind` is its type, as `list of texts`; `default` is spelled as in YAML, or `required`.
    `renamed_from` is its old name, if it has one.
    """

    path: tuple[str, ...]
    kind: str
    default: str
    help: str
    renamed_from: str = ""

    @property
    def name(self) -> str:
        """The name of the option alone."""
        return self.path[-1]


def describe_options(kind: Any, path: tuple[str, ...] = ()) -> Iterator[OptionText]:
    """Yield the options of a stage or section class; after each one the options in it."""
    for name, (field, option_kind) in option_fields(kind, {}).items():
        if name == field.name:
            where = (*path, name)
            yield OptionText(
                where,
                kind_in_words(option_kind),
                _default(field),
                field.metadata.get("help", ""),
                field.metadata.get("renamed_from", ""),
            )
            yield from describe_options(_inner(option_kind), where)


def describe_stage(name: str, stage: StageClass) -> str:
    """Give a few lines about a stage, for `llm-proxy stages`."""
    events = signature(stage)
    accepts = "anything" if events.accepts == (object,) else _spell(events.accepts)
    emits = "the same" if events.transparent else _spell(events.emits)
    text = inspect.cleandoc(stage.__doc__ or "")
    lines = [f"{name}: {accepts} -> {emits}", *(f"  {line}".rstrip() for line in text.splitlines())]
    for option in describe_options(stage):
        indent = "    " + "  " * (len(option.path) - 1)
        default = option.default if option.default == "required" else f"default: {option.default}"
        text = f": {option.help}" if option.help else ""
        lines.append(f"{indent}{option.name} ({option.kind}; {default}){text}")
    return "\n".join(lines) + "\n"


def kind_in_words(kind: Any) -> str:
    """Give a type in words: `text`, `list of numbers`, `one of a, b`, `mapping`."""
    if is_literal(kind):
        return "one of " + ", ".join(in_yaml(choice) for choice in get_args(kind))
    if is_union(kind):
        members = [member for member in get_args(kind) if member is not NoneType]
        words = " or ".join(dict.fromkeys(map(kind_in_words, members)))
        return f"{words}, or null" if len(members) < len(get_args(kind)) else words
    if is_list(kind):
        item = kind_in_words((*get_args(kind), Any)[0])
        is_choice = item.startswith("one of ")
        return f"list, each {item}" if is_choice else f"list of {_PLURALS.get(item, item)}"
    if kind is Any:
        return "any value"
    if is_mapping(kind):
        value = kind_in_words((*get_args(kind), Any, Any)[1])
        return f"mapping of names to {_PLURALS.get(value, value)}"
    return _WORDS.get(kind, "mapping")


def in_yaml(value: Any) -> str:
    """Give a value in the spelling of YAML, on one line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if attrs.has(type(value)):
        return in_yaml(_changed(value))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {in_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "[" + ", ".join(map(in_yaml, value)) + "]"
    if isinstance(value, float):
        return f"{value:g}" if value < 1e6 else str(int(value))
    return str(value) or '""'


def _changed(options: Any) -> dict[str, Any]:
    """The options that differ from their defaults."""
    return {
        field.name: value
        for field in attrs.fields(type(options))
        if field.init and (value := getattr(options, field.name)) != field.default
    }


def _inner(kind: Any) -> Any:
    """The type of the values in a list or in a mapping, or the type itself."""
    if is_list(kind) or (not is_union(kind) and is_mapping(kind)):
        arguments = [inner for inner in get_args(kind) if inner is not ...]
        return arguments[-1] if arguments else Any
    return kind


def _default(field: attrs.Attribute[Any]) -> str:
    if field.default is attrs.NOTHING:
        return "required"
    if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        factory: Any = field.default
        return "computed" if factory.takes_self else in_yaml(factory.factory())
    return in_yaml(field.default)


def _spell(types: tuple[type, ...]) -> str:
    return " or ".join(event.__name__ for event in types)
