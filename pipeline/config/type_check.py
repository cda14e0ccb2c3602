"""Follows event types through a list of stages, and reports where they do not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from attrs import frozen

from pipeline.config.problems import Location, Problem
from pipeline.config.registry import StageClass
from pipeline.stage import signature, types_after


@frozen
class Step:
    """One stage of a list: its name and place in the config, and its class."""

    name: str
    location: Location
    stage: StageClass


def check_chain(
    pipeline: str,
    steps: Sequence[Step],
    start: type,
    end: type,
    location: Location,
    classes: Callable[[], Mapping[str, StageClass]],
) -> Problem | None:
    """Give the first place where `steps` do not lead from `start` to `end` events, or None.

    `classes` loads all stages, for hints. It is called only if a hint needs it.
    """
    carries = frozenset({start})
    for position, step in enumerate(steps):
        after = types_after(carries, signature(step.stage))
        if after is None:
            return _misplaced(pipeline, steps, position, carries, classes)
        carries = after
    if all(issubclass(event, end) for event in carries):
        return None
    return _remaining_at_end(pipeline, steps, carries, end, location, classes)


def _remaining_at_end(
    pipeline: str,
    steps: Sequence[Step],
    carries: frozenset[type],
    end: type,
    location: Location,
    classes: Callable[[], Mapping[str, StageClass]],
) -> Problem:
    remaining = tuple(event for event in carries if not issubclass(event, end))
    message = (
        f"pipeline `{pipeline}` ends with {spell(remaining)}, but must end with {end.__name__}"
    )
    fitting = [name for name, stage in classes().items() if _takes(stage, remaining)]
    names = " or ".join(f"`{name}`" for name in fitting)
    if not steps:
        message, hint = f"pipeline `{pipeline}` has no stages", f"begin with {names}"
        return Problem("chain-end", message, location, hint)
    emitter = ([step for step in steps if _emits(step.stage, remaining)] or steps)[-1]
    hint = f"add {names} after `{emitter.name}`" if names else "add stages that lead to it"
    if _adds(emitter.stage, remaining):
        hint = f"remove `{emitter.name}`: no stage after it accepts {spell(remaining)}"
    for earlier in steps[: steps.index(emitter)]:
        if _takes(earlier.stage, remaining):
            where = f"`{earlier.name}` (line {earlier.location.line})"
            hint = f"move `{emitter.name}` before {where}"
    return Problem("chain-end", message, emitter.location, hint)


def _misplaced(
    pipeline: str,
    steps: Sequence[Step],
    position: int,
    carries: frozenset[type],
    classes: Callable[[], Mapping[str, StageClass]],
) -> Problem:
    step = steps[position]
    accepts = signature(step.stage).accepts
    message = (
        f"stage `{step.name}` accepts {spell(accepts)}, "
        f"but here pipeline `{pipeline}` carries {spell(carries)}"
    )
    hint = _hint(steps, position, accepts, carries, classes)
    return Problem("chain-order", message, step.location, hint)


def _hint(
    steps: Sequence[Step],
    position: int,
    accepts: tuple[type, ...],
    carries: frozenset[type],
    classes: Callable[[], Mapping[str, StageClass]],
) -> str:
    step = steps[position]
    for earlier in steps[:position]:
        if earlier.stage is step.stage:
            return f"remove it: `{step.name}` is already in line {earlier.location.line}"
    for later in steps[position + 1 :]:
        if _emits(later.stage, accepts):
            return f"move `{later.name}` (line {later.location.line}) before `{step.name}`"
    for before in range(position):  # its events were there before this stage
        if _emits(steps[before].stage, accepts):
            return f"move `{step.name}` to just after `{steps[before].name}`"
    stages = classes()
    makers = [name for name, stage in stages.items() if _emits(stage, accepts)]
    fitting = [name for name in makers if types_after(carries, signature(stages[name]))]
    for name in fitting or makers:
        return f"add `{name}` before `{step.name}`"
    return "`llm-proxy stages` shows which events each stage accepts and emits"


def _emits(stage: StageClass, wanted: tuple[type, ...]) -> bool:
    """Whether a stage may emit one of the `wanted` types: also as a subclass or a superclass."""
    types = signature(stage)
    emits = types.emits
    related = any(issubclass(e, wanted) or issubclass(w, e) for e in emits for w in wanted)
    return not types.transparent and related


def _adds(stage: StageClass, remaining: tuple[type, ...]) -> bool:
    """Whether a stage passes its events on, and makes the events `remaining` besides."""
    types = signature(stage)
    passes = set(types.accepts) & set(types.emits)
    return bool(passes) and not any(issubclass(event, types.accepts) for event in remaining)


def _takes(stage: StageClass, remaining: tuple[type, ...]) -> bool:
    """Whether a stage turns the events `remaining` at the end into others."""
    types = signature(stage)
    makes_other = not types.transparent and not _emits(stage, remaining)
    return makes_other and types_after(remaining, types) is not None


def spell(types: Iterable[type]) -> str:
    """Spell event types for people: `A`, or `A or B`."""
    return " or ".join(sorted(event.__name__ for event in types))
