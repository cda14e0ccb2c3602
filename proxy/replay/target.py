"""`--against`: the pipeline whose requests all go to another model or backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click
from attrs import evolve, frozen

from pipeline.chain import Chain
from pipeline.config.problems import suggest
from pipeline.config.schema import Config, Pipeline
from proxy.explain.request import standalone
from stages.backends.backend import Backend
from stages.backends.config import ModelEntry, ModelTarget
from stages.events import HttpRequest
from stages.resolve import Resolve
from stages.routing.model_names import ModelNames

#: Any name matches it, so each request goes to its entry.
_ANY = "*"


@frozen
class Against:
    """The pipeline to replay through, and where its requests go: `model`, or as they ask."""

    pipeline: Pipeline
    name: str = "the config"
    model: str | None = None
    """The model's name in the requests; None: the recorded one."""
    entry: ModelEntry | None = None
    """The targets of all requests; None: those of the config."""

    def backends(self, config: Config) -> Iterator[Backend]:
        """The backends that the requests may go to."""
        entries = [self.entry] if self.entry else config.sections["models"].values()
        names = dict.fromkeys(target.backend for entry in entries for target in entry.targets)
        all_backends = config.sections["backends"]
        return (all_backends[name] for name in names if name in all_backends)


def against(config: Config, pipeline: Pipeline, name: str | None) -> Against:
    """Give the pipeline for `name`: a model of the config, a backend, or BACKEND/MODEL.

    An entry of `models` with exactly this name goes first, then backends, then patterns. A backend
    without a model gets the one that `models` has for it. Raises ClickException.
    """
    pipeline = standalone(pipeline)
    if name is None:
        return Against(pipeline)
    models: Mapping[str, ModelEntry] = config.sections["models"]
    target = None if name in models else _at_backend(config, name)
    if target is not None:
        return Against(_redirected(pipeline, target), target.label, entry=target)
    entry = ModelNames(models).find(name)
    if entry is None:
        names = [*models, *config.sections["backends"]]
        hint = suggest(name, names) or "name a model, a backend, or BACKEND/MODEL"
        message = f"there is no model and no backend `{name}` in {config.file}"
        raise click.ClickException(f"{message}\n  hint: {hint}")
    return Against(_redirected(pipeline, entry), name, name, entry)


def _at_backend(config: Config, name: str) -> ModelTarget | None:
    backend, _, model = name.partition("/")
    if backend not in config.sections["backends"]:
        return None
    targets = (t for entry in config.sections["models"].values() for t in entry.targets)
    configured = (t.model for t in targets if t.backend == backend and t.model)
    return ModelTarget(backend, model or next(configured, None))


def _redirected(pipeline: Pipeline, entry: ModelEntry) -> Pipeline:
    """Send all requests to `entry`, whatever model they name, and whatever the rules say."""
    stages = tuple(
        evolve(stage, models={_ANY: entry}, default=None, rules=())
        if isinstance(stage, Resolve)
        else stage
        for stage in pipeline.stages
    )
    return evolve(pipeline, stages=stages, chain=Chain.of(stages, HttpRequest))
