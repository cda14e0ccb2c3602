"""Follows event types through a list of stages, and says where they do not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from attrs import frozen

from pipeline.config.problems import Location, Problem
from pipeline.config.registry import StageClass
from pipeline.stage import signature, types_after


@frozen
class Step:
    """One stage of a list: its name and place in the declaration, and its class."""

    name: str
    location: Location
    stage: StageClass


def check_chain(
    pipeline: str,
    steps: Sequence[Step],
    start: type,
    end: type,
    location: Location,
    known: Callable[[], Mapping[str, StageClass]],
) -> Problem | None:
    """The first place where `steps` do not lead from `start` to `end` events, if there is one.

    `known` gives all stages there are, for hints; it is called only when one is needed.
    """
    carries = frozenset({start})
    for position, step in enumerate(steps):
        after = types_after(carries, signature(step.stage))
        if after is None:
            return _misplaced(pipeline, steps, position, carries, known)
        carries = after
    if all(issubclass(each, end) for each in carries):
        return None
    return _left_over(pipeline, steps, carries, end, location, known)


def _left_over(
    pipeline: str,
    steps: Sequence[Step],
    carries: frozenset[type],
    end: type,
    location: Location,
    known: Callable[[], Mapping[str, StageClass]],
) -> Problem:
    left = tuple(each for each in carries if not issubclass(each, end))
    message = f"pipeline `{pipeline}` ends with {spell(left)}, but has to end with {end.__name__}"
    fitting = [name for name, stage in known().items() if _takes(stage, left)]
    names = " or ".join(f"`{name}`" for name in fitting)
    if not steps:
        message, hint = f"pipeline `{pipeline}` has no stages", f"begin with {names}"
        return Problem("chain-end", message, location, hint)
    emitter = ([step for step in steps if _emits(step.stage, left)] or steps)[-1]
    hint = f"add {names} after `{emitter.name}`" if names else "add stages that lead to it"
    for earlier in steps[: steps.index(emitter)]:
        if _takes(earlier.stage, left):
            where = f"`{earlier.name}` (line {earlier.location.line})"
            hint = f"move `{emitter.name}` before {where}"
    return Problem("chain-end", message, emitter.location, hint)


def _misplaced(
    pipeline: str,
    steps: Sequence[Step],
    position: int,
    carries: frozenset[type],
    known: Callable[[], Mapping[str, StageClass]],
) -> Problem:
    step = steps[position]
    accepts = signature(step.stage).accepts
    message = (
        f"stage `{step.name}` accepts {spell(accepts)}, "
        f"but here pipeline `{pipeline}` carries {spell(carries)}"
    )
    hint = _hint(steps, position, accepts, carries, known)
    return Problem("chain-order", message, step.location, hint)


def _hint(
    steps: Sequence[Step],
    position: int,
    accepts: tuple[type, ...],
    carries: frozenset[type],
    known: Callable[[], Mapping[str, StageClass]],
) -> str:
    step = steps[position]
    for earlier in steps[:position]:
        if earlier.stage is step.stage:
            return f"remove it: `{step.name}` already stands in line {earlier.location.line}"
    for later in steps[position + 1 :]:
        if _emits(later.stage, accepts):
            return f"move `{later.name}` (line {later.location.line}) before `{step.name}`"
    for before in range(position):  # it came too late: what it accepts was there earlier
        if _emits(steps[before].stage, accepts):
            return f"move `{step.name}` to just after `{steps[before].name}`"
    stages = known()
    makers = [name for name, stage in stages.items() if _emits(stage, accepts)]
    fitting = [name for name in makers if types_after(carries, signature(stages[name]))]
    for name in fitting or makers:
        return f"add `{name}` before `{step.name}`"
    return "see `llm-proxy stages` for what each stage accepts and emits"


def _emits(stage: StageClass, wanted: tuple[type, ...]) -> bool:
    """Whether it may: a stage that says less of what it emits may emit each of its kinds."""
    declared = signature(stage)
    emits = declared.emits
    related = any(issubclass(e, wanted) or issubclass(w, e) for e in emits for w in wanted)
    return not declared.transparent and related


def _takes(stage: StageClass, left: tuple[type, ...]) -> bool:
    """Whether it makes something else of what is left."""
    declared = signature(stage)
    makes_other = not declared.transparent and not _emits(stage, left)
    return makes_other and types_after(left, declared) is not None


def spell(types: Iterable[type]) -> str:
    """Event types for people: `A`, or `A or B`."""
    return " or ".join(sorted(each.__name__ for each in types))
