"""The plot in docs/performance.md: a bar for each system that was measured, for a few figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from xml.sax.saxutils import escape

from tests.bench.figures import FIGURES, Values

# Of each less is better, and none depends much on what else the machine did.
_SHOWN = ("request_us", "burst_ms", "delta_us_100", "delta_us_200", "large_ms", "rest_mb")
_COLOURS = ("#9aa5b1", "#2f6fde", "#d9822b", "#3d9a5f", "#8e5bb5", "#c0504d")
_WIDTH, _BAR, _GAP, _LEFT, _RIGHT = 800, 16, 14, 360, 80
_FONT = "font-family='system-ui, sans-serif' font-size='13'"


def plot(measured: Mapping[str, Values], words: str) -> str:
    """An SVG, with `words` under it."""
    parts, y = list(_legend(list(measured))), 44
    for figure in FIGURES:
        values = {name: found.get(figure.key) for name, found in measured.items()}
        if figure.key not in _SHOWN or not any(values.values()):
            continue
        most = max(value for value in values.values() if value)
        middle = y + len(values) * _BAR / 2 + 4
        parts.append(_text(_LEFT - 12, middle, figure.title, "end"))
        for n, value in enumerate(values.values()):
            length = (_WIDTH - _LEFT - _RIGHT) * (value or 0) / most
            parts.append(_bar(_LEFT, y, length, _COLOURS[n % len(_COLOURS)]))
            parts.append(_text(_LEFT + length + 6, y + _BAR - 4, figure.shown(value)))
            y += _BAR
        y += _GAP
    parts.append(_text(16, y + 4, f"Shorter is better. {words}"))
    size = f"width='{_WIDTH}' height='{y + 16}' viewBox='0 0 {_WIDTH} {y + 16}'"
    background = "<rect width='100%' height='100%' fill='white'/>"
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' {size} {_FONT}>",
        background,
        *parts,
        "</svg>",
        "",
    ]
    return "\n".join(lines)


def _legend(names: list[str]) -> Iterator[str]:
    x = 16.0
    for n, name in enumerate(names):
        yield _bar(x, 14, 12, _COLOURS[n % len(_COLOURS)])
        yield _text(x + 18, 26, name)
        x += 40 + 8 * len(name)


def _bar(x: float, y: float, width: float, colour: str) -> str:
    size = f"width='{max(1.0, width):.1f}' height='{_BAR - 3}'"
    return f"<rect x='{x:.1f}' y='{y:.1f}' {size} fill='{colour}'/>"


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    place = f"x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'"
    return f"<text {place} fill='#222'>{escape(words)}</text>"
