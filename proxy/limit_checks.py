"""Problems of the section `limits` that only the whole config shows."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

from attrs import frozen

from pipeline import Problem
from pipeline.config.document import Path
from pipeline.config.schema import Config, Pipeline
from stages.exchange import Target
from stages.fallback import Fallback
from stages.invoke import Invoke
from stages.limit import Limit
from stages.limits.config import Limits
from stages.limits.section import LimitsSection
from stages.profiles.price import price_on
from stages.resolve import Resolve
from stages.retry import Retry

#: Targets that a message names.
_NAMED = 5


@frozen
class _Configured:
    """Limits in the config, and the pattern of the models to which they apply."""

    path: Path
    limits: Limits
    models: str = "*"


def limit_errors(config: Config) -> Iterator[Problem]:
    """Yield an error for each budget that counts requests to targets without a price.

    Such requests would be free, and the budget would not hold.
    """
    today = datetime.now(UTC).date()
    for each in _configured(config):
        for option in ("cost_per_day", "cost_per_month"):
            if getattr(each.limits, option) is None:
                continue
            if labels := _unpriced(config, each.models, today):
                listed = ", ".join(f"`{label}`" for label in labels[:_NAMED])
                more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
                message = f"`{option}` needs prices, and these targets have none: {listed}{more}"
                hint = (
                    "add `price: {input: …, output: …}` to the backend, or to the model's "
                    "`overrides`; 0 is a price"
                )
                location = config.location_of((*each.path, option))
                yield Problem("price-missing", message, location, hint)


def limit_notes(config: Config) -> Iterator[Problem]:
    """Yield a warning for limits that have no effect, or another one than they seem to have."""
    if not any(each.limits.active for each in _configured(config)):
        return
    limited = False
    for pipeline in config.pipelines:
        places = dict(zip(map(type, pipeline.stages), pipeline.locations, strict=True))
        if Limit in places:
            limited = True
            yield from _misplaced(pipeline, places)
        elif Invoke in places:
            message = f"pipeline `{pipeline.name}` has no `limit`: its requests have no limits"
            yield Problem(
                "limits-unused", message, places[Invoke], "add `limit` after `resolve`", "warning"
            )
    workers = config.sections["server"].workers
    if limited and workers > 1:
        message = (
            f"each of the {workers} workers counts for itself, so clients may use {workers} times "
            "the limits"
        )
        location = config.location_of(("server", "workers"))
        yield Problem("limits-per-worker", message, location, "set `workers: 1`", "warning")


def _misplaced(pipeline: Pipeline, places: dict[Any, Any]) -> Iterator[Problem]:
    kinds = [type(stage) for stage in pipeline.stages]
    for repeating in (Fallback, Retry):
        if repeating in kinds and kinds.index(repeating) < kinds.index(Limit):
            name = repeating.__name__.lower()
            message = f"`limit` is after `{name}`: a request that it repeats counts more than once"
            hint = f"move `limit` before `{name}`"
            yield Problem("limit-repeated", message, places[Limit], hint, "warning")


def _configured(config: Config) -> Iterator[_Configured]:
    section: LimitsSection = config.sections["limits"]
    for name in ("all", "keys", "sessions", "agents"):
        yield _Configured(("limits", name), getattr(section, name))
    for pattern, limits in section.models.items():
        yield _Configured(("limits", "models", pattern), limits, pattern)
    for key, limits in section.key_limits.items():
        yield _Configured(("keys", key, "limits"), limits)


def _unpriced(config: Config, models: str, today: date) -> list[str]:
    """The labels of targets without a price of today, to which names of `models` may lead."""
    backends = config.sections["backends"]
    targets = {
        target.label: Target(target.backend, target.model or name, target.overrides)
        for name, entry in config.sections["models"].items()
        if _overlap(name, models) or name in _by_rule(config)
        for target in entry.targets
        if target.backend in backends
    }
    return [
        label
        for label, target in targets.items()
        if price_on(backends[target.backend].profile_for(target).price, today) is None
    ]


def _by_rule(config: Config) -> set[str]:
    """The entries of `models` to which a rule or a default leads, whatever a model's name is."""
    stages = [stage for pipeline in config.pipelines for stage in pipeline.stages]
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
