"""The judgement of a check, and the table of results."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from attrs import frozen

_WIDTH = 70


@frozen
class Result:
    """The result of a check. `*` in `expected` matches any text."""

    check: str
    expected: str
    seen: str

    @property
    def passed(self) -> bool:
        """Whether it saw what it expected."""
        # A bracket is no pattern here.
        return fnmatchcase(self.seen, self.expected.replace("[", "[[]"))


def table(results: Sequence[Result]) -> str:
    """The results in columns; what differs has its whole text below."""
    rows = [("check", "expected", "seen", "")]
    for result in results:
        mark = "ok" if result.passed else "DIFFERENT"
        rows.append((result.check, _cut(result.expected), _cut(result.seen), mark))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join((*map(str.ljust, row[:3], widths), row[3])).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    different = [result for result in results if not result.passed]
    for result in different:
        lines += ["", f"{result.check}", f"  expected: {result.expected}", f"  seen: {result.seen}"]
    lines += ["", f"{len(results) - len(different)} as expected, {len(different)} different"]
    return "\n".join(lines)


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def compare(found: dict[str, object], true: dict[str, object]) -> list[Result]:
    """A result for each key that the probe has found: its value, and the true one.

    A key that nobody has looked up yet is a difference, too.
    """
    nobody = "(not in truths.yaml: find out what is true, and add it)"
    return [
        Result(f"probe: {key}", str(true.get(key, nobody)), str(value))
        for key, value in found.items()
    ]
