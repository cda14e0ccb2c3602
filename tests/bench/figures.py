"""What is measured, in the order of the table, and the goals.

A goal that names the floor is a ratio within one run, and means the same on each machine. The
other figures are for a core with about 5,000 requests/s of the floor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import frozen

Values = Mapping[str, float]
"""Figures by key, of one of those that were measured."""

STREAMS = (100, 200, 400)


@frozen
class Figure:
    """One row. `compared`: whether its ratio to the floor says anything."""

    key: str
    title: str
    format: str = "{:,.0f}"
    compared: bool = True

    def shown(self, value: float | None) -> str:
        """The value as a person reads it."""
        return "-" if value is None else self.format.format(value)


@frozen
class Goal:
    """What a figure should come to. `reached` is asked with the proxy's values and the floor's."""

    words: str
    reached: Callable[[Values, Values], bool]


def _paced(streams: int) -> list[Figure]:
    title = f"{streams} streams of 50 tokens/s"
    return [
        Figure(f"delta_us_{streams}", f"{title}: CPU per delta, µs", "{:.1f}"),
        Figure(f"p50_ms_{streams}", f"{title}: added latency p50, ms", "{:.2f}"),
        Figure(f"p99_ms_{streams}", f"{title}: added latency p99, ms", "{:.2f}"),
        Figure(f"sustained_{streams}", f"{title}: sustained, %", "{:.1f}", compared=False),
    ]


FIGURES = [
    Figure("requests", "short answers per second"),
    Figure("request_us", "CPU per short answer, µs"),
    Figure("bursts", "200-chunk streams per second"),
    Figure("burst_ms", "CPU per 200-chunk stream, ms", "{:.2f}"),
    *(figure for streams in STREAMS for figure in _paced(streams)),
    Figure("large_ms", "conversation of 150 KB with a new turn: CPU, ms", "{:.2f}"),
    Figure("huge_ms", "conversation of 1.5 MB with a new turn: CPU, ms", "{:.2f}"),
    Figure("new_ms", "new request of 1.5 MB: CPU, ms", "{:.2f}"),
    Figure("gap_ms", "50 streams of 50 tokens/s: longest delay, ms", "{:.1f}"),
    Figure("gap_new_ms", "the same, while new requests of 1.5 MB come, ms", "{:.1f}"),
    Figure("rest_mb", "memory at rest, MB"),
    Figure("stream_kb", "memory per open stream, KB"),
    Figure("end_mb", "memory at the end, MB"),
    Figure("answers", "answers by then", compared=False),
    Figure("check_s", "`llm-proxy check`, s", "{:.2f}"),
    Figure("accept_s", "from `serve` to the first connection, s", "{:.2f}"),
    Figure("import_s", "LangChain's import, s", "{:.2f}"),
    Figure("first_s", "from `serve` to the first response, s", "{:.2f}"),
]


def _below(key: str, limit: float) -> Goal:
    return Goal(f"< {limit:g}", lambda own, _: own[key] < limit)


def _at_most_times(key: str, times: float) -> Goal:
    return Goal(f"<= {times:g} x floor", lambda own, floor: own[key] <= times * floor[key])


def _at_least(key: str, limit: float) -> Goal:
    return Goal(f">= {limit:g}", lambda own, _: own[key] >= limit)


GOALS = {
    "requests": Goal(
        ">= 0.4 x floor", lambda own, floor: own["requests"] >= 0.4 * floor["requests"]
    ),
    "bursts": _at_least("bursts", 200),
    "delta_us_200": _at_most_times("delta_us_200", 1.4),
    "p99_ms_100": _below("p99_ms_100", 8),
    "sustained_400": _at_least("sustained_400", 98),
    "large_ms": _at_most_times("large_ms", 3),
    "huge_ms": _at_most_times("huge_ms", 2),
    "new_ms": _at_most_times("new_ms", 5),
    "gap_new_ms": Goal("<= 10 ms more", lambda own, _: own["gap_new_ms"] <= own["gap_ms"] + 10),
    "rest_mb": _below("rest_mb", 130),
    "stream_kb": _below("stream_kb", 60),
    "check_s": _below("check_s", 0.7),
    "accept_s": _below("accept_s", 1),
    "first_s": Goal("<= 1 + import", lambda own, _: own["first_s"] <= 1 + own["import_s"]),
}
