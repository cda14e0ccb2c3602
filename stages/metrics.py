"""The stage `metrics`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import anyio
from attrs import Factory, fields, frozen

from pipeline import Send, Stage, section
from stages.backends.backend import Backend
from stages.backends.fair_queue import FairQueue
from stages.counters import Counters
from stages.events import Authenticated, HttpResponse, ResponseBody, ResponseStart
from stages.routing.breaker import STATES, Breakers, State

if TYPE_CHECKING:
    from prometheus_client.core import Metric


@frozen
class Metrics(Stage[Authenticated, HttpResponse]):
    """Report the counters since the start, in the text format of Prometheus."""

    counts: Counters = section("metrics")
    backends: Mapping[str, Backend] = section("backends", Factory(dict))
    breakers: Breakers = section("circuit_breaker", Factory(Breakers))

    async def handle(self, event: Authenticated, forward: Send[HttpResponse]) -> None:
        # Imported here: at the top it would take a fifth of the time of `llm-proxy check`.
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

        registry = CollectorRegistry()  # not the library's global one
        queues = {name: backend.queue for name, backend in self.backends.items() if backend.queue}
        states = self.breakers.states(anyio.current_time())
        refused = {
            name: each.refusal_counts for name, each in self.backends.items() if each.refusal_counts
        }
        registry.register(_Collector(self.counts, queues, states, refused))
        body = generate_latest(registry)
        headers = {"content-type": CONTENT_TYPE_PLAIN_0_0_4, "content-length": str(len(body))}
        await forward(ResponseStart(200, headers))
        await forward(ResponseBody(body))


@frozen(eq=False)
class _Collector:
    """The counters, as a collector of prometheus_client."""

    counts: Counters
    queues: Mapping[str, FairQueue[Any]]
    targets: Mapping[str, State]
    refused: Mapping[str, Mapping[str, int]]

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        if self.refused:
            yield self._refused_options()
        yield from self._queues()
        yield self._states()

    def _counters(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily

        for each in fields(Counters):
            description, labels = each.metadata["help"], each.metadata["labels"]
            family = CounterMetricFamily(f"llm_proxy_{each.name}", description, labels=labels)
            for key, number in getattr(self.counts, each.name).items():
                family.add_metric(key, number)
            yield family

    def _refused_options(self) -> Metric:
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(
            "llm_proxy_refused_options",
            "Requests that were sent again without an option that the backend had refused.",
            labels=("backend", "option"),
        )
        for backend, options in self.refused.items():
            for option, number in options.items():
                family.add_metric((backend, option), number)
        return family

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
            "Seconds that calls waited for a backend.",
            labels=("backend",),
        )
        for name, queue in self.queues.items():
            running.add_metric((name,), queue.running)
            waiting.add_metric((name,), queue.waiting)
            waited.add_metric((name,), queue.started, queue.waited)
        yield from (running, waiting, waited)

    def _states(self) -> Metric:
        from prometheus_client.core import GaugeMetricFamily

        states = GaugeMetricFamily(
            "llm_proxy_target_state",
            "State of the circuit breaker of each target: 1 for the current state.",
            labels=("target", "state"),
        )
        for label, state in self.targets.items():
            for each in STATES:
                states.add_metric((label, each), each == state)
        return states
