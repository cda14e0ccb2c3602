"""The chain of a pipeline as a drawing: its stages, and the event types on its arrows."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import attrs
from attrs import frozen

from pipeline.chain import AnyStage
from pipeline.config.describe import in_yaml
from pipeline.config.schema import Pipeline
from pipeline.config.type_check import spell
from pipeline.config.walk import option_fields, secret_part
from pipeline.stage import signature, types_after

_MAX_OPTIONS = 60  # characters
_STARS = "***"


@frozen
class DrawnStage:
    """A stage of a drawing. `options` are those that differ from their defaults, as YAML.

    `after` are the names of the events on the arrow after the stage.
    """

    name: str
    line: int
    summary: str
    options: str
    after: tuple[str, ...]


def drawn_stages(pipeline: Pipeline, start: type) -> Iterator[DrawnStage]:
    """Yield the stages of a pipeline whose first one receives `start`."""
    carries = frozenset({start})
    for name, location, stage in zip(
        pipeline.stage_names, pipeline.locations, pipeline.stages, strict=True
    ):
        carries = types_after(carries, signature(type(stage))) or carries
        after = tuple(sorted(event.__name__ for event in carries))
        yield DrawnStage(name, location.line, _summary(stage), _options(stage), after)


def draw(pipeline: Pipeline, start: type) -> str:
    """Draw a pipeline as text, from the request at the top to the response at the bottom."""
    stages = list(drawn_stages(pipeline, start))
    width = max(len(stage.name) for stage in stages)
    lines = [f"{pipeline.name}: {', '.join(pipeline.routes)}", "", "  client"]
    lines.append(f"  │ {spell([start])}")
    for stage in stages:
        lines.append(f"  {stage.name:<{width}}  {stage.summary}".rstrip())
        lines += [f"  │   {stage.options}"] * bool(stage.options)
        lines.append(f"  │ {' or '.join(stage.after)}")
    return "\n".join([*lines, "  client", ""])


def _summary(stage: AnyStage) -> str:
    """The first sentence of the stage's docstring."""
    first = " ".join(inspect.cleandoc(type(stage).__doc__ or "").partition("\n\n")[0].split())
    return f"{first.partition('. ')[0].removesuffix('.')}." if first else ""


def _options(stage: AnyStage) -> str:
    """The options that are not at their defaults, without secrets."""
    options = {}
    for name, (field, _) in option_fields(type(stage), {}).items():
        value = getattr(stage, field.name)
        if name == field.name and value != _default(field):
            options[name] = _STARS if secret_part(field) else _shown(value)
    text = ", ".join(f"{name}: {value}" for name, value in options.items())
    return text if len(text) <= _MAX_OPTIONS else f"{text[:_MAX_OPTIONS]}…"


def _default(field: attrs.Attribute[Any]) -> Any:
    default: Any = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return None if default.takes_self else default.factory()
    return default


def _shown(value: Any) -> str:
    if attrs.has(type(value)):
        return "{…}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_shown, value))}]"
    return in_yaml(value)
