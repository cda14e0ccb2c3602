"""Problems of a loaded config that are no errors: options that have no effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline import Problem
from pipeline.config.schema import Config
from stages.account import Account
from stages.backends.backend import Backend
from stages.fallback import Fallback
from stages.invoke import Invoke
from stages.queue import Queue
from stages.record import Record
from stages.resolve import Resolve

#: The sections that are of use to one stage only.
_SECTION_STAGES = {"usage": ("account", Account), "recordings": ("record", Record)}


def has_stage(config: Config, kind: type) -> bool:
    """Whether a pipeline has a stage of this class."""
    return any(isinstance(stage, kind) for each in config.pipelines for stage in each.stages)


def unused_options(config: Config, backends: Mapping[str, Backend]) -> Iterator[Problem]:
    """Yield a problem for each option without effect, because a pipeline lacks its stage.

    `backends` are those that models refer to. The problems are no errors: an own stage may use the
    option.
    """
    for section, (name, kind) in _SECTION_STAGES.items():
        if section in config.section_locations and not has_stage(config, kind):
            message = f"no pipeline has the stage `{name}`, so `{section}` has no effect"
            hint = f"add `{name}` to one, or remove `{section}`"
            location = config.section_locations[section]
            yield Problem(f"{section}-without-{name}", message, location, hint, "warning")
    queued = [f"`{k}`" for k, each in backends.items() if each.profile.max_concurrent_calls]
    models = config.sections["models"].items()
    listed = [
        f"`{name}`"
        for name, entry in models
        if len(entry.targets) > 1 and getattr(entry, "strategy", "") == "fallback"
    ]
    for pipeline in config.pipelines:
        places = dict(zip(map(type, pipeline.stages), pipeline.locations, strict=True))
        if Invoke not in places:
            continue
        if queued and Queue not in places:
            names = ", ".join(queued)
            message = (
                f"pipeline `{pipeline.name}` has no `queue`, so `max_concurrent_calls` of {names} "
                "has no effect"
            )
            hint = "add `queue` before `invoke`, or remove `max_concurrent_calls`"
            yield Problem("limit-unused", message, places[Invoke], hint, "note")
        if listed and Fallback not in places and Resolve in places:
            names = ", ".join(listed)
            message = (
                f"pipeline `{pipeline.name}` has no `fallback`: only the first target of {names} "
                "gets requests"
            )
            hint = "add `fallback` after `resolve`"
            yield Problem("targets-unused", message, places[Resolve], hint, "note")
