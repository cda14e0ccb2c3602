"""Compares a recorded result with a new one.

compared                                   a difference counts
----------------------------------------   ---------------------------------------------------
the types of the blocks, in their order    yes
tool calls: names, and inputs as JSON      yes
the stop reason, the type of the error     yes
tokens, seconds                            no: they are shown, and summed up
the text, and ids                          not compared: a model words its response differently
each time
"""

from __future__ import annotations

import json
from typing import Any, Literal

from attrs import Factory, define, frozen

from proxy.replay.run import Result
from stages.wire.printable import printable

Verdict = Literal["same", "differs", "failed"]
#: The values that count.
COUNTED = ("blocks", "tools", "stop reason", "error")
_MAX_VALUE = 200


@frozen
class Row:
    """One compared value, before and now."""

    name: str
    before: Any
    now: Any

    @property
    def counts(self) -> bool:
        """Whether this row makes the results different."""
        return self.name in COUNTED and self.before != self.now


@frozen
class Comparison:
    """The compared values of one exchange."""

    id: str
    before: Result
    now: Result
    rows: tuple[Row, ...]

    @property
    def verdict(self) -> Verdict:
        """`failed`: a new error. Otherwise whether a row counts as a difference."""
        if self.now.error and self.now.error != self.before.error:
            return "failed"
        return "differs" if any(row.counts for row in self.rows) else "same"


@define(eq=False)
class Sums:
    """The numbers of all exchanges so far."""

    verdicts: dict[str, int] = Factory(lambda: dict.fromkeys(("same", "differs", "failed"), 0))
    skipped: int = 0
    """Exchanges that cannot be compared."""
    broken: int = 0
    """Lines that are no exchange."""
    totals: dict[str, list[float]] = Factory(dict)
    """Tokens and seconds before and now, of exchanges that have both."""

    def add(self, comparison: Comparison) -> None:
        """Add an exchange."""
        self.verdicts[comparison.verdict] += 1
        if comparison.verdict == "failed":
            return
        for row in comparison.rows:
            if row.name not in COUNTED and row.before is not None and row.now is not None:
                total = self.totals.setdefault(row.name, [0, 0])
                total[0] += row.before
                total[1] += row.now

    @property
    def replayed(self) -> int:
        """Exchanges that were compared."""
        return sum(self.verdicts.values())


def compare(id: str, before: Result, now: Result) -> Comparison:
    """Compare two results."""
    old, new = _values(before), _values(now)
    return Comparison(id, before, now, tuple(Row(name, old[name], new[name]) for name in old))


def _values(result: Result) -> dict[str, Any]:
    message = result.response or {}
    content = [block for block in message.get("content") or () if isinstance(block, dict)]
    usage = message.get("usage") or {}
    prompt = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    counts = [usage[name] for name in prompt if isinstance(usage.get(name), int)]
    return {
        "blocks": [block.get("type") for block in content],
        "tools": [
            {"name": block.get("name"), "input": block.get("input")}
            for block in content
            if block.get("type") == "tool_use"
        ],
        "stop reason": message.get("stop_reason"),
        "error": result.error,
        "input tokens": sum(counts) if counts else None,
        "output tokens": usage.get("output_tokens"),
        "seconds": round(result.seconds, 2),
    }


def in_words(name: str, value: Any) -> str:
    """A value as text on one line, cut to a readable length."""
    if name == "blocks":
        text = ", ".join(map(str, value))
    elif name == "tools":
        calls = ((c["name"], json.dumps(c["input"], ensure_ascii=False)) for c in value)
        text = ", ".join(f"{tool} {arguments}" for tool, arguments in calls)
    else:
        text = f"{value:,}" if isinstance(value, (int, float)) else str(value or "")
    text = printable(text)
    return (text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…") or "-"
