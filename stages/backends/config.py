"""The sections `backends` and `models` of the config."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from attrs import frozen
from cattrs import Converter

from pipeline import option, reference
from pipeline.config.options import OptionError
from pipeline.config.problems import suggest
from pipeline.config.structuring import KindError, describe, option_names
from stages.backends import embedded
from stages.backends.backend import Backend
from stages.profiles.price import Price
from stages.profiles.profile import CONNECTION_KEYS, Overrides, Profile, profiles


@frozen
class ModelTarget:
    """An entry of `models`: a backend's model, for a name or pattern that clients use."""

    backend: str = reference("backends", help="an entry of `backends`")
    model: str | None = option(
        None, help="the model's name at the backend; default: the name the client used"
    )
    overrides: Overrides = option(
        factory=dict, help="keys of the backend's profile with another value for this model"
    )

    @property
    def targets(self) -> tuple[ModelTarget, ...]:
        """Only this target."""
        return (self,)

    @property
    def label(self) -> str:
        """The target's name in messages and metrics."""
        return f"{self.backend}/{self.model}" if self.model else self.backend


def _check_weight(_: WeightedTarget, __: Any, weight: float) -> None:
    if not weight > 0:
        hint = "remove a target that should get no requests"
        raise OptionError("weight", f"`weight` must be > 0: {weight:g}", hint)


@frozen
class WeightedTarget(ModelTarget):
    """One of the targets of a TargetGroup."""

    weight: float = option(
        1.0, help="its share of the requests, with `strategy: balance`", validator=_check_weight
    )


def _check_targets(group: TargetGroup, _: Any, targets: tuple[WeightedTarget, ...]) -> None:
    if not targets:
        hint = "give it at least one, as `- {backend: …, model: …}`"
        raise OptionError("targets", "`targets` is empty", hint)
    labels = [target.label for target in targets]
    for label in labels:
        if labels.count(label) > 1:
            message = f"`{label}` is twice in `targets`"
            raise OptionError("targets", message, "remove one of them")
    if group.strategy == "fallback" and any(target.weight != 1 for target in targets):
        message = "`weight` means nothing with `strategy: fallback`: the first target goes first"
        raise OptionError("targets", message, "write `strategy: balance`, or remove it")


def _check_affinity(group: TargetGroup, _: Any, affinity: str | None) -> None:
    if affinity and group.strategy == "fallback":
        message = "`affinity` means nothing with `strategy: fallback`: the first target goes first"
        raise OptionError("affinity", message, "write `strategy: balance`, or remove it")


@frozen
class TargetGroup:
    """An entry of `models` with several targets, each a backend's model."""

    targets: tuple[WeightedTarget, ...] = option(
        help="each a backend's model", validator=_check_targets
    )
    strategy: Literal["fallback", "balance"] = option(
        "fallback",
        renamed_from="policy",
        help="fallback: requests go to the first target; balance: each target gets its share",
    )
    affinity: Literal["session", "prefix", "none"] | None = option(
        None,
        help="with `strategy: balance`, requests with the same session, or with the same beginning "
        "of the conversation, go to one target, whose prefix cache is warm; default: session",
        validator=_check_affinity,
    )


_GROUP_OPTIONS = frozenset(option_names(TargetGroup))

#: An entry of `models`.
ModelEntry = ModelTarget | TargetGroup


def merge_with_shipped(shipped: dict[str, Any], configured: dict[str, Any]) -> dict[str, Any]:
    """Merge configured keys over a shipped profile; `fields`, `body`, `models` by entry."""
    merged = {**shipped, **configured}
    for key in ("fields", "body", "models"):
        if isinstance(configured.get(key), dict):
            merged[key] = {**shipped.get(key, {}), **configured[key]}
    return merged


def _entry(converter: Converter, value: Any, _: Any) -> ModelEntry:
    keys = value if isinstance(value, dict) else {}
    several = "targets" in keys or ("backend" not in keys and not _GROUP_OPTIONS.isdisjoint(keys))
    kind: Any = TargetGroup if several else ModelTarget
    entry: ModelEntry = converter.structure(value, kind)
    return entry


def _prices(converter: Converter, value: Any, _: Any) -> tuple[Price, ...]:
    """One price, or a list of prices."""
    if isinstance(value, list):
        return tuple(converter.structure(value, list[Price]))
    return (converter.structure(value, Price),)


def _expand_health(configured: dict[str, Any]) -> dict[str, Any]:
    """Replace `health: true` by a path: each server has a list of models."""
    health = configured.get("health")
    return (
        {**configured, "health": "models" if health else ""}
        if isinstance(health, bool)
        else configured
    )


def register_hooks(converter: Converter) -> None:
    """Register the types of these sections with `converter`."""

    def backend(value: Any, _: Any) -> Backend:
        if not isinstance(value, dict):
            raise KindError("a mapping", value, "give it a profile, as `{profile: ollama}`")
        name = value.get("profile", "generic")
        if not isinstance(name, str) or name not in profiles():
            label = f"`{name}`" if isinstance(name, str) else describe(name)
            message = f"there is no profile {label}"
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
                hint = "configure a second backend instead"
                raise OptionError(key, f"`{key}` cannot differ for one model", hint)
        # Structured as part of a whole profile, so that they are checked as its keys.
        profile = converter.structure({"base_url": "http://checked.invalid", **value}, Profile)
        result = {key: getattr(profile, key) for key in value}
        if "fields" in result:
            result["fields"] = {name: result["fields"][name] for name in value["fields"]}
        return result

    converter.register_structure_hook(Backend, backend)
    converter.register_structure_hook_func(
        lambda kind: kind == tuple[Price, ...], partial(_prices, converter)
    )
    converter.register_structure_hook_func(lambda kind: kind is Overrides, overrides)
    converter.register_structure_hook_func(
        lambda kind: kind == ModelEntry, partial(_entry, converter)
    )
