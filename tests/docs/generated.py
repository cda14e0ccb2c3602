"""The parts of the pages that are generated from the code.

A part is between `<!-- generated: NAME -->` and `<!-- end generated -->`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import click

from pipeline.config.describe import OptionText, describe_options
from pipeline.config.registry import StageClass
from pipeline.stage import signature
from proxy.cli import main
from proxy.config import SCHEMA, Server
from stages import REGISTRY
from stages.backends.config import ModelTarget, TargetGroup, WeightedTarget
from stages.keys.config import Key
from stages.limits.config import Limits
from stages.limits.section import LimitsSection
from stages.page.recent import RecentExchanges
from stages.profiles import describe as profiles
from stages.profiles.profile import CONNECTION_KEYS, Profile
from stages.recording.section import Recordings
from stages.routing.breaker import Breakers
from stages.shared_store.section import Store
from stages.usage.record import UsageRecord

_PART = re.compile(
    r"(?<=^<!-- generated: )([\w ]+)( -->\n).*?(?=^<!-- end generated -->$)",
    re.DOTALL | re.MULTILINE,
)
_HELP_WIDTH = 100


def regenerated(text: str) -> str:
    """`text` with its generated parts written again."""
    return _PART.sub(lambda part: f"{part[1]}{part[2]}\n{PARTS[part[1]]()}\n\n", text)


def names(text: str) -> list[str]:
    return [part[1] for part in _PART.finditer(text)]


def options(cls: Any, without: Iterable[str] = ()) -> str:
    """A table of the options that `cls` has, except those `without`."""
    return _table(option for option in describe_options(cls) if option.path[0] not in without)


def _table(rows: Iterable[OptionText]) -> str:
    lines = ["| option | type | default | meaning |", "| --- | --- | --- | --- |"]
    for row in rows:
        default = row.default if row.default == "required" else f"`{row.default}`"
        cells = (f"`{'.'.join(row.path)}`", row.kind, default, row.help)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def _names(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values) + "."


def stages() -> str:
    """Each stage: its events, its text, its options."""
    return "\n\n".join(_stage(name, REGISTRY.get(name)) for name in REGISTRY.builtin)


def _stage(name: str, stage: StageClass) -> str:
    events = signature(stage)
    parts = [
        f"## {name}",
        f"{_events(events.accepts)} → {_events(events.emits)}",
        inspect.cleandoc(stage.__doc__ or ""),
    ]
    rows = list(describe_options(stage))
    return "\n\n".join([*parts, _table(rows)] if rows else parts)


def _events(types: Iterable[type]) -> str:
    return " or ".join(f"`{event.__name__}`" for event in types)


def commands() -> str:
    """The help of each command."""
    return "\n\n".join(f"```text\n{text}\n```" for text in _helps())


def _helps() -> Iterator[str]:
    for name, command in _commands(main):
        context = click.Context(
            command,
            info_name=f"llm-proxy {name}",
            terminal_width=_HELP_WIDTH,
            max_content_width=_HELP_WIDTH,
            help_option_names=["-h", "--help"],
        )
        yield command.get_help(context)


def _commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{prefix}{name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{name} ")


PARTS: dict[str, Callable[[], str]] = {
    "server": lambda: options(Server),
    "backends": lambda: options(Profile),
    "connection keys": lambda: _names(sorted(CONNECTION_KEYS)),
    "target": lambda: options(ModelTarget),
    "targets": lambda: options(TargetGroup, without=("targets",)),
    "weighted target": lambda: options(
        WeightedTarget, without=[field.name for field in attrs.fields(ModelTarget)]
    ),
    "circuit_breaker": lambda: options(Breakers),
    "keys": lambda: options(Key, without=["limits"]),
    "usage": lambda: options(UsageRecord),
    "recordings": lambda: options(Recordings),
    "limits": lambda: _table(row for row in describe_options(LimitsSection) if not row.path[1:]),
    "limits of an account": lambda: options(Limits),
    "ui": lambda: options(RecentExchanges),
    "store": lambda: options(Store),
    "reserved": lambda: _names(SCHEMA.reserved),
    "commands": commands,
    "stages": stages,
    "fields": profiles.table,
}
