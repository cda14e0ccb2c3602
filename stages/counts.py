"""What is counted while the proxy runs, for the stage `metrics` to tell."""

from __future__ import annotations

from collections import Counter

from attrs import define, field


@define(eq=False)
class Counts:
    """The counters of one declaration, from its start on. Only the event loop's thread adds.

    The parts of a key are few and known (names of the declaration, of policies, statuses):
    nothing that clients choose, or each client could add to the memory and to the metrics.
    """

    degraded: Counter[tuple[str, str, str]] = field(factory=Counter, init=False)
    """Fields dropped or changed: backend, name of the policy, what became of it."""
    answers: Counter[tuple[str, str]] = field(factory=Counter, init=False)
    """Answers of pipelines: pipeline, HTTP status; `none` if the client left before."""
    tried_again: Counter[tuple[str, str, str]] = field(factory=Counter, init=False)
    """Requests that failed and were tried again: by which stage, the backend, kind of error."""
    tokens: Counter[tuple[str, str]] = field(factory=Counter, init=False)
    """Those of whole answers, as the client is told: backend; input, cache_read, cache_creation or
    output, of which none counts for another."""
    repaired_tool_calls: Counter[tuple[str, str]] = field(factory=Counter, init=False)
    """What `repair-tools` has done: the backend, what (see `stages.repair.arguments.How`)."""
