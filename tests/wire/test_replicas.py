"""Slots and circuit breakers in a real store, with two replicas that are processes."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator

import pytest
from attrs import define, field

from tests.redis_server import needs_server, running_redis
from tests.support import body
from tests.waiting import until
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import error_json, streamed, whole
from tests.wire.client import Client, Response, raw
from tests.wire.command import LIMIT, Command, replicas_of
from tests.wire.counting_backend import CountingBackend, counting_backend
from tests.wire.proxy import METRICS
from tests.wire.test_breaker import targets

pytestmark = needs_server
CONFIG = """
server: {{max_loop_delay: null}}
store: {{url: "{store}", lease: 2, timeout: 1}}
backends:
  one-slot: {{base_url: "{backend}/v1", max_concurrent_calls: 1}}
  failing: {{base_url: "{failing}/v1"}}
  working: {{base_url: "{working}/v1"}}
circuit_breaker: {{failures: 3, cooldown: 600}}
models:
  "*": {{backend: one-slot}}
  two: {{targets: [{{backend: failing, model: a}}, {{backend: working, model: b}}]}}
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      - authenticate: &keys {{keys: [client-key]}}
      - validate
      - resolve
      - fallback
      - translate-in
      - queue: {{max_queued: 1000}}
      - invoke
      - translate-out
      - stream-encode
{metrics}"""


@define
class Replicas:
    """Two proxies and their backends. The clients are closed at the end."""

    proxies: list[Command]
    backend: CountingBackend
    failing: ScriptedBackend
    working: ScriptedBackend
    clients: list[Client] = field(factory=list)

    def send(self, replica: int, model: str = "slot") -> Client:
        client = Client(self.proxies[replica].url)
        self.clients.append(client)
        client.socket.sendall(raw(body(model=model)))
        return client

    def client(self, replica: int) -> contextlib.closing[Client]:
        return contextlib.closing(Client(self.proxies[replica].url))

    def metric(self, replica: int, name: str) -> float:
        with self.client(replica) as client:
            text = client.get("/metrics").body.decode()
        values = re.findall(rf"^{re.escape(name)} (.*)$", text, re.MULTILINE)
        return float(values[0]) if values else 0.0

    def waiting(self, replica: int) -> float:
        return self.metric(replica, 'llm_proxy_queue_waiting{backend="one-slot"}')


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    file = tmp_path_factory.mktemp("replicas") / "pipelines.yaml"
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(counting_backend())
        store = stack.enter_context(running_redis())
        failing, working = ScriptedBackend(), ScriptedBackend()
        stack.callback(failing.close)
        stack.callback(working.close)
        text = CONFIG.format(
            store=store.url,
            backend=backend.url,
            failing=failing.url,
            working=working.url,
            metrics=METRICS,
        )
        file.write_text(text)
        proxies = stack.enter_context(replicas_of(file))
        scene = Replicas(proxies, backend, failing, working)
        yield scene
        for client in scene.clients:
            client.close()


def status(client: Client) -> int:
    return Response.of(client.send(b"")).status


def test_the_backend_never_has_two_calls_at_once(replicas: Replicas) -> None:
    for _ in range(4):
        clients = [replicas.send(n % 2) for n in range(40)]
        for client in clients[::4]:
            client.close()
        assert {status(client) for n, client in enumerate(clients) if n % 4} == {200}
    assert replicas.backend.most == 1
    until(lambda: replicas.waiting(0) + replicas.waiting(1) == 0, "a call still waits")


def test_a_breaker_that_opens_in_one_replica_opens_in_the_other(replicas: Replicas) -> None:
    replicas.failing.says(whole(503, error_json("Loading")))
    replicas.working.says(streamed("Hello"))
    request = body(model="two", stream=True)
    with replicas.client(0) as first, replicas.client(1) as second:
        for _ in range(3):
            assert first.post(request).status == 200
        until(lambda: targets(second).get("failing/a") == {"state": "open"}, "it is not open")
        assert replicas.metric(1, 'llm_proxy_target_state{state="open",target="failing/a"}') == 1
        assert second.post(request).status == 200
    assert len(replicas.failing.requests) == 3


def test_a_killed_replica_loses_its_slot(replicas: Replicas) -> None:
    replicas.backend.seconds = LIMIT
    replicas.send(0)
    until(lambda: replicas.backend.running == 1, "the backend has no call")
    other = replicas.send(1)
    until(lambda: replicas.waiting(1) == 1, "the call does not wait")
    replicas.backend.seconds = 0.001
    replicas.proxies[0].send_signal(signal.SIGKILL)
    assert status(other) == 200
