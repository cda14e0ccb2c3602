"""The queries of deploy/grafana-dashboard.json name metrics and labels that the proxy reports."""

from __future__ import annotations

import json
import re
from pathlib import Path

from stages.counters import Counters
from stages.exchange import Attempt, Degradation, Exchange, Repeat, StageRun, Target
from stages.messages_api.usage import Usage
from stages.metric_families import metric_families
from tests.cases import for_each
from tests.support import backend

DASHBOARD = json.loads(
    (Path(__file__).parent.parent / "deploy" / "grafana-dashboard.json").read_text()
)
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
_WORDS = re.compile(r"\b[a-z_]+\b")
#: Words of PromQL in the queries.
_PROMQL = {"sum", "by", "rate", "histogram_quantile"}


def reported() -> dict[str, set[str]]:
    """Each metric that the proxy can report, with its labels."""
    target = Target("gpu", "qwen3")
    exchange = Exchange(pipeline="messages", stream=True, status=200, received=1.0)
    exchange.attempts.append(Attempt(target, sent=1.0, ended=4.0))
    exchange.repeats.append(Repeat("retry", target, "overloaded"))
    exchange.degradations = (Degradation("top_k", "dropped", "top_k"),)
    exchange.repaired_calls.append("found")
    exchange.queued, exchange.accepted, exchange.first_token, exchange.ended = 1.0, 2.0, 3.0, 4.0
    exchange.usage, exchange.outcome = Usage(1, 3), "complete"
    exchange.longest_gap = 0.5
    exchange.stages.append(StageRun("invoke", 1.0, 3.0))
    counters, gpu = Counters(), backend(max_concurrent_calls=1)
    counters.count(exchange)
    counters.shed[()] += 1
    gpu.refusal_counts["top_k"] += 1
    families = metric_families(counters, {"gpu": gpu}, {"gpu/qwen3": "open"})
    samples = [sample for family in families for sample in family.samples]
    return {sample.name: set(sample.labels) for sample in samples}


REPORTED = reported()


@for_each("query", QUERIES)
def test_each_query_names_metrics_and_labels_that_exist(query: str) -> None:
    text = re.sub(r'"[^"]*"|\$\w+', "", query)
    names = set(_WORDS.findall(text)) - _PROMQL
    metrics = {name for name in names if name.startswith("llm_proxy_")}

    assert metrics
    assert metrics <= REPORTED.keys()
    labels = {label for metric in metrics for label in REPORTED[metric]}
    assert names - metrics <= labels
    for grouped in re.findall(r"by \(([^)]*)\)", text):  # every metric of a query has them
        assert set(_WORDS.findall(grouped)) <= set.intersection(*(REPORTED[m] for m in metrics))


def test_each_metric_is_in_a_query() -> None:
    families = {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in REPORTED}

    assert [name for name in sorted(families) if not any(name in query for query in QUERIES)] == []


def test_each_panel_has_an_id_and_a_place_of_its_own() -> None:
    panels = DASHBOARD["panels"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
