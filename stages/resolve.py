"""The stage `resolve`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Awaitable, Mapping

from attrs import field, frozen

from pipeline import Send, Stage, option, reference, section
from stages.backends.declare import Entry, Group
from stages.events import Resolved, Target, Validated
from stages.routing.routes import Route, ordered
from stages.wire.errors import InvalidRequestError

_LISTED = 20


@frozen
class Resolve(Stage[Validated, Resolved]):
    """Finds the backend for a model: the exact name, then patterns, then the default.

    Of several patterns that match, the one with the most literal characters counts. `routes` go
    before names; the first one whose conditions hold counts.
    """

    models: Mapping[str, Entry] = section("models")
    default: str | None = reference(
        "models", None, help="the entry of `models` for names that match none"
    )
    routes: tuple[Route, ...] = option(
        (), help="entries of `models` for kinds of requests, as `{when: {thinking: true}, to: …}`"
    )
    _patterns: tuple[tuple[re.Pattern[str], Entry], ...] = field(init=False, repr=False)

    @_patterns.default
    def _compile(self) -> tuple[tuple[re.Pattern[str], Entry], ...]:
        patterns = sorted(filter(is_pattern, self.models), key=_literal_characters, reverse=True)
        return tuple((re.compile(fnmatch.translate(p)), self.models[p]) for p in patterns)

    def handle(self, event: Validated, forward: Send[Resolved]) -> Awaitable[None]:
        name = event.request.model
        entry = self._routed(event) if self.routes else self._named(name)
        others: tuple[Target, ...] = ()
        if isinstance(entry, Group):
            target, *rest = (
                Target(model.backend, model.model or name, model.overrides, model.label)
                for model in ordered(entry, event)
            )
            others = tuple(rest)
        else:
            target = Target(entry.backend, entry.model or name, entry.overrides)
        return forward(Resolved(event.http, event.request, target, event.client, others))

    def _routed(self, event: Validated) -> Entry:
        for route in self.routes:
            if route.when.holds(event.request):
                return self.models[route.to]
        return self._named(event.request.model)

    def _named(self, name: str) -> Entry:
        """The entry for `name`. Raises InvalidRequestError, which lists the models."""
        entry = self.models.get(name) or self._by_pattern(name)
        if entry is None and self.default is not None:
            entry = self.models[self.default]
        if entry is None:
            known = list(self.models)
            more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
            listed = ", ".join(known[:_LISTED]) + more
            raise InvalidRequestError(
                f"model: {name[:200]} is not served here; there are: {listed}"
            )
        return entry

    def _by_pattern(self, name: str) -> Entry | None:
        return next((entry for pattern, entry in self._patterns if pattern.match(name)), None)


def is_pattern(name: str) -> bool:
    """Whether an entry of `models` stands for many names."""
    return any(character in name for character in "*?[")


def _literal_characters(pattern: str) -> int:
    return len(re.sub(r"\[[^]]*\]|[*?]", "", pattern))
