"""What was measured, as a table for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.bench.figures import FIGURES, GOALS, Figure, Goal, Values

FLOOR, PROXY = "floor", "llm-proxy"


def table(measured: Mapping[str, Values]) -> str:
    """A row for each figure, a column for each of those that were measured.

    After each figure but the floor is its ratio to the floor.
    """
    rows = [["", *measured, "goal", ""]]
    for figure in FIGURES:
        if any(figure.key in values for values in measured.values()):
            cells = [_cell(figure, name, measured) for name in measured]
            goal = GOALS.get(figure.key)
            verdict = _verdict(goal, figure.key, measured) if goal else ""
            rows.append([figure.title, *cells, goal.words if goal else "", verdict])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _verdict(goal: Goal, key: str, measured: Mapping[str, Values]) -> str:
    if key not in measured[PROXY]:
        return "not measured"
    return "reached" if goal.reached(measured[PROXY], measured[FLOOR]) else "NOT REACHED"


def _cell(figure: Figure, name: str, measured: Mapping[str, Values]) -> str:
    value, floor = measured[name].get(figure.key), measured[FLOOR].get(figure.key)
    shown = figure.shown(value)
    if name == FLOOR or not value or not floor or not figure.compared:
        return shown
    return f"{shown} ({value / floor:.2f} x)"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *cells = row
    padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
    return "  ".join([first.ljust(widths[0]), *padded]).rstrip()
