"""The stage `metrics`, and what is counted for it."""

from __future__ import annotations

from typing import Any

import anyio
from prometheus_client.parser import text_string_to_metric_families

from pipeline.testing import check_stage, run_stage
from stages.backends.backend import Backend
from stages.backends.call_queue import QueuedCall
from stages.counters import Counters
from stages.events import Authenticated, ResponseBody, ResponseStart
from stages.exchange import Attempt
from stages.metrics import Metrics
from stages.routing.breaker import Breakers
from stages.translate_in import TranslateIn
from tests.support import backend, http, resolved

ASKING = Authenticated(http(method="GET"))


async def samples(
    counts: Counters, breakers: Breakers | None = None, **backends: Backend
) -> dict[tuple[str, ...], float]:
    """Each sample: its name and labels, and its value."""
    stage = Metrics(counts, backends, breakers or Breakers())
    start, body = await run_stage(stage, [ASKING])
    assert isinstance(start, ResponseStart)
    assert isinstance(body, ResponseBody)
    assert start.headers["content-length"] == str(len(body.data))
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body.data.decode())
        for sample in family.samples
    }


async def test_it_keeps_to_the_contract() -> None:
    await check_stage(Metrics(Counters()), [ASKING])


async def test_without_a_count_nothing_is_reported() -> None:
    assert await samples(Counters()) == {}


async def test_fields_are_counted_by_policy_not_by_client_names() -> None:
    counts = Counters()
    stage = TranslateIn({"fake": backend()})
    search = {"type": "web_search_20250305", "name": "web_search"}
    warning = TranslateIn({"fake": backend(fields={"server_tools.alone": "warn"})})
    cases: list[tuple[TranslateIn, dict[str, Any]]] = [
        *((stage, {name: 1, "top_k": 1}) for name in ("x" * 100, 'new"line\n')),
        (warning, {"tools": [search]}),
        (stage, {}),
    ]
    for translate, changes in cases:
        event = resolved(**changes)
        event.exchange.attempts.append(Attempt(event.target, sent=0))
        await run_stage(translate, [event])
        counts.count(event.exchange)

    counted = await samples(counts)

    assert {key: n for key, n in counted.items() if "degraded" in key[0]} == {
        ("llm_proxy_degraded_total", "fake", "unknown", "dropped"): 2,
        ("llm_proxy_degraded_total", "fake", "top_k", "dropped"): 2,
        ("llm_proxy_degraded_total", "fake", "server_tools.alone", "dropped"): 1,
    }


async def test_backends_with_slots_report_how_many_calls_run_and_wait() -> None:
    gpu = backend(max_concurrent_calls=1)
    assert gpu.queue is not None
    for _ in range(3):
        await gpu.queue.enter(QueuedCall(("key-1", ""), short=False), max_queued=2)
    assert await samples(Counters(), gpu=gpu, other=backend()) == {
        ("llm_proxy_queue_running", "gpu"): 1,
        ("llm_proxy_queue_waiting", "gpu"): 2,
    }


async def test_second_tries_and_the_state_of_each_target_are_reported() -> None:
    counts, breakers = Counters(), Breakers(failures=1)
    counts.retries["retry", "fake", "overloaded"] += 3
    now = anyio.current_time()
    breakers.get("one/m").attempt(now).failed(now)
    breakers.get("two").attempt(now).succeeded()
    assert await samples(counts, breakers) == {
        ("llm_proxy_retries_total", "fake", "overloaded", "retry"): 3,
        ("llm_proxy_target_state", "closed", "one/m"): 0,
        ("llm_proxy_target_state", "open", "one/m"): 1,
        ("llm_proxy_target_state", "half-open", "one/m"): 0,
        ("llm_proxy_target_state", "closed", "two"): 1,
        ("llm_proxy_target_state", "open", "two"): 0,
        ("llm_proxy_target_state", "half-open", "two"): 0,
    }


async def test_tokens_are_reported_by_backend_and_kind() -> None:
    counts = Counters()
    counts.tokens["fake", "cache_read"] += 8
    assert await samples(counts) == {("llm_proxy_tokens_total", "fake", "cache_read"): 8}


async def test_repaired_tool_calls_are_counted() -> None:
    counts = Counters()
    counts.repaired_tool_calls["fake", "found"] += 2
    repairs = await samples(counts)
    assert repairs == {("llm_proxy_repaired_tool_calls_total", "fake", "found"): 2}
