"""Problems of a config: values with a place, a text for people, and the next action."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from attrs import frozen

from pipeline.config.text_width import text_width

_MAX_EXCERPT = 120  # characters of a line


@frozen(order=True)
class Location:
    """A place in the config. `line` and `column` count from 1."""

    line: int = 1
    column: int = 1


@frozen
class Problem:
    """One problem.

    `code` is a stable kebab-case name. Only an `error` keeps the proxy from starting.
    `rename` is the old and the new name of an option, if `check --fix` can repair the problem.
    `file` is the file that has the problem; empty: the config. Its lines are not quoted: it may be
    another file than was meant, with secrets.
    """

    code: str
    message: str
    location: Location = Location()
    hint: str = ""
    severity: Literal["error", "warning", "note"] = "error"
    rename: tuple[str, str] | None = None
    file: str = ""

    @property
    def place(self) -> tuple[str, Location]:
        """The order of problems: those of the config come first."""
        return self.file, self.location

    def render(self, file: str, source: str) -> str:
        """Give the problem as text: `file:line:column`, the source line with a caret, the hint.

        `source` is quoted as it is: give it without its secrets.
        """
        lines = [] if self.file else source.splitlines()
        line, column = self.location.line, self.location.column
        text = f"{self.file or file}:{line}:{column}: {self.severity}[{self.code}]: {self.message}"
        if 0 < line <= len(lines):
            quoted, column = _excerpt(lines[line - 1].rstrip(), column)
            before = f"{quoted[: column - 1]:<{column - 1}}"
            blank = "".join("\t" if c == "\t" else " " * text_width(c) for c in before)
            text += f"\n{line:>5} | {quoted}\n      | {blank}^"
        if self.hint:
            text += f"\n  hint: {self.hint}"
        return text


def _excerpt(line: str, column: int) -> tuple[str, int]:
    """The part of a long line around a column, and that column in it. Both columns count from 1."""
    column = min(column, len(line) + 1)  # the line may be cut, because of a secret
    if len(line) <= _MAX_EXCERPT:
        return line, column
    start = min(max(0, column - _MAX_EXCERPT // 2), len(line) - _MAX_EXCERPT)
    before, after = "…" * (start > 0), "…" * (start + _MAX_EXCERPT < len(line))
    excerpt = line[start : start + _MAX_EXCERPT]
    return f"{before}{excerpt}{after}", column - start + len(before)


class ConfigError(Exception):
    """The config has errors. `problems` has all problems, in the order of their lines.

    `digest` and `files` are as in a Config, if the config could be read.
    """

    def __init__(
        self,
        file: str,
        source: str,
        problems: Iterable[Problem],
        digest: bytes = b"",
        files: tuple[Path, ...] = (),
    ) -> None:
        self.file = file
        self.digest, self.files = digest, files
        # An alias repeats the problems after its anchor. Report them once.
        self.problems = sorted(dict.fromkeys(problems), key=lambda problem: problem.place)
        super().__init__("\n".join(p.render(file, source) for p in self.problems))

    def report(self) -> str:
        """Give all problems as a command prints them, with their number at the end."""
        count = len(self.problems)
        return f"{self}\n\n{count} problem{'s' if count > 1 else ''}"


def suggest(name: str, valid_names: Iterable[str]) -> str:
    """Give a hint for a misspelt name: the nearest valid name, or all of them."""
    names = sorted(valid_names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    if not names:
        return ""
    return "use one of: " + ", ".join(f"`{name}`" for name in names)
