"""The histograms of finished exchanges, their labels, and their names by OpenTelemetry."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from attrs import evolve
from prometheus_client.parser import text_string_to_metric_families

from pipeline.testing import run_stage
from stages.backends.backend import Backend
from stages.counters import Counters
from stages.events import Authenticated, ResponseBody
from stages.exchange import Attempt, Degradation, Exchange, Repeat, StageRun, Target
from stages.messages_api.usage import Usage
from stages.metrics import Metrics
from stages.usage.rows import rows
from tests.cases import for_each
from tests.support import backend, http

GPU = Target("gpu", "qwen3")
USAGE = Usage(input_tokens=100, output_tokens=11, cache_read_input_tokens=400)
Samples = dict[str, list[tuple[dict[str, str], float]]]


def exchange(**changes: Any) -> Exchange:
    """A stream that was queued for 2 s, with its first token after 3 s and its end after 5 s."""
    ended = Exchange(
        pipeline="messages", model="client-name", stream=True, status=200, received=1000.0
    )
    ended.attempts.append(Attempt(GPU, sent=1002.0, first_byte=1002.5, ended=1005.0))
    ended.queued, ended.accepted, ended.first_token = 1000.0, 1002.0, 1003.0
    ended.usage, ended.ended, ended.outcome = USAGE, 1005.5, "complete"
    ended.longest_gap = 1.5
    for name, value in changes.items():
        setattr(ended, name, value)
    return ended


def counted(*exchanges: Exchange) -> Counters:
    counters = Counters()
    counters.model_names = frozenset({"qwen3"})
    for each in exchanges:
        counters.count(each)
    return counters


async def scrape(counters: Counters, genai: bool = False, **backends: Backend) -> Samples:
    stage = Metrics(counters, backends, genai_names=genai)
    body = (await run_stage(stage, [Authenticated(http(method="GET"))]))[1]
    assert isinstance(body, ResponseBody)
    samples: Samples = {}
    for family in text_string_to_metric_families(body.data.decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


OF_GPU = {"backend": "gpu", "model": "qwen3"}


@for_each(
    ("name", "labels", "value"),
    [
        ("request_seconds", {"pipeline": "messages", **OF_GPU, "outcome": "complete"}, 5.5),
        ("attempt_seconds", {**OF_GPU, "error": ""}, 3.0),
        ("queue_wait_seconds", {"backend": "gpu"}, 2.0),
        ("first_token_seconds", OF_GPU, 3.0),
        ("output_token_seconds", OF_GPU, 0.2),
        ("gap_seconds", {"backend": "gpu"}, 1.5),
        ("prompt_tokens", OF_GPU, 500),
        ("output_tokens", OF_GPU, 11),
    ],
)
async def test_an_exchange_is_in_each_histogram(
    name: str, labels: dict[str, str], value: float
) -> None:
    samples = await scrape(counted(exchange(), exchange()))

    assert samples[f"llm_proxy_{name}_count"] == [(labels, 2)]
    [(_, total)] = samples[f"llm_proxy_{name}_sum"]
    assert total == pytest.approx(2 * value)
    buckets = {float(each.pop("le")): n for each, n in samples[f"llm_proxy_{name}_bucket"]}
    assert buckets == {bound: 2 if bound >= value else 0 for bound in buckets}
    assert {0, 2} == set(buckets.values())


async def test_each_attempt_counts_and_the_request_counts_for_the_last_one() -> None:
    other = Attempt(Target("other", "unnamed"), sent=1000.0, ended=1001.0, error="overloaded")
    fallen_back = exchange()
    fallen_back.attempts.insert(0, other)
    fallen_back.repeats.append(Repeat("fallback", other.target, "overloaded"))

    samples = await scrape(counted(fallen_back))

    assert samples["llm_proxy_attempt_seconds_count"] == [
        ({"backend": "other", "model": "other", "error": "overloaded"}, 1),
        ({**OF_GPU, "error": ""}, 1),
    ]
    assert [labels["backend"] for labels, _ in samples["llm_proxy_request_seconds_count"]] == [
        "gpu"
    ]


async def test_tokens_of_each_attempt_count_as_in_the_usage_record() -> None:
    broken_off = Usage(input_tokens=100, output_tokens=4, cache_read_input_tokens=20)
    refused = Attempt(Target("gpu", "qwen3"), sent=1001.0, ended=1001.5, error="overloaded")
    fallen_back = exchange()
    fallen_back.attempts[:0] = [
        Attempt(Target("other", "m"), 1000.0, ended=1001.0, error="broken", usage=broken_off),
        refused,
    ]
    counters = counted(fallen_back)

    samples = await scrape(counters)

    recorded: Counter[tuple[str, str]] = Counter()
    for row in rows(fallen_back):
        recorded[row.backend, "input"] += row.input_tokens
        recorded[row.backend, "cache_read"] += row.cache_read_tokens
        recorded[row.backend, "output"] += row.output_tokens
    assert +counters.tokens == +recorded
    assert recorded["other", "output"] == 4
    assert samples["llm_proxy_cached_prompt_tokens_total"] == [
        ({"backend": "other", "model": "other"}, 20),
        (OF_GPU, 400),
    ]
    assert samples["llm_proxy_prompt_tokens_count"] == [
        ({"backend": "other", "model": "other"}, 1),
        (OF_GPU, 1),
    ]


async def test_a_response_without_a_stream_has_no_time_per_token() -> None:
    samples = await scrape(counted(exchange(stream=False)))

    assert "llm_proxy_first_token_seconds_count" not in samples
    assert "llm_proxy_gap_seconds_count" not in samples
    assert "llm_proxy_output_token_seconds_count" not in samples


async def test_a_stream_that_ends_early_has_no_time_per_token() -> None:
    samples = await scrape(counted(exchange(outcome="client_disconnected")))

    assert samples["llm_proxy_first_token_seconds_count"] == [(OF_GPU, 1)]
    assert "llm_proxy_output_token_seconds_count" not in samples


async def test_a_request_that_reaches_no_backend_has_a_duration() -> None:
    refused = Exchange(pipeline="messages", status=401, received=5.0, ended=5.25, outcome="error")

    samples = await scrape(counted(refused))

    labels = {"pipeline": "messages", "backend": "", "model": "", "outcome": "error"}
    assert samples["llm_proxy_request_seconds_count"] == [(labels, 1)]
    assert samples.keys() == {
        "llm_proxy_responses_total",
        *(f"llm_proxy_request_seconds_{part}" for part in ("bucket", "count", "sum")),
    }


async def test_a_stream_of_one_part_has_no_gap() -> None:
    samples = await scrape(counted(exchange(longest_gap=0.0)))

    assert "llm_proxy_gap_seconds_count" not in samples


async def test_a_stage_has_a_time_until_it_forwards_or_fails() -> None:
    """A stage that gets the request a second time counts twice."""
    runs = [
        StageRun("validate", 10.0, 10.25, 15.0),
        StageRun("invoke", 10.25, None, 10.75),
        StageRun("invoke", 12.0, 13.0, 15.0),
    ]

    samples = await scrape(counted(exchange(stages=runs)))

    counts = {labels["stage"]: n for labels, n in samples["llm_proxy_stage_seconds_count"]}
    sums = {labels["stage"]: n for labels, n in samples["llm_proxy_stage_seconds_sum"]}
    assert counts == {"validate": 1, "invoke": 2}
    assert sums == {"validate": 0.25, "invoke": 1.5}
    assert samples["llm_proxy_stage_seconds_count"][0][0]["pipeline"] == "messages"


async def test_a_request_that_is_refused_has_times_of_stages() -> None:
    refused = Exchange(pipeline="messages", status=401, received=5.0, ended=5.25, outcome="error")
    refused.stages.append(StageRun("authenticate", 5.0, None, 5.25))

    samples = await scrape(counted(refused))

    labels = {"pipeline": "messages", "stage": "authenticate"}
    assert samples["llm_proxy_stage_seconds_sum"] == [(labels, 0.25)]


async def test_ten_thousand_names_of_clients_add_no_series() -> None:
    def chosen(name: str) -> Exchange:
        return exchange(
            attempts=[Attempt(Target("gpu", name), sent=1002.0, ended=1005.0)],
            degradations=(Degradation(name, "dropped", "unknown"),),
            **dict.fromkeys(("model", "session", "agent", "parent_agent", "path"), name),
        )

    counters = counted(exchange(), chosen("first"))
    before = await scrape(counters, genai=True)
    for n in range(10_000):
        counters.count(chosen(f"model-{n}"))
    after = await scrape(counters, genai=True)

    assert {name: len(series) for name, series in after.items()} == {
        name: len(series) for name, series in before.items()
    }
    assert "model-1" not in str(after)
    models = {labels["model"]: n for labels, n in after["llm_proxy_prompt_tokens_count"]}
    assert models == {"qwen3": 1, "other": 10_001}


async def test_the_genai_names_are_a_second_set_with_an_option() -> None:
    counters = counted(exchange(), exchange(outcome="error"))
    plain = await scrape(counters)
    samples = await scrape(counters, genai=True, gpu=backend(profile="vllm"))

    assert not [name for name in plain if name.startswith("gen_ai")]
    assert plain.items() <= samples.items()
    common = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "vllm",
        "gen_ai_request_model": "qwen3",
    }
    assert samples["gen_ai_server_request_duration_seconds_count"] == [
        (common, 1),
        ({**common, "error_type": "error"}, 1),
    ]
    assert samples["gen_ai_client_operation_duration_seconds_sum"] == [(common, 6)]
    assert samples["gen_ai_server_time_to_first_token_seconds_count"] == [(common, 2)]
    assert samples["gen_ai_server_time_per_output_token_seconds_count"] == [(common, 1)]
    assert samples["gen_ai_client_token_usage_sum"] == [
        ({"gen_ai_token_type": "input", **common}, 1000),  # with the cached tokens
        ({"gen_ai_token_type": "output", **common}, 22),
    ]


async def test_genai_adds_up_backends_with_one_profile_and_model() -> None:
    second = exchange(attempts=[evolve(exchange().attempts[0], target=Target("gpu2", "qwen3"))])
    served = {name: backend(profile="vllm") for name in ("gpu", "gpu2")}

    samples = await scrape(counted(exchange(), second), genai=True, **served)

    [(_, number)] = samples["gen_ai_server_request_duration_seconds_count"]
    assert number == 2


async def test_cached_tokens_of_prompts_are_counted_by_model() -> None:
    samples = await scrape(counted(exchange(), exchange()))
    assert samples["llm_proxy_cached_prompt_tokens_total"] == [(OF_GPU, 800)]
