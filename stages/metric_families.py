"""The metrics of one process, as metric families of prometheus_client.

prometheus_client is imported in functions: at the top it would take a fifth of the time of
`llm-proxy check`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from attrs import Attribute, fields, frozen

from stages.backends.backend import Backend
from stages.counters import Counters, Histogram
from stages.routing.breaker import STATES, State

if TYPE_CHECKING:
    from prometheus_client.core import Metric


def metric_families(
    counters: Counters,
    backends: Mapping[str, Backend],
    states: Mapping[str, State],
    is_store_up: bool | None = None,
) -> Iterator[Metric]:
    """The counters, histograms and gauges. `states` are those of circuit breakers, by target.

    `is_store_up` is None without a store.
    """
    for each in fields(Counters):
        if "labels" in each.metadata:
            yield _family(each, getattr(counters, each.name))
    yield _config_info(counters.config_digest)
    yield _refused_options(backends)
    yield from _queues(backends)
    yield _target_states(states)
    yield _store_up(is_store_up)


def _family(attribute: Attribute[Any], values: Mapping[tuple[str, ...], Any]) -> Metric:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    name, metadata = f"llm_proxy_{attribute.name}", attribute.metadata
    if not isinstance(values, defaultdict):
        counter = CounterMetricFamily(name, metadata["help"], labels=metadata["labels"])
        for key, number in values.items():
            counter.add_metric(key, number)
        return counter
    histogram = HistogramMetricFamily(name, metadata["help"], labels=metadata["labels"])
    for key, value in values.items():
        histogram.add_metric(key, list(_buckets(value)), value.sum)
    return histogram


def _buckets(histogram: Histogram) -> Iterator[tuple[str, float]]:
    """The cumulative buckets of Prometheus, each with its upper bound."""
    from prometheus_client.utils import floatToGoString

    bounds = (*histogram.bounds, float("inf"))
    return zip(map(floatToGoString, bounds), accumulate(histogram.numbers), strict=True)


def _config_info(digest: str) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(
        "llm_proxy_config_info",
        "Workers that serve the config with this digest.",
        labels=("digest",),
    )
    if digest:
        family.add_metric((digest,), 1)
    return family


def _refused_options(backends: Mapping[str, Backend]) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(
        "llm_proxy_refused_options",
        "Requests that were sent again without an option that the backend had refused.",
        labels=("backend", "option"),
    )
    for name, backend in backends.items():
        for option, number in backend.refusal_counts.items():
            family.add_metric((name, option), number)
    return family


def _queues(backends: Mapping[str, Backend]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    running = GaugeMetricFamily(
        "llm_proxy_queue_running", "Calls that run at a backend.", labels=("backend",)
    )
    waiting = GaugeMetricFamily(
        "llm_proxy_queue_waiting", "Calls that wait for a backend.", labels=("backend",)
    )
    for name, backend in backends.items():
        if backend.queue:
            running.add_metric((name,), backend.queue.running)
            waiting.add_metric((name,), backend.queue.waiting)
    yield from (running, waiting)


def _target_states(states: Mapping[str, State]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(
        "llm_proxy_target_state",
        "State of the circuit breaker of each target: the number of workers in which it has it.",
        labels=("target", "state"),
    )
    for target, state in states.items():
        for each in STATES:
            family.add_metric((target, each), each == state)
    return family


def _store_up(is_up: bool | None) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(
        "llm_proxy_store_up",
        "Whether the shared store responds: the number of workers to which it does.",
    )
    if is_up is not None:
        family.add_metric((), is_up)
    return family


@frozen
class _Renamed:
    """A histogram under a name of the OpenTelemetry conventions for GenAI metrics.

    `constant` are labels with a fixed value.
    """

    name: str
    help: str
    constant: Mapping[str, str] = {}


_GENAI = {
    "llm_proxy_request_seconds": _Renamed(
        "gen_ai_server_request_duration_seconds", "GenAI server request duration."
    ),
    "llm_proxy_first_token_seconds": _Renamed(
        "gen_ai_server_time_to_first_token_seconds", "Time to generate first token."
    ),
    "llm_proxy_output_token_seconds": _Renamed(
        "gen_ai_server_time_per_output_token_seconds",
        "Time per output token generated after the first token.",
    ),
    "llm_proxy_attempt_seconds": _Renamed(
        "gen_ai_client_operation_duration_seconds", "GenAI operation duration."
    ),
    "llm_proxy_prompt_tokens": _Renamed(
        "gen_ai_client_token_usage",
        "Number of input and output tokens used.",
        {"gen_ai_token_type": "input"},
    ),
    "llm_proxy_output_tokens": _Renamed(
        "gen_ai_client_token_usage",
        "Number of input and output tokens used.",
        {"gen_ai_token_type": "output"},
    ),
}


def genai_families(families: Iterable[Metric], backends: Mapping[str, Backend]) -> Iterator[Metric]:
    """The histograms of `families` again, under the names of the GenAI conventions.

    https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/, as Prometheus spells them.
    The provider is the backend's profile. Backends with the same profile and model are added up.
    Requests without a call of a backend are not operations of a model.
    """
    from prometheus_client.core import Metric

    renamed: dict[str, Metric] = {}
    samples: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for family in families:
        if (to := _GENAI.get(family.name)) is None:
            continue
        renamed.setdefault(to.name, Metric(to.name, to.help, "histogram"))
        sums = samples.setdefault(to.name, defaultdict(float))
        for sample in family.samples:
            if sample.labels["backend"]:
                labels = {**to.constant, **_genai_labels(sample.labels, backends)}
                name = sample.name.replace(family.name, to.name)
                sums[name, tuple(labels.items())] += sample.value
    for name, metric in renamed.items():
        for (sample_name, pairs), value in samples[name].items():
            metric.add_sample(sample_name, dict(pairs), value)
        yield metric


def _genai_labels(labels: Mapping[str, str], backends: Mapping[str, Backend]) -> dict[str, str]:
    backend = backends.get(labels["backend"])
    error = labels.get("error", "")
    if (outcome := labels.get("outcome", "complete")) != "complete":
        error = outcome
    return {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": backend.profile.profile if backend else labels["backend"],
        "gen_ai_request_model": labels["model"],
        **({"error_type": error} if error else {}),
        **({"le": labels["le"]} if "le" in labels else {}),
    }
