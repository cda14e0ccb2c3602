"""The circuit breakers of a proxy, seen from outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support import body
from tests.wire.backend import Act, ScriptedBackend
from tests.wire.chat import HELLO, error_json, head, streamed, whole
from tests.wire.client import Client
from tests.wire.command import Reloadable
from tests.wire.proxy import proxy
from tests.wire.test_fallback import Pair, config_for


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair(ScriptedBackend(), ScriptedBackend(), "")
    made.two.says(streamed("Hello"))
    yield made
    made.one.close()
    made.two.close()


def targets(client: Client) -> Any:
    """The state of the targets in /health/ready."""
    return json.loads(client.get("/health/ready").body)["targets"]


def test_a_failing_target_gets_no_requests_and_is_reported(tmp_path: Path, pair: Pair) -> None:
    one, two = pair.one, pair.two
    one.says(head(), HELLO, Act.RESET)
    with proxy(tmp_path, config_for(one, two, breaker="{failures: 2, cooldown: 600}")) as url:
        client = Client(url)
        last = [client.post(body(stream=True)).events[-1]["type"] for _ in range(4)]
        reported = client.get("/metrics").body.decode()
        ready = targets(client)
        client.close()
    assert last == ["error", "error", "message_stop", "message_stop"]
    assert (len(one.requests), len(two.requests)) == (2, 2)
    states = {
        (sample.labels["target"], sample.labels["state"])
        for family in text_string_to_metric_families(reported)
        for sample in family.samples
        if sample.name == "llm_proxy_target_state" and sample.value
    }
    assert states == {("one/a", "open"), ("two/b", "closed")}
    assert ready == {"one/a": {"state": "open"}, "two/b": {"state": "closed"}}


def test_a_reload_keeps_the_breakers_of_unchanged_targets(
    reloadable: Reloadable, pair: Pair
) -> None:
    pair.one.says(whole(503, error_json("Loading")))
    text = config_for(pair.one, pair.two, breaker="{failures: 1, cooldown: 600}")
    reloadable.load(text)
    client = Client(reloadable.url)
    assert client.post(body(stream=True)).status == 200
    states = {"one/a": {"state": "open"}, "two/b": {"state": "closed"}}
    assert targets(client) == states

    reloadable.load(text.replace("claude-lost", "claude-new"))
    assert targets(client) == states
    assert client.post(body(stream=True)).status == 200
    client.close()
    assert (len(pair.one.requests), len(pair.two.requests)) == (1, 2)
