"""What is counted while the proxy runs, for the stage `metrics` to tell."""

from __future__ import annotations

from collections import Counter
from typing import Any

from attrs import define, field


def _counter(told: str, *labels: str) -> Any:
    """A counter. `labels` name the parts of its keys; Prometheus is `told` what it counts."""
    return field(factory=Counter, init=False, metadata={"told": told, "labels": labels})


@define(eq=False)
class Counters:
    """The counters of one declaration, from its start on. Only the event loop's thread adds.

    The parts of a key are few and known (names of the declaration, of policies, statuses):
    nothing that clients choose, or each client could add to the memory and to the metrics.
    """

    degraded: Counter[tuple[str, str, str]] = _counter(
        "Fields of requests that were dropped or changed for a backend.",
        "backend",
        "field",
        "what",
    )
    responses: Counter[tuple[str, str]] = _counter(
        "Answers to clients, by pipeline and HTTP status.", "pipeline", "status"
    )
    """The status is `none` if the client left before."""
    shed: Counter[tuple[()]] = _counter("Requests refused because the worker was overloaded.")
    retries: Counter[tuple[str, str, str]] = _counter(
        "Requests that failed and were tried again, there or elsewhere.",
        "stage",
        "backend",
        "error",
    )
    tokens: Counter[tuple[str, str]] = _counter(
        "Tokens of whole answers: input that was not cached, cache_read, and so on.",
        "backend",
        "kind",
    )
    """As the client is told: input, cache_read, cache_creation, output; none counts for another."""
    repaired_tool_calls: Counter[tuple[str, str]] = _counter(
        "Tool calls found in a text, and arguments that were no JSON or did not fit.",
        "backend",
        "what",
    )
    """What was done: see `stages.tool_repair.arguments.How`."""
