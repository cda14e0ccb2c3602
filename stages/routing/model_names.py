"""Finds the entry of `models` for a name."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping

from attrs import field, frozen

from stages.backends.config import ModelEntry
from stages.routing.allowed_models import is_pattern

#: Claude Code appends this mark to a name, for the size of its own window; sometimes twice.
_WINDOW_MARK = "[1m]"


@frozen
class ModelNames:
    """The names that are served. If several patterns match, the one with most literals counts."""

    models: Mapping[str, ModelEntry]
    default: str | None = None
    _patterns: tuple[tuple[re.Pattern[str], ModelEntry], ...] = field(init=False, repr=False)

    @_patterns.default
    def _compile(self) -> tuple[tuple[re.Pattern[str], ModelEntry], ...]:
        patterns = sorted(filter(is_pattern, self.models), key=_literal_characters, reverse=True)
        return tuple((re.compile(fnmatch.translate(p)), self.models[p]) for p in patterns)

    def clean(self, name: str) -> str:
        """The name without the window mark, unless the config has it with the mark."""
        if name in self.models:
            return name
        end = len(name)
        while name[max(0, end - len(_WINDOW_MARK)) : end].lower() == _WINDOW_MARK:
            end -= len(_WINDOW_MARK)
        return name[:end] or name

    def find(self, name: str) -> ModelEntry | None:
        """The entry for a clean name."""
        entry = self.models.get(name) or self._by_pattern(name)
        if entry is None and self.default is not None:
            entry = self.models[self.default]
        return entry

    def _by_pattern(self, name: str) -> ModelEntry | None:
        return next((entry for pattern, entry in self._patterns if pattern.match(name)), None)


def _literal_characters(pattern: str) -> int:
    return len(re.sub(r"\[[^]]*\]|[*?]", "", pattern))
