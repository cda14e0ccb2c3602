"""The sections `backends` and `models` of a declaration."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from attrs import frozen
from cattrs import Converter

from pipeline import option, reference
from pipeline.config.problems import suggest
from pipeline.config.structuring import KindError, describe
from pipeline.stage import OptionError
from stages.backends import embedded
from stages.backends.backend import Backend
from stages.profiles.profile import CONNECTION_KEYS, Overrides, Profile, profiles


@frozen
class ModelTarget:
    """An entry of `models`: the name (or pattern) clients use leads to a backend's model."""

    backend: str = reference("backends", help="an entry of `backends`")
    model: str | None = option(None, help="the model's name there; else the client's")
    overrides: Overrides = option(
        factory=dict, help="keys of the backend's profile that differ for this model"
    )

    @property
    def targets(self) -> tuple[ModelTarget, ...]:
        """Itself alone."""
        return (self,)

    @property
    def label(self) -> str:
        """What the declaration calls it."""
        return f"{self.backend}/{self.model}" if self.model else self.backend


def _check_weight(_: WeightedTarget, __: Any, weight: float) -> None:
    if not weight > 0:
        hint = "leave out the target that is to get no requests"
        raise OptionError("weight", f"`weight` must be > 0: {weight:g}", hint)


@frozen
class WeightedTarget(ModelTarget):
    """One of the targets of a Group."""

    weight: float = option(
        1.0, help="its share of the requests, with `balance`", validator=_check_weight
    )


def _check_targets(group: TargetGroup, _: Any, targets: tuple[WeightedTarget, ...]) -> None:
    if not targets:
        hint = "give it at least one, as `- {backend: …, model: …}`"
        raise OptionError("targets", "`targets` is empty", hint)
    labels = [target.label for target in targets]
    for label in labels:
        if labels.count(label) > 1:
            message = f"`{label}` stands twice in `targets`"
            raise OptionError("targets", message, "remove one of them")
    if group.policy == "fallback" and any(target.weight != 1 for target in targets):
        message = "`weight` means nothing with `policy: fallback`: the first target goes first"
        raise OptionError("targets", message, "write `policy: balance`, or remove it")


def _check_affinity(group: TargetGroup, _: Any, affinity: str | None) -> None:
    if affinity and group.policy == "fallback":
        message = "`affinity` means nothing with `policy: fallback`: the first target goes first"
        raise OptionError("affinity", message, "write `policy: balance`, or remove it")


@frozen
class TargetGroup:
    """An entry of `models` that leads to several targets, each a backend's model."""

    targets: tuple[WeightedTarget, ...] = option(validator=_check_targets)
    policy: Literal["fallback", "balance"] = option(
        "fallback", help="whether the first target goes first, or each has its share"
    )
    affinity: Literal["session", "prefix", "none"] | None = option(
        None,
        help="with `balance`, what keeps requests at one target, whose prefix cache is then warm: "
        "the session (else), the beginning of the conversation, or nothing",
        validator=_check_affinity,
    )


#: An entry of `models`.
ModelEntry = ModelTarget | TargetGroup


def merge_with_shipped(shipped: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """What is `given` over a shipped profile; of `fields`, `body` and `models` each entry."""
    over = {**shipped, **given}
    for key in ("fields", "body", "models"):
        if isinstance(given.get(key), dict):
            over[key] = {**shipped.get(key, {}), **given[key]}
    return over


def _entry(converter: Converter, value: Any, _: Any) -> ModelEntry:
    several = isinstance(value, dict) and "targets" in value
    kind: Any = TargetGroup if several else ModelTarget
    made: ModelEntry = converter.structure(value, kind)
    return made


def _expand_health(given: dict[str, Any]) -> dict[str, Any]:
    """With the path that `health: true` means: the list of models is what each server can tell."""
    health = given.get("health")
    return {**given, "health": "models" if health else ""} if isinstance(health, bool) else given


def register_hooks(converter: Converter) -> None:
    """Teach `converter` the types of these sections."""

    def backend(value: Any, _: Any) -> Backend:
        if not isinstance(value, dict):
            raise KindError("a mapping", value, "give it a profile, as `{profile: ollama}`")
        name = value.get("profile", "generic")
        if not isinstance(name, str) or name not in profiles():
            shown = f"`{name}`" if isinstance(name, str) else describe(name)
            message = f"there is no profile {shown}"
            raise OptionError("profile", message, suggest(str(name), profiles()))
        profile = converter.structure(
            merge_with_shipped(profiles()[name], _expand_health(value)), Profile
        )
        if profile.embedded:
            embedded.check(profile)
        return Backend(profile)

    def overrides(value: Any, _: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise KindError("a mapping", value)
        for key in value:
            if key in CONNECTION_KEYS:
                hint = "declare a second backend instead"
                raise OptionError(key, f"`{key}` cannot differ for one model", hint)
        # Structured with the rest of a profile around them, so that they are checked like it.
        profile = converter.structure({"base_url": "http://checked.invalid", **value}, Profile)
        held = {key: getattr(profile, key) for key in value}
        if "fields" in held:
            held["fields"] = {name: held["fields"][name] for name in value["fields"]}
        return held

    converter.register_structure_hook(Backend, backend)
    converter.register_structure_hook_func(lambda kind: kind is Overrides, overrides)
    converter.register_structure_hook_func(
        lambda kind: kind == ModelEntry, partial(_entry, converter)
    )
