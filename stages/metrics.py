"""The stage `metrics`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import anyio
from attrs import Factory, frozen

from pipeline import Send, Stage, section
from stages.backends.backend import Backend
from stages.backends.turns import Turns
from stages.breaker import STATES, Breakers, State
from stages.counts import Counts
from stages.events import Authenticated, HttpResponse, ResponseBody, ResponseStart

if TYPE_CHECKING:
    from prometheus_client.core import Metric


@frozen
class Metrics(Stage[Authenticated, HttpResponse]):
    """Tells what was counted since the start, in the format of Prometheus."""

    counts: Counts = section("metrics")
    backends: Mapping[str, Backend] = section("backends", Factory(dict))
    breakers: Breakers = section("circuit_breaker", Factory(Breakers))

    async def handle(self, event: Authenticated, forward: Send[HttpResponse]) -> None:
        # Imported only now: it would make up a fifth of the time of `llm-proxy check`.
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

        registry = CollectorRegistry()  # the library's default one would be shared by all there are
        turns = {name: each.turns for name, each in self.backends.items() if each.turns}
        states = self.breakers.states(anyio.current_time())
        registry.register(_Collector(self.counts, turns, states))
        body = generate_latest(registry)
        headers = {"content-type": CONTENT_TYPE_PLAIN_0_0_4, "content-length": str(len(body))}
        await forward(ResponseStart(200, headers))
        await forward(ResponseBody(body))


@frozen(eq=False)
class _Collector:
    """The counters as the library reads them."""

    counts: Counts
    turns: Mapping[str, Turns[Any]]
    targets: Mapping[str, State]

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        yield from self._queues()
        yield self._states()

    def _counters(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily

        degraded = CounterMetricFamily(
            "llm_proxy_degraded",
            "Fields of requests that were dropped or changed for a backend.",
            labels=("backend", "field", "what"),
        )
        for labels, number in self.counts.degraded.items():
            degraded.add_metric(labels, number)
        answers = CounterMetricFamily(
            "llm_proxy_answers",
            "Answers to clients, by pipeline and HTTP status.",
            labels=("pipeline", "status"),
        )
        for named, number in self.counts.answers.items():
            answers.add_metric(named, number)
        again = CounterMetricFamily(
            "llm_proxy_tried_again",
            "Requests that failed and were tried again, there or elsewhere.",
            labels=("stage", "backend", "error"),
        )
        for told, number in self.counts.tried_again.items():
            again.add_metric(told, number)
        repaired = CounterMetricFamily(
            "llm_proxy_repaired_tool_calls",
            "Tool calls found in a text, and arguments that were no JSON or did not fit.",
            labels=("backend", "what"),
        )
        for mended, number in self.counts.repaired.items():
            repaired.add_metric(mended, number)
        yield from (degraded, answers, again, repaired)

    def _queues(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily, SummaryMetricFamily

        running = GaugeMetricFamily(
            "llm_proxy_queue_running", "Calls that run at a backend.", labels=("backend",)
        )
        waiting = GaugeMetricFamily(
            "llm_proxy_queue_waiting", "Calls that wait for a backend.", labels=("backend",)
        )
        waited = SummaryMetricFamily(
            "llm_proxy_queue_wait_seconds",
            "How long calls waited for a backend before they began.",
            labels=("backend",),
        )
        for name, turns in self.turns.items():
            running.add_metric((name,), turns.running)
            waiting.add_metric((name,), turns.waiting)
            waited.add_metric((name,), turns.started, turns.waited)
        yield from (running, waiting, waited)

    def _states(self) -> Metric:
        from prometheus_client.core import GaugeMetricFamily

        states = GaugeMetricFamily(
            "llm_proxy_target_state",
            "State of the circuit breaker of each target: 1 for the one it is in.",
            labels=("target", "state"),
        )
        for label, state in self.targets.items():
            for each in STATES:
                states.add_metric((label, each), each == state)
        return states
