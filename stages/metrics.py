"""The stage `metrics`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import anyio
from attrs import Factory, frozen

from pipeline import Send, Stage, option, section
from stages.backends.backend import Backend
from stages.counters import Counters
from stages.events import Authenticated, HttpResponse, ResponseBody, ResponseStart
from stages.metric_families import genai_families, metric_families
from stages.routing.breaker import Breakers
from stages.shared_store.section import Store

if TYPE_CHECKING:
    from prometheus_client.core import Metric


@frozen
class Metrics(Stage[Authenticated, HttpResponse]):
    """Report the counters since the start, in the text format of Prometheus.

    With several workers each response has the sums of all workers.
    """

    counts: Counters = section("metrics")
    backends: Mapping[str, Backend] = section("backends", Factory(dict))
    breakers: Breakers = section("circuit_breaker", Factory(Breakers))
    store: Store = section("store", Factory(Store))
    genai_names: bool = option(
        False, help="report histograms also under the names of OpenTelemetry's GenAI conventions"
    )
    stage_times: bool = option(
        False, help="measure the time of each stage of each pipeline, for `llm_proxy_stage_seconds`"
    )

    async def handle(self, event: Authenticated, forward: Send[HttpResponse]) -> None:
        # Imported here: at the top it would take a fifth of the time of `llm-proxy check`.
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

        states = self.breakers.states(anyio.current_time())
        families = list(metric_families(self.counts, self.backends, states, self.store.is_up))
        if shared := self.counts.shared:
            shared.publish(families)
            families = list(shared.sums())
        if self.genai_names:
            families += genai_families(families, self.backends)
        registry = CollectorRegistry()  # not the library's global one
        registry.register(_Collector([family for family in families if family.samples]))
        body = generate_latest(registry)
        headers = {"content-type": CONTENT_TYPE_PLAIN_0_0_4, "content-length": str(len(body))}
        await forward(ResponseStart(200, headers))
        await forward(ResponseBody(body))


@frozen(eq=False)
class _Collector:
    """Metric families, as a collector of prometheus_client."""

    families: Sequence[Metric]

    def collect(self) -> Iterator[Metric]:
        return iter(self.families)
