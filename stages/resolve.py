"""The stage `resolve`."""

from __future__ import annotations

import fnmatch
import re

from attrs import field, frozen

from pipeline import Send, Stage, reference, section
from stages.backends.declare import Model
from stages.events import Resolved, Target, Validated
from stages.wire.errors import InvalidRequestError

_LISTED = 20


@frozen
class Resolve(Stage[Validated, Resolved]):
    """Finds the backend for a model: the exact name, then patterns, then the default.

    Of several patterns that match, the one with the most literal characters counts.
    """

    models: dict[str, Model] = section("models")
    default: str | None = reference(
        "models", None, help="the entry of `models` for names that match none"
    )
    _patterns: tuple[tuple[re.Pattern[str], Model], ...] = field(init=False, repr=False)

    @_patterns.default
    def _compile(self) -> tuple[tuple[re.Pattern[str], Model], ...]:
        patterns = sorted(filter(is_pattern, self.models), key=_literal_characters, reverse=True)
        return tuple((re.compile(fnmatch.translate(p)), self.models[p]) for p in patterns)

    async def handle(self, event: Validated, forward: Send[Resolved]) -> None:
        target = self.target(event.request.model)
        await forward(Resolved(event.http, event.request, target, event.client))

    def target(self, name: str) -> Target:
        """Where requests for `name` go. Raises InvalidRequestError, which lists the models."""
        model = self.models.get(name) or self._by_pattern(name)
        if model is None and self.default is not None:
            model = self.models[self.default]
        if model is None:
            known = list(self.models)
            more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
            listed = ", ".join(known[:_LISTED]) + more
            raise InvalidRequestError(
                f"model: {name[:200]} is not served here; there are: {listed}"
            )
        return Target(model.backend, model.model or name, model.overrides)

    def _by_pattern(self, name: str) -> Model | None:
        return next((model for pattern, model in self._patterns if pattern.match(name)), None)


def is_pattern(name: str) -> bool:
    """Whether an entry of `models` stands for many names."""
    return any(character in name for character in "*?[")


def _literal_characters(pattern: str) -> int:
    return len(re.sub(r"\[[^]]*\]|[*?]", "", pattern))
