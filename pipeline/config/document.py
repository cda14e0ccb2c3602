"""A config file as plain values, with the place of each value and name, and the secret ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import evolve, field, frozen

from pipeline.config.problems import Location, Problem
from pipeline.config.redaction import (
    Secret,
    SecretPart,
    after_colon,
    mask,
    mask_unparsed,
    unknown,
    without_comments,
)

#: Names and indexes that lead to a value.
Path = tuple[str | int, ...]


class FromEnvironment(str):
    """The text of a scalar with variables in it. No message shows the text."""

    __slots__ = ()


class Unquoted(FromEnvironment):
    """The same without quotes: it may mean a number."""

    __slots__ = ()


@frozen
class Document:
    """A parsed config file. `value` is made of dict, list and scalars."""

    value: Any
    keys: Mapping[Path, Location]
    values: Mapping[Path, Location]
    problems: tuple[Problem, ...]
    environ: Mapping[str, str] = field(repr=False)
    missing: tuple[tuple[Path, Problem], ...]
    """The variables that are not set, with the path of the scalar that names them."""
    expanded: tuple[tuple[Path, str, str], ...] = field(default=(), repr=False)
    """The variables that are set: the path of the scalar, the name, the value."""
    text: str = field(default="", repr=False)
    scalars: Mapping[Path, Secret] = field(factory=dict, repr=False)
    """The span and the text of each scalar. Most are not secret."""
    names: Mapping[Path, Secret] = field(factory=dict, repr=False)
    """The span and the text of each name, by the path that ends with it."""
    unread: tuple[Secret, ...] = field(default=(), repr=False)
    """The scalars that have no path, because `problems` has something about their names."""
    merging: frozenset[Path] = frozenset()
    """The mappings with a merge key, which is a problem. They may lack what it should add."""
    _secrets: dict[Path, SecretPart | None] = field(factory=dict, repr=False)
    _below: dict[Path, list[Path]] = field(factory=dict, repr=False)
    _unknown: set[Path] = field(factory=set, repr=False)
    _renamed: dict[Path, Path] = field(factory=dict, repr=False)

    def merges_into(self, section: str) -> bool:
        """Whether a merge key is in the section, or next to the sections."""
        return not self.merging.isdisjoint({(), (section,)})

    def hide(self, path: Path, part: SecretPart | None = None) -> None:
        """Show no scalar at or below `path` any more, or no `part` of a scalar there.

        Without `part` this includes the names in a mapping there.
        """
        self._secrets[path] = part

    def hide_unknown(self, path: Path) -> None:
        """Show no text at or below `path`, and not what is after a colon in the name itself."""
        self._secrets[path] = unknown
        self._unknown.add(path)

    def rename(self, path: Path, name: str) -> None:
        """Let the option at `path` have the new `name` in paths from now on."""
        self._renamed[(*path[:-1], name)] = path

    def masked_text(self) -> str:
        """Give the text without its secrets and comments. Lines and columns stay."""
        if any(problem.code == "yaml-syntax" for problem in self.problems):
            return mask_unparsed(self.text)
        scalars = *self.scalars.values(), *self.names.values(), *self.unread
        text = mask(self.text, (*self._secret_scalars(()), *self.unread))
        return without_comments(text, scalars)

    def _secret_scalars(self, path: Path) -> Iterator[Secret]:
        """Yield the secret scalars and names at or below `path`."""
        for where in self._at_or_below(path):
            hidden = self._hidden(where)
            if where in self.scalars and hidden:
                yield evolve(self.scalars[where], part=self._secrets[hidden[0]])
            if where not in self.names:
                continue
            if where in self._unknown:  # perhaps `api_key:value` without a space
                yield evolve(self.names[where], part=after_colon)
            elif hidden and hidden[0] != where and self._secrets[hidden[0]] is None:
                yield self.names[where]

    def _at_or_below(self, path: Path) -> list[Path]:
        """Give the paths of scalars and names at or below `path`."""
        if not self._below:
            for where in {**self.names, **self.scalars}:
                for end in range(len(where) + 1):
                    self._below.setdefault(where[:end], []).append(where)
        return self._below.get(path, [])

    def _hidden(self, path: Path) -> list[Path]:
        """The hidden places that include `path`, the outermost first."""
        return [path[:end] for end in range(len(path) + 1) if path[:end] in self._secrets]

    def location_of(self, path: Path) -> Location:
        """Give the place of a value, or of the nearest value around it."""
        return self._find(self.values, path)

    def location_of_key(self, path: Path) -> Location:
        """Give the place of a name (for an item of a list, of the item), or of the nearest one."""
        return self._find(self.keys, path)

    def redact(self, text: str, path: Path) -> str:
        """Give a message about the value at `path` with `${NAME}` or stars in place of values."""
        path = self._as_written(path)
        names = {
            spelling: f"${{{name}}}"
            for where, name, value in self.expanded
            if where[: len(path)] == path
            for spelling in (value, repr(value)[1:-1])
        }
        longest_first = sorted(map(re.escape, names), key=len, reverse=True)
        values = re.compile("|".join(longest_first))
        text = values.sub(lambda match: names[match.group()], text) if names else text
        for secret in self._secret_scalars(path):
            text = secret.redact(text)
        return text

    def _as_written(self, path: Path) -> Path:
        """Give `path` with the old names of renamed options, as they are in the text."""
        for end in range(1, len(path) + 1):
            if path[:end] in self._renamed:
                path = (*self._renamed[path[:end]], *path[end:])
        return path

    def _find(self, places: Mapping[Path, Location], path: Path) -> Location:
        path = self._as_written(path)
        for end in range(len(path), -1, -1):
            for locations in (places, self.values):
                if path[:end] in locations:
                    return locations[path[:end]]
        return Location()
