"""The stage `resolve`."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Literal

from attrs import evolve, field, frozen

from pipeline import Send, Stage, option, reference, section
from stages.backends.config import ModelEntry, TargetGroup
from stages.events import Resolved, Validated
from stages.exchange import Target
from stages.messages_api.errors import InvalidRequestError, NotFoundError
from stages.off_loop import LARGE_BODY, off_loop
from stages.routing.model_names import ModelNames
from stages.routing.selection import Rule, ordered

_LISTED = 20


@frozen
class Resolve(Stage[Validated, Resolved]):
    """Find the target of a model: by its exact name, then by patterns, then the default.

    If several patterns match, the one with the most literal characters counts. `rules` go
    before names; the first rule whose conditions hold counts. The suffix `[1m]` of a name sets the
    client's own window: it is removed, unless `models` has the name with it. If the client's key
    has `models`, other names are refused first, with a 404.
    """

    models: Mapping[str, ModelEntry] = section("models")
    default: str | None = reference(
        "models", None, help="the entry of `models` for names that match no entry"
    )
    rules: tuple[Rule, ...] = option(
        (),
        renamed_from="routes",
        help="conditions and the entry of `models` for each, as `{when: {thinking: true}, to: …}`",
    )
    unknown_model: Literal["invalid_request", "not_found"] = option(
        "invalid_request",
        help="the error for a name that matches no entry: 400 invalid_request_error, or the API's "
        "own 404 not_found_error",
    )
    _names: ModelNames = field(init=False, repr=False)

    @_names.default
    def _index(self) -> ModelNames:
        return ModelNames(self.models, self.default)

    def handle(self, event: Validated, forward: Send[Resolved]) -> Awaitable[None]:
        if event.new_bytes < LARGE_BODY:
            return forward(self._resolved(event))
        return self._off_loop(event, forward)

    async def _off_loop(self, event: Validated, forward: Send[Resolved]) -> None:
        """Resolve a large request: rules and affinity may read all of it."""
        await forward(await off_loop(self._resolved, event))

    def _resolved(self, event: Validated) -> Resolved:
        name = self._names.clean(event.request.model)
        allowed = event.http.exchange.allowed_models
        if allowed is not None and not allowed.allows(name):
            raise allowed.refusal(name)
        entry = self._routed(event, name) if self.rules else self._named(name)
        alternatives: tuple[Target, ...] = ()
        if isinstance(entry, TargetGroup):
            target, *rest = (
                Target(model.backend, model.model or name, model.overrides, model.label)
                for model in ordered(entry, event)
            )
            alternatives = tuple(rest)
        else:
            target = Target(entry.backend, entry.model or name, entry.overrides)
        return Resolved(
            event.http,
            event.request,
            target,
            alternatives,
            size=event.size,
            new_bytes=event.new_bytes,
            is_cached=event.is_cached,
        )

    def _routed(self, event: Validated, name: str) -> ModelEntry:
        request = event.request
        if request.model != name:
            request = evolve(request, model=name)
        for rule in self.rules:
            if rule.when.holds(request):
                return self.models[rule.to]
        return self._named(name)

    def _named(self, name: str) -> ModelEntry:
        """The entry for `name`. Raise the error of `unknown_model`, which lists the models."""
        if entry := self._names.find(name):
            return entry
        names = list(self.models)
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        listed = ", ".join(names[:_LISTED]) + more
        raise _UNKNOWN[self.unknown_model](
            f"model: {name[:200]} is not served here; there are: {listed}"
        )


_UNKNOWN = {"invalid_request": InvalidRequestError, "not_found": NotFoundError}
