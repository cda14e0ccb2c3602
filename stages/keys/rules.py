"""Problems of the section `keys` that are in more than one entry, or in other sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.config.document import Path
from pipeline.config.problems import Problem, suggest
from pipeline.config.schema import Pipeline
from stages.keys.config import NAME, RESERVED_NAME, Key
from stages.resolve import Resolve
from stages.routing.allowed_models import AllowedModels, is_pattern
from stages.routing.model_names import ModelNames


def key_problems(
    sections: Mapping[str, Any], pipelines: tuple[Pipeline, ...]
) -> Iterator[tuple[Path, Problem]]:
    """Yield the problems of keys, each with its path in the config."""
    keys: Mapping[str, Key] = sections.get("keys") or {}
    names_by_digest: dict[bytes, str] = {}
    for name, key in keys.items():
        path: Path = ("keys", name)
        if not NAME.fullmatch(name) or RESERVED_NAME.fullmatch(name):
            hint = "use 1 to 64 of the characters a-z A-Z 0-9 ._@+-, but not `anonymous` or `key-1`"
            yield path, Problem("bad-key-name", f"`{name}` cannot be the name of a key", hint=hint)
        first = names_by_digest.setdefault(key.digest, name)
        if first != name:
            message = f"`{name}` is the same key as `{first}`"
            hint = "remove one of them: a key has one name"
            yield (*path, "sha256"), Problem("duplicate-key", message, hint=hint)
        if key.expired and not key.disabled:
            message = f"`{name}` has expired: its requests get a 401"
            hint = f"remove it with `llm-proxy keys revoke --delete {name}`, or change `expires`"
            yield (*path, "expires"), Problem("expired-key", message, hint=hint, severity="warning")
    yield from _unknown_models(keys, sections, pipelines)


def _unknown_models(
    keys: Mapping[str, Key], sections: Mapping[str, Any], pipelines: tuple[Pipeline, ...]
) -> Iterator[tuple[Path, Problem]]:
    """Yield a warning for each name or pattern in `models` of a key that allows no model.

    It is not an error. Otherwise a model that is removed from the config would keep the proxy from
    reloading its keys, and a revoked key would still be accepted.
    """
    models = sections.get("models", {})
    stages = [stage for pipeline in pipelines for stage in pipeline.stages]
    if any(isinstance(stage, Resolve) and stage.default is not None for stage in stages):
        return  # each name is served
    served = ModelNames(models)
    patterns = any(map(is_pattern, models))
    for name, key in keys.items():
        for n, model in enumerate(key.models or ()):
            if is_pattern(model):
                useful = patterns or any(map(AllowedModels((model,)).allows, models))
            else:
                useful = served.find(model) is not None
            if not useful:
                message = f"`{name}` may use `{model}`, which is not in `models`"
                hint = suggest(model, models)
                problem = Problem("unknown-model", message, hint=hint, severity="warning")
                yield ("keys", name, "models", n), problem
