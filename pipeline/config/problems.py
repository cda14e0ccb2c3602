"""Problems in a declaration: values with a place, a text for people, and the next action."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

from attrs import frozen


@frozen(order=True)
class Location:
    """A place in the declaration. `line` and `column` count from 1."""

    line: int = 1
    column: int = 1


@frozen
class Problem:
    """One thing that is wrong.

    `code` is a stable kebab-case name. Only an `error` keeps the proxy from starting.
    `rename` is the old and the new name of an option, if `check --fix` can repair the problem.
    """

    code: str
    message: str
    location: Location = Location()
    hint: str = ""
    severity: Literal["error", "warning", "note"] = "error"
    rename: tuple[str, str] | None = None

    def render(self, file: str, source: str) -> str:
        """The problem as text: `file:line:column`, the source line with a caret, the hint.

        `source` is quoted as it is: give it without its secrets.
        """
        lines = source.splitlines()
        line, column = self.location.line, self.location.column
        text = f"{file}:{line}:{column}: {self.severity}[{self.code}]: {self.message}"
        if 0 < line <= len(lines):
            shown = lines[line - 1].rstrip()
            blank = "".join("\t" if each == "\t" else " " for each in shown[: column - 1])
            text += f"\n{line:>5} | {shown}\n      | {blank:<{column - 1}}^"
        if self.hint:
            text += f"\n  hint: {self.hint}"
        return text


class ConfigError(Exception):
    """The declaration cannot be used. `problems` holds all of them, in the order of their lines."""

    def __init__(self, file: str, source: str, problems: Iterable[Problem]) -> None:
        self.file = file
        # An alias repeats what is wrong behind its anchor; once is enough.
        self.problems = sorted(dict.fromkeys(problems), key=lambda problem: problem.location)
        super().__init__("\n".join(p.render(file, source) for p in self.problems))

    def report(self) -> str:
        """All of it as a command prints it, with the number of problems at the end."""
        count = len(self.problems)
        return f"{self}\n\n{count} problem{'s' if count > 1 else ''}"


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: the nearest known one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    if not names:
        return ""
    return "use one of: " + ", ".join(f"`{each}`" for each in names)
