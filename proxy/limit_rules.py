"""Problems of the section `limits` that only the whole config shows."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

from attrs import frozen

from pipeline import Problem
from pipeline.config.document import Path
from pipeline.config.schema import Pipeline
from stages.exchange import Target
from stages.fallback import Fallback
from stages.invoke import Invoke
from stages.limit import Limit
from stages.limits.config import Limits
from stages.limits.section import LimitsSection
from stages.profiles.price import price_on
from stages.resolve import Resolve
from stages.retry import Retry
from stages.shared_store.section import Store

#: Targets that a message names.
_NAMED = 5


@frozen
class _Configured:
    """Limits in the config, and the pattern of the models to which they apply."""

    path: Path
    limits: Limits
    models: str = "*"


def limit_rules(
    sections: Mapping[str, Any], pipelines: tuple[Pipeline, ...]
) -> Iterator[tuple[Path, Problem]]:
    """Yield the problems of limits, each with its path in the config."""
    if not {"server", "backends", "models", "limits", "store"} <= sections.keys():
        return  # they have problems, which are reported
    configured = [each for each in _configured(sections) if each.limits.active]
    yield from _shared(sections["store"])
    if configured:
        yield from _unpriced_budgets(configured, sections, pipelines)
        yield from _unused(pipelines)


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


def _configured(sections: Mapping[str, Any]) -> Iterator[_Configured]:
    section: LimitsSection = sections["limits"]
    for name in ("all", "keys", "sessions", "agents"):
        yield _Configured(("limits", name), getattr(section, name))
    for pattern, limits in section.models.items():
        yield _Configured(("limits", "models", pattern), limits, pattern)
    for name, key in (sections.get("keys") or {}).items():
        yield _Configured(("keys", name, "limits"), key.limits)


def _unpriced(
    sections: Mapping[str, Any], models: str, anyhow: Container[str], today: date
) -> list[str]:
    """The labels of targets without a price of today, to which names of `models` may lead."""
    backends = sections["backends"]
    targets = {
        target.label: Target(target.backend, target.model or name, target.overrides)
        for name, entry in sections["models"].items()
        if _overlap(name, models) or name in anyhow
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
    stages = [stage for pipeline in pipelines for stage in pipeline.stages]
    resolves = [stage for stage in stages if isinstance(stage, Resolve)]
    defaults = {stage.default for stage in resolves if stage.default is not None}
    return defaults.union(rule.to for stage in resolves for rule in stage.rules)


def _overlap(one: str, other: str) -> bool:
    """Whether a name may match both patterns. It may be True without reason."""
    if fnmatch.fnmatchcase(one, other) or fnmatch.fnmatchcase(other, one):
        return True
    first, second = _literal_start(one), _literal_start(other)
    is_pattern = first != one and second != other
    return is_pattern and (first.startswith(second) or second.startswith(first))


def _literal_start(pattern: str) -> str:
    return re.split(r"[*?\[]", pattern, maxsplit=1)[0]
