"""The parts of the pages that are generated from the code.

A part is between `<!-- generated: NAME -->` and `<!-- end generated -->`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs
import click

from pipeline.config.describe import describe_stage
from proxy.cli import main
from proxy.config import SCHEMA, Server
from stages import REGISTRY
from stages.backends.config import ModelTarget, TargetGroup, WeightedTarget
from stages.profiles import describe as profiles
from stages.profiles.profile import CONNECTION_KEYS, Overrides, Profile
from stages.routing.breaker import Breakers
from stages.routing.selection import When

_PART = re.compile(
    r"(?<=^<!-- generated: )([\w ]+)( -->\n).*?(?=^<!-- end generated -->$)",
    re.DOTALL | re.MULTILINE,
)
_WORDS: dict[Any, str] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "`true` or `false`",
    type(None): "`null`",
    Overrides: "mapping of options",
    Any: "any value",
}


def regenerated(text: str) -> str:
    """`text` with its generated parts written again."""
    return _PART.sub(lambda part: f"{part[1]}{part[2]}\n{PARTS[part[1]]()}\n\n", text)


def names(text: str) -> list[str]:
    return [part[1] for part in _PART.finditer(text)]


def options(cls: Any, without: tuple[str, ...] = ()) -> str:
    """A table of the options that `cls` has."""
    hints = get_type_hints(cls)
    fields = [
        field
        for field in attrs.fields(cls)
        if "help" in field.metadata and field.name not in without
    ]
    return _table(
        ("option", "type", "default", "meaning"),
        [
            (f"`{each.name}`", in_words(hints[each.name]), _default(each), each.metadata["help"])
            for each in fields
        ],
    )


def in_words(kind: Any) -> str:
    """A type, as people who write YAML say it."""
    arguments = get_args(kind)
    if kind in _WORDS:
        return _WORDS[kind]
    if get_origin(kind) is Literal:
        return ", ".join(f"`{each}`" for each in arguments)
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(in_words, arguments))
    if get_origin(kind) is tuple:
        return f"list of {in_words(arguments[0])}"
    if get_origin(kind) is dict:
        return f"mapping of {in_words(arguments[0])} to {in_words(arguments[1])}"
    return "mapping"


def _default(field: Any) -> str:
    if field.default is attrs.NOTHING:
        return "required"
    if isinstance(field.default, attrs.Factory) or field.default in ("", ()):  # type: ignore[arg-type]
        return "empty"
    if field.default is None or isinstance(field.default, bool):
        return f"`{str(field.default).lower().replace('none', 'null')}`"
    if isinstance(field.default, tuple):
        return ", ".join(f"`{each}`" for each in field.default)
    return f"`{field.default:g}`" if isinstance(field.default, float) else f"`{field.default}`"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def stages() -> str:
    """What `llm-proxy stages` prints, with a heading for each stage."""
    return "\n".join(
        f"## {name}\n\n```text\n{describe_stage(name, REGISTRY.get(name))}```\n"
        for name in REGISTRY.builtin
    ).rstrip("\n")


def commands() -> str:
    """The help of each command."""
    return "\n\n".join(f"```text\n{text}\n```" for text in _helps())


def _helps() -> Iterator[str]:
    for name, command in main.commands.items():
        info = f"llm-proxy {name}"
        context = click.Context(command, info_name=info, terminal_width=100, max_content_width=100)
        yield command.get_help(context)


PARTS: dict[str, Callable[[], str]] = {
    "server": lambda: options(Server),
    "backends": lambda: options(Profile),
    "connection keys": lambda: ", ".join(f"`{key}`" for key in sorted(CONNECTION_KEYS)) + ".",
    "target": lambda: options(ModelTarget),
    "targets": lambda: options(TargetGroup),
    "weighted target": lambda: options(
        WeightedTarget, without=tuple(field.name for field in attrs.fields(ModelTarget))
    ),
    "conditions": lambda: options(When),
    "circuit_breaker": lambda: options(Breakers),
    "reserved": lambda: ", ".join(f"`{route}`" for route in SCHEMA.reserved) + ".",
    "commands": commands,
    "stages": stages,
    "fields": profiles.table,
}
