"""Prints a replay: a table of the differences of each exchange, the sums, the progress."""

from __future__ import annotations

import sys
import time
from typing import Any

import click
from attrs import define

from pipeline.config.text_width import pad, text_width
from proxy.replay.comparison import Comparison, Sums, in_words
from stages.wire.json_codec import encode

#: Seconds between two lines of progress, where stderr is no terminal.
_PROGRESS_INTERVAL = 5.0
_MAX_COLUMN = 60


def table(comparison: Comparison) -> str:
    """The compared values: those that differ and count have a `*`. A failure has its message."""
    before, now = comparison.before.target or "recorded", comparison.now.target or "now"
    cells = [("", before, now)]
    for row in comparison.rows:
        if row.before or row.now:
            values = (in_words(row.name, row.before), in_words(row.name, row.now))
            cells.append((f"{'*' if row.counts else ' '} {row.name}", *values))
    names = max(len(name) for name, *_ in cells)
    width = min(max(text_width(old) for _, old, _ in cells), _MAX_COLUMN)
    lines = [f"{comparison.id} {comparison.verdict}"]
    lines += [f"  {name:<{names}}  {pad(old, width)}  {new}" for name, old, new in cells]
    if comparison.verdict == "failed":
        lines.append(f"  {in_words('message', comparison.now.message)}")
    return "\n".join(lines)


def summary(sums: Sums, interrupted: bool) -> str:
    """The number of exchanges of each kind, and the totals before and now."""
    counts = sums.verdicts
    text = f"{counts['same']} same, {counts['differs']} differ, {counts['failed']} failed"
    if sums.skipped:
        text += f"; {sums.skipped} skipped: they have no end"
    if sums.broken:
        text += f"; {sums.broken} line{'s' * (sums.broken != 1)} cannot be read"
    if interrupted:
        text += "; interrupted"
    totals = [
        f"{name} {in_words(name, round(old, 2))} → {in_words(name, round(new, 2))}"
        for name, (old, new) in sums.totals.items()
    ]
    return "\n".join([text, *(["; ".join(totals)] if totals else [])])


def as_json(comparison: Comparison) -> str:
    """One exchange as JSON on one line."""
    value: dict[str, Any] = {
        "id": comparison.id,
        "result": comparison.verdict,
        "differences": [row.name for row in comparison.rows if row.counts],
        "before": {"target": comparison.before.target},
        "now": {"target": comparison.now.target, "message": comparison.now.message},
    }
    for row in comparison.rows:
        name = row.name.replace(" ", "_")
        value["before"][name], value["now"][name] = row.before, row.now
    return encode(value).decode()


def summary_json(sums: Sums, interrupted: bool) -> str:
    """The sums as JSON on one line."""
    totals = {
        name.replace(" ", "_"): {"before": round(old, 2), "now": round(new, 2)}
        for name, (old, new) in sums.totals.items()
    }
    counts = {"skipped": sums.skipped, "broken": sums.broken, "interrupted": interrupted}
    return encode({"summary": {**sums.verdicts, **counts, "totals": totals}}).decode()


@define(eq=False)
class Progress:
    """The progress on stderr: one line that changes in a terminal, otherwise a line now and then.

    Print everything else with `echo`, which does not mix with the progress.
    """

    total: int
    _shown_at: float = 0.0
    _visible: bool = False

    def show(self, sums: Sums) -> None:
        """Show how many exchanges are done."""
        done = sums.replayed + sums.skipped
        text = f"{done} of {self.total} exchanges"
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{text}", err=True, nl=False)
            self._visible = True
        elif time.monotonic() - self._shown_at >= _PROGRESS_INTERVAL:
            self._shown_at = time.monotonic()
            click.echo(text, err=True)

    def echo(self, text: str, err: bool = False) -> None:
        """Print a text, after the line of progress is cleared."""
        if self._visible:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._visible = False
        click.echo(text, err=err)
