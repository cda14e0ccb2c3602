"""Counters and histograms since the start of the proxy. The stage `metrics` reports them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from functools import partial
from typing import Any

from attrs import define, field

from stages.exchange import Exchange
from stages.messages_api.usage import Usage
from stages.shared_metrics import SharedMetrics

# Upper bounds of buckets. They include the bounds of the OpenTelemetry conventions for GenAI
# metrics, and larger ones: local models are slower.
_DURATIONS = tuple(0.01 * 2**n for n in range(16))
_FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 320.0),
)
_OUTPUT_TOKEN = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0),
)
_TOKENS = tuple(4.0**n for n in range(14))


@define(eq=False)
class Histogram:
    """Numbers of values up to each of `bounds`, and above the last one; and the sum of values."""

    bounds: tuple[float, ...]
    sum: float = 0.0
    numbers: list[int] = field(init=False)

    @numbers.default
    def _zeros(self) -> list[int]:
        return [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Add a value."""
        self.numbers[bisect_left(self.bounds, value)] += 1
        self.sum += value


def _counter(help: str, *labels: str) -> Any:
    """A counter. `labels` name the parts of its keys; `help` is Prometheus's description."""
    return field(factory=Counter, init=False, metadata={"help": help, "labels": labels})


def _histogram(bounds: tuple[float, ...], help: str, *labels: str) -> Any:
    """A histogram for each key. `bounds` are the upper bounds of its buckets."""
    histogram = partial(Histogram, bounds)
    return field(
        factory=lambda: defaultdict(histogram),
        init=False,
        metadata={"help": help, "labels": labels},
    )


@define(eq=False)
class Counters:
    """The counters and histograms, from the start on. Only the event loop's thread adds.

    The parts of a key are few and known (names of the config, of policies, statuses). No part is
    chosen by clients: each client could add to the memory and to the metrics. Therefore `model` is
    a name of `model_names`, otherwise `other`.
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
    limit_refusals: Counter[tuple[str, str]] = _counter(
        "Requests refused by a limit of the config.", "limit", "account"
    )
    """`account` is its kind: all, key, model, session or agent."""
    retries: Counter[tuple[str, str, str]] = _counter(
        "Requests that failed and were sent again, to the same or to another target.",
        "stage",
        "backend",
        "error",
    )
    tokens: Counter[tuple[str, str]] = _counter(
        "Tokens of calls of backends: input that was not cached, cache_read, and so on.",
        "backend",
        "kind",
    )
    """As in the client's usage: input, cache_read, cache_creation, output. They do not overlap."""
    cached_prompt_tokens: Counter[tuple[str, str]] = _counter(
        "Tokens of prompts that the backend had in its cache.", "backend", "model"
    )
    """The tokens of all prompts are the sum of `prompt_tokens`."""
    repaired_tool_calls: Counter[tuple[str, str]] = _counter(
        "Tool calls found in a text, and arguments that were not JSON or did not fit.",
        "backend",
        "what",
    )
    """`what` is an Outcome of `stages.tool_repair.arguments`."""
    request_seconds: defaultdict[tuple[str, str, str, str], Histogram] = _histogram(
        _DURATIONS,
        "Seconds from a request to the end of its response.",
        "pipeline",
        "backend",
        "model",
        "outcome",
    )
    """`backend` and `model` are empty if no backend was called."""
    attempt_seconds: defaultdict[tuple[str, str, str], Histogram] = _histogram(
        _DURATIONS, "Seconds of calls of backends.", "backend", "model", "error"
    )
    queue_wait_seconds: defaultdict[tuple[str], Histogram] = _histogram(
        _DURATIONS, "Seconds that calls waited for a backend.", "backend"
    )
    first_token_seconds: defaultdict[tuple[str, str], Histogram] = _histogram(
        _FIRST_TOKEN, "Seconds from a request to its first token.", "backend", "model"
    )
    """Of streams only: other responses arrive at once."""
    output_token_seconds: defaultdict[tuple[str, str], Histogram] = _histogram(
        _OUTPUT_TOKEN, "Seconds for each output token after the first.", "backend", "model"
    )
    """Of complete streams only."""
    gap_seconds: defaultdict[tuple[str], Histogram] = _histogram(
        _FIRST_TOKEN,
        "Longest seconds between two parts of a response, one value for each stream.",
        "backend",
    )
    """Also of streams that broke off. It includes the time that the client takes to read a part."""
    stage_seconds: defaultdict[tuple[str, str], Histogram] = _histogram(
        _FIRST_TOKEN,
        "Seconds that a stage had a request, until it forwarded the request or failed; of the last "
        "stage, such as invoke, until the response started.",
        "pipeline",
        "stage",
    )
    """Only with the option `stage_times` of the stage `metrics`, or another reader of the times."""
    prompt_tokens: defaultdict[tuple[str, str], Histogram] = _histogram(
        _TOKENS, "Tokens of the prompt of one call, cached or not.", "backend", "model"
    )
    output_tokens: defaultdict[tuple[str, str], Histogram] = _histogram(
        _TOKENS, "Tokens of the response to one call.", "backend", "model"
    )
    model_names: frozenset[str] = field(default=frozenset(), init=False)
    """The names of models in the config."""
    config_digest: str = field(default="", init=False)
    """The digest of the config that is served."""
    shared: SharedMetrics | None = field(default=None, init=False)
    """Set if several workers share their metrics."""

    def count(self, exchange: Exchange) -> None:
        """Add an exchange that has ended."""
        self.responses[exchange.pipeline, str(exchange.status or "none")] += 1
        for repeat in exchange.repeats:
            backend = repeat.target.backend if repeat.target else ""
            self.retries[repeat.stage, backend, repeat.error] += 1
        backend, model = self._count_attempts(exchange)
        if exchange.ended is not None:
            key = (exchange.pipeline, backend, model, exchange.outcome)
            self.request_seconds[key].observe(exchange.ended - exchange.received)
        if exchange.refused_by or exchange.stages:
            self._count_rare(exchange)
        if not exchange.attempts:
            return
        for degradation in exchange.degradations:
            self.degraded[backend, degradation.field, degradation.action] += 1
        for outcome in exchange.repaired_calls:
            self.repaired_tool_calls[backend, outcome] += 1
        if exchange.queued is not None and exchange.accepted is not None:
            self.queue_wait_seconds[(backend,)].observe(exchange.accepted - exchange.queued)
        if exchange.stream and exchange.first_token is not None:
            self._count_stream(exchange, exchange.first_token, (backend, model))

    def _count_rare(self, exchange: Exchange) -> None:
        """Add the refusal by a limit, and the times of the stages."""
        if refusal := exchange.refused_by:
            self.limit_refusals[refusal.limit, refusal.account.partition(":")[0]] += 1
        for run in exchange.stages:
            if (until := run.forwarded or run.ended) is not None:
                self.stage_seconds[exchange.pipeline, run.stage].observe(until - run.began)

    def _count_attempts(self, exchange: Exchange) -> tuple[str, str]:
        """Add the attempts, with their tokens. Return the labels of the last one."""
        backend = model = ""
        for attempt in exchange.attempts:
            backend, model = attempt.target.backend, attempt.target.model
            if model not in self.model_names:
                model = "other"
            if attempt.ended is not None:
                seconds = attempt.ended - attempt.sent
                self.attempt_seconds[backend, model, attempt.error].observe(seconds)
            if usage := exchange.usage_of(attempt):
                self._count_tokens(usage, backend, model)
        return backend, model

    def _count_tokens(self, usage: Usage, backend: str, model: str) -> None:
        self.tokens[backend, "input"] += usage.input_tokens
        self.tokens[backend, "cache_read"] += usage.cache_read_input_tokens
        self.tokens[backend, "cache_creation"] += usage.cache_creation_input_tokens
        self.tokens[backend, "output"] += usage.output_tokens
        self.cached_prompt_tokens[backend, model] += usage.cache_read_input_tokens
        self.prompt_tokens[backend, model].observe(usage.prompt_tokens)
        self.output_tokens[backend, model].observe(usage.output_tokens)

    def _count_stream(self, exchange: Exchange, first_token: float, key: tuple[str, str]) -> None:
        self.first_token_seconds[key].observe(first_token - exchange.received)
        if exchange.longest_gap:
            self.gap_seconds[key[:1]].observe(exchange.longest_gap)
        ended, usage = exchange.attempts[-1].ended, exchange.usage
        if exchange.outcome == "complete" and ended and usage and usage.output_tokens > 1:
            seconds = (ended - first_token) / (usage.output_tokens - 1)
            self.output_token_seconds[key].observe(seconds)
