"""Counters since the start of the proxy. The stage `metrics` reports them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from attrs import define, field

from stages.exchange import Exchange


def _counter(help: str, *labels: str) -> Any:
    """A counter. `labels` name the parts of its keys; `help` is Prometheus's description."""
    return field(factory=Counter, init=False, metadata={"help": help, "labels": labels})


@define(eq=False)
class Counters:
    """The counters of one config, from its start on. Only the event loop's thread adds.

    The parts of a key are few and known (names of the config, of policies, statuses). No part is
    chosen by clients: each client could add to the memory and to the metrics.
    """

    degraded: Counter[tuple[str, str, str]] = _counter(
        "Fields of requests that were dropped or changed for a backend.",
        "backend",
        "field",
        "what",
    )
    responses: Counter[tuple[str, str]] = _counter(
        "Responses to clients, by pipeline and HTTP status.", "pipeline", "status"
    )
    """The status is `none` if the client disconnected before."""
    shed: Counter[tuple[()]] = _counter("Requests refused because the worker was overloaded.")
    retries: Counter[tuple[str, str, str]] = _counter(
        "Requests that failed and were sent again, to the same or to another target.",
        "stage",
        "backend",
        "error",
    )
    tokens: Counter[tuple[str, str]] = _counter(
        "Tokens of responses: input that was not cached, cache_read, and so on.",
        "backend",
        "kind",
    )
    """As in the client's usage: input, cache_read, cache_creation, output. They do not overlap."""
    repaired_tool_calls: Counter[tuple[str, str]] = _counter(
        "Tool calls found in a text, and arguments that were not JSON or did not fit.",
        "backend",
        "what",
    )
    """`what` is an Outcome of `stages.tool_repair.arguments`."""

    def count(self, exchange: Exchange) -> None:
        """Add an exchange that has ended."""
        self.responses[exchange.pipeline, str(exchange.status or "none")] += 1
        for repeat in exchange.repeats:
            backend = repeat.target.backend if repeat.target else ""
            self.retries[repeat.stage, backend, repeat.error] += 1
        if not exchange.attempts:
            return
        backend = exchange.attempts[-1].target.backend
        for degradation in exchange.degradations:
            self.degraded[backend, degradation.field, degradation.action] += 1
        for outcome in exchange.repaired_calls:
            self.repaired_tool_calls[backend, outcome] += 1
        if usage := exchange.usage:
            self.tokens[backend, "input"] += usage.input_tokens
            self.tokens[backend, "cache_read"] += usage.cache_read_input_tokens
            self.tokens[backend, "cache_creation"] += usage.cache_creation_input_tokens
            self.tokens[backend, "output"] += usage.output_tokens
