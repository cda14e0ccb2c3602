"""Circuit breakers in a real store, with two replicas that are processes of their own."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.redis_server import needs_server, running_redis
from tests.support import body
from tests.waiting import until
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import error_json, streamed, whole
from tests.wire.client import Client
from tests.wire.command import replicas_of
from tests.wire.test_breaker import targets
from tests.wire.test_fallback import config_for

pytestmark = needs_server


def test_a_breaker_that_opens_in_one_replica_opens_in_the_other(tmp_path: Path) -> None:
    file = tmp_path / "pipelines.yaml"
    with contextlib.ExitStack() as stack:
        failing, working = ScriptedBackend(), ScriptedBackend()
        stack.callback(failing.close)
        stack.callback(working.close)
        failing.says(whole(503, error_json("Loading")))
        working.says(streamed("Hello"))
        store = stack.enter_context(running_redis())
        text = config_for(failing, working, breaker="{failures: 3, cooldown: 600}")
        file.write_text(f'store: {{url: "{store.url}", timeout: 1}}\n{text}')
        replicas = stack.enter_context(replicas_of(file))
        first, second = [
            stack.enter_context(contextlib.closing(Client(replica.url))) for replica in replicas
        ]
        for _ in range(3):
            assert first.post(body(stream=True)).status == 200
        until(lambda: targets(second).get("one/a") == {"state": "open"}, "it is not open")
        metrics = second.get("/metrics").body.decode()
        assert 'llm_proxy_target_state{state="open",target="one/a"} 1.0' in metrics
        assert second.post(body(stream=True)).status == 200
        assert len(failing.requests) == 3
