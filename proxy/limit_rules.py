"""Problems of the section `limits` that only the whole config shows."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

from attrs import fields_dict, frozen

from pipeline import Problem
from pipeline.config.document import Path
from pipeline.config.problems import suggest
from pipeline.config.schema import Pipeline
from stages.exchange import Target
from stages.fallback import Fallback
from stages.invoke import Invoke
from stages.limit import Limit
from stages.limits.config import Limits
from stages.limits.section import LimitsSection
from stages.profiles.price import price_on
from stages.queue import Queue
from stages.resolve import Resolve
from stages.retry import Retry
from stages.shared_store.section import Store

#: Options of `queue` that only the queue of one machine has.
_WARM = ("warm_turns", "warm_seconds", "hold_seconds")
#: Targets that a message names.
_NAMED = 5


@frozen
class _Configured:
    """Limits in the config, and the names or patterns of the models to which they apply."""

    path: Path
    limits: Limits
    models: tuple[str, ...] = ("*",)


def limit_rules(
    sections: Mapping[str, Any], pipelines: tuple[Pipeline, ...]
) -> Iterator[tuple[Path, Problem]]:
    """Yield the problems of limits, each with its path in the config."""
    if not {"server", "backends", "models", "limits", "store"} <= sections.keys():
        return  # they have problems, which are reported
    configured = [each for each in _configured(sections) if each.limits.active]
    yield from _shared(sections["store"])
    yield from _without_effect(sections, pipelines)
    yield from _without_warm_turns(sections, pipelines)
    if configured:
        yield from _unpriced_budgets(configured, sections, pipelines)
        yield from _unused(pipelines)


def _without_effect(
    sections: Mapping[str, Any], pipelines: tuple[Pipeline, ...]
) -> Iterator[tuple[Path, Problem]]:
    """Yield a warning for each option of limits that no request notices."""
    models = sections["models"]
    any_name = any(map(_takes_any_name, pipelines))
    for pattern in () if any_name else sections["limits"].models:
        if not any(_overlap(name, pattern) for name in models):
            message = f"no name in `models` matches `{pattern}`, so its limits have no effect"
            hint = suggest(pattern, models)
            problem = Problem("unknown-model", message, hint=hint, severity="warning")
            yield ("limits", "models", pattern), problem
    for each in _configured(sections):
        if each.limits.concurrency_timeout and each.limits.concurrent_requests is None:
            message = "`concurrency_timeout` has no effect without `concurrent_requests`"
            hint = "add `concurrent_requests`, or remove `concurrency_timeout`"
            problem = Problem("option-unused", message, hint=hint, severity="warning")
            yield (*each.path, "concurrency_timeout"), problem


def _takes_any_name(pipeline: Pipeline) -> bool:
    """Whether names that match no entry of `models` may get to its `limit`."""
    resolves = _resolves((pipeline,))
    if not resolves:  # a stage of one's own may replace it
        return any(isinstance(stage, Limit) for stage in pipeline.stages)
    return any(stage.default is not None or stage.rules for stage in resolves)


def _unpriced_budgets(
    configured: Iterable[_Configured],
    sections: Mapping[str, Any],
    pipelines: tuple[Pipeline, ...],
) -> Iterator[tuple[Path, Problem]]:
    """Yield an error for each budget that counts requests to targets without a price.

    Such requests would be free, and the budget would not hold.
    """
    today = datetime.now(UTC).date()
    anyhow = _by_rule(pipelines)
    for each in configured:
        for option in ("cost_per_day", "cost_per_month"):
            if getattr(each.limits, option) is None:
                continue
            if labels := _unpriced(sections, each.models, anyhow, today):
                listed = ", ".join(f"`{label}`" for label in labels[:_NAMED])
                more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
                message = f"`{option}` needs prices, and these targets have none: {listed}{more}"
                hint = (
                    "add `price: {input: …, output: …}` to the backend, or to the model's "
                    "`overrides`; 0 is a price"
                )
                yield (*each.path, option), Problem("price-missing", message, hint=hint)


def _unused(pipelines: tuple[Pipeline, ...]) -> Iterator[tuple[Path, Problem]]:
    """Yield a warning for each pipeline in which limits have no effect, or count twice."""
    for pipeline in pipelines:
        kinds = [type(stage) for stage in pipeline.stages]
        path: Path = ("pipelines", pipeline.name, "stages")
        if Limit in kinds:
            place = kinds.index(Limit)
            for repeating in (Fallback, Retry):
                if repeating in kinds[:place]:
                    name = repeating.__name__.lower()
                    message = f"`limit` is after `{name}`, so a request counts at each repeat"
                    hint = f"move `limit` before `{name}`"
                    problem = Problem("limit-repeated", message, hint=hint, severity="warning")
                    yield (*path, place), problem
        elif Invoke in kinds:
            message = f"pipeline `{pipeline.name}` has no `limit`: its requests have no limits"
            hint = "add `limit` after `resolve`"
            problem = Problem("limits-unused", message, hint=hint, severity="warning")
            yield (*path, kinds.index(Invoke)), problem


def _shared(store: Store) -> Iterator[tuple[Path, Problem]]:
    """Yield a note about state that is shared."""
    if store.connection:
        message = (
            "limits, slots and circuit breakers are shared with all processes that use "
            f"{store.connection.name}"
        )
        yield ("store",), Problem("limits-shared", message, severity="note")


def _without_warm_turns(
    sections: Mapping[str, Any], pipelines: tuple[Pipeline, ...]
) -> Iterator[tuple[Path, Problem]]:
    """Yield a warning for each option of an order that the store does not have."""
    if sections["store"].connection is None:
        return
    found: list[Path] = []
    for pipeline in pipelines:
        for n, stage in enumerate(pipeline.stages):
            if isinstance(stage, Queue) and stage.warm_turns != 1:
                changed = (o for o in _WARM if getattr(stage, o) != fields_dict(Queue)[o].default)
                found += (("pipelines", pipeline.name, "stages", n, "queue", o) for o in changed)
    for name, backend in sections["backends"].items():
        if backend.queue is not None and backend.profile.swaps_models:
            found.append(("backends", name, "swaps_models"))
    for path in found:
        message = f"`{path[-1]}` has no effect with a store, which has the fair rotation only"
        hint = "remove `store`, or choose the strict order: `warm_turns: 1`, `swaps_models: false`"
        yield path, Problem("option-unused", message, hint=hint, severity="warning")


def _configured(sections: Mapping[str, Any]) -> Iterator[_Configured]:
    section: LimitsSection = sections["limits"]
    for name in ("all", "keys", "sessions", "agents"):
        yield _Configured(("limits", name), getattr(section, name))
    for pattern, limits in section.models.items():
        yield _Configured(("limits", "models", pattern), limits, (pattern,))
    for name, key in (sections.get("keys") or {}).items():
        models = ("*",) if key.models is None else key.models
        yield _Configured(("keys", name, "limits"), key.limits, models)


def _unpriced(
    sections: Mapping[str, Any], models: Iterable[str], anyhow: Container[str], today: date
) -> list[str]:
    """The labels of targets without a price of today, to which names of `models` may lead."""
    backends = sections["backends"]
    targets = {
        target.label: Target(target.backend, target.model or name, target.overrides)
        for name, entry in sections["models"].items()
        if name in anyhow or any(_overlap(name, pattern) for pattern in models)
        for target in entry.targets
        if target.backend in backends
    }
    return [
        label
        for label, target in targets.items()
        if price_on(backends[target.backend].profile_for(target).price, today) is None
    ]


def _by_rule(pipelines: tuple[Pipeline, ...]) -> set[str]:
    """The entries of `models` to which a rule or a default leads, whatever a model's name is."""
    resolves = _resolves(pipelines)
    defaults = {stage.default for stage in resolves if stage.default is not None}
    return defaults.union(rule.to for stage in resolves for rule in stage.rules)


def _resolves(pipelines: tuple[Pipeline, ...]) -> list[Resolve]:
    stages = (stage for pipeline in pipelines for stage in pipeline.stages)
    return [stage for stage in stages if isinstance(stage, Resolve)]


def _overlap(one: str, other: str) -> bool:
    """Whether a name may match both patterns. It may be True without reason."""
    if fnmatch.fnmatchcase(one, other) or fnmatch.fnmatchcase(other, one):
        return True
    first, second = _literal_start(one), _literal_start(other)
    is_pattern = first != one and second != other
    return is_pattern and (first.startswith(second) or second.startswith(first))


def _literal_start(pattern: str) -> str:
    return re.split(r"[*?\[]", pattern, maxsplit=1)[0]
