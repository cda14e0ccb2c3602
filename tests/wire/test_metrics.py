"""Degradations are in a header, in the log and in the metrics; tokens are in the last two."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support import body
from tests.waiting import logged
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import completion, whole
from tests.wire.client import Client
from tests.wire.proxy import METRICS, config_text, proxy

USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 8},
}


def test_degradations_are_reported_in_three_ways(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llm_proxy")
    backend = ScriptedBackend()
    with proxy(tmp_path, config_text(backend.url) + METRICS) as url:
        client = Client(url)
        for brand_new in ("one\n", "two"):
            backend.says(whole(200, {**completion(), "usage": USAGE}))
            answer = client.post(body(top_k=3, **{brand_new: 1}))
        refused = client.post(body(max_tokens=-1))
        logged(caplog, refused.headers["request-id"])  # it is counted before it is logged
        reported = client.get("/metrics")
        keyless = client.get("/metrics", **{"x-api-key": "wrong"})
        client.close()
    backend.close()

    assert answer.headers["x-llm-proxy-degraded"] == "top_k:dropped, two:dropped"
    lines = [line for line in caplog.messages if " degraded=" in line]
    assert len(lines) == 2
    assert " backend=scripted backend_model=some-model prompt=12 cached=8 output=3 " in lines[1]
    assert lines[1].startswith(f"{answer.headers['request-id']} POST /v1/messages 200 ")
    assert lines[1].endswith(" degraded=top_k:dropped,two:dropped")
    assert lines[0].endswith(' degraded="top_k:dropped,one\\n:dropped"')
    assert (refused.status, keyless.status) == (400, 401)
    assert reported.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(reported.body.decode())
        for sample in family.samples
        if "histogram" not in family.type and family.name != "llm_proxy_config_info"
    }
    assert samples == {
        ("llm_proxy_degraded_total", "scripted", "top_k", "dropped"): 2,
        ("llm_proxy_degraded_total", "scripted", "unknown", "dropped"): 2,
        ("llm_proxy_tokens_total", "scripted", "input"): 8,
        ("llm_proxy_cached_prompt_tokens_total", "scripted", "some-model"): 16,
        ("llm_proxy_tokens_total", "scripted", "cache_read"): 16,
        ("llm_proxy_tokens_total", "scripted", "cache_creation"): 0,
        ("llm_proxy_tokens_total", "scripted", "output"): 6,
        ("llm_proxy_responses_total", "messages", "200"): 2,
        ("llm_proxy_responses_total", "messages", "400"): 1,
    }
