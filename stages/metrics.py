"""The stage `metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from attrs import frozen

from pipeline import Send, Stage, section
from stages.counts import Counts
from stages.events import Authenticated, HttpResponse, ResponseBody, ResponseStart

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily


@frozen
class Metrics(Stage[Authenticated, HttpResponse]):
    """Tells what was counted since the start, in the format of Prometheus."""

    counts: Counts = section("metrics")

    async def handle(self, event: Authenticated, forward: Send[HttpResponse]) -> None:
        # Imported only now: it would make up a fifth of the time of `llm-proxy check`.
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

        registry = CollectorRegistry()  # the library's default one would be shared by all there are
        registry.register(_Collector(self.counts))
        body = generate_latest(registry)
        headers = {"content-type": CONTENT_TYPE_PLAIN_0_0_4, "content-length": str(len(body))}
        await forward(ResponseStart(200, headers))
        await forward(ResponseBody(body))


@frozen
class _Collector:
    """The counters as the library reads them."""

    counts: Counts

    def collect(self) -> Iterator[CounterMetricFamily]:
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
        yield from (degraded, answers)
