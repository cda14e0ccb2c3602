"""The models that a client may ask for."""

from __future__ import annotations

import fnmatch
import re

from attrs import field, frozen

from stages.messages_api.errors import NotFoundError


@frozen
class AllowedModels:
    """The names or patterns of models that a client may ask for."""

    names: tuple[str, ...]
    _patterns: tuple[re.Pattern[str], ...] = field(init=False, repr=False, eq=False)

    @_patterns.default
    def _compile(self) -> tuple[re.Pattern[str], ...]:
        return tuple(re.compile(fnmatch.translate(name)) for name in filter(is_pattern, self.names))

    def allows(self, name: str) -> bool:
        """Whether the client may ask for a clean name."""
        return name in self.names or any(pattern.match(name) for pattern in self._patterns)

    def refusal(self, name: str) -> NotFoundError:
        """The error for a name that is not allowed: the API's own for a model without access.

        It is no 403, because Claude Code then asks its user to log in.
        """
        listed = f"this API key may use: {', '.join(self.names)}"
        if not self.names:
            listed = "this API key may use no model"
        return NotFoundError(f"model: {name[:200]} is not available; {listed}")


def is_pattern(name: str) -> bool:
    """Whether a name in `models` is a pattern."""
    return any(character in name for character in "*?[")
