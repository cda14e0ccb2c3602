"""Limits in a real store, with two replicas that are processes of their own."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import define, field

from tests.redis_server import RedisServer, needs_server, running_redis
from tests.support import body
from tests.waiting import until
from tests.wire.backend import Act, ScriptedBackend
from tests.wire.chat import completion, delta, head, sse, whole
from tests.wire.client import Client, Response, raw
from tests.wire.command import Command, replicas_of
from tests.wire.proxy import METRICS

pytestmark = needs_server
CLIENTS = 200
LEASE = 2.0
#: Seconds. The default would be too short on a busy machine: the store gets no time to run.
TIMEOUT = 1.0
CONFIG = """
server: {{max_loop_delay: null}}
store: {{url: "{store}", lease: {lease}, timeout: {timeout}}}
backends:
  scripted: {{base_url: "{backend}/v1"}}
models:
  "*": {{backend: scripted}}
limits:
  models:
    calls: {{requests_per_day: 100}}
    tokens: {{tokens_per_day: 1_000_000}}
    frozen: {{requests_per_day: 100_000}}
    streams: {{concurrent_requests: 20, requests_per_day: 100_000}}
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      - authenticate: &keys {{keys: [client-key]}}
      - validate
      - resolve
      - limit
      - translate-in
      - invoke
      - translate-out
      - stream-encode
{metrics}"""


@define
class Replicas:
    """Two proxies, their store and their backend. The clients are closed at the end of a test."""

    proxies: list[Command]
    store: RedisServer
    backend: ScriptedBackend
    clients: list[Client] = field(factory=list)

    def client(self, replica: int) -> Client:
        self.clients.append(Client(self.proxies[replica].url))
        return self.clients[-1]

    def statuses(self, model: str, **changes: Any) -> Counter[int]:
        """Send requests on 200 connections to both, and only then read the responses."""
        clients = [self.client(n % 2) for n in range(CLIENTS)]
        data = raw(body(model=model, **changes))
        for client in clients:
            client.socket.sendall(data)
        return Counter(Response.of(client.send(b"")).status for client in clients)

    def lines(self, replica: int) -> list[str]:
        """The lines of a log about the store."""
        return [line for line in self.proxies[replica].log if re.search(r"\bstore valkey", line)]

    def store_up(self, replica: int) -> str:
        text = self.client(replica).get("/metrics").body.decode()
        [line] = re.findall(r"^llm_proxy_store_up (.*)$", text, re.MULTILINE)
        return str(line)


def store_in(ready: Response) -> str:
    return str(json.loads(ready.body)["store"]["state"])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("replicas")
    with contextlib.ExitStack() as stack:
        backend = ScriptedBackend()
        stack.callback(backend.close)
        store = stack.enter_context(running_redis())
        text = CONFIG.format(
            store=store.url,
            lease=LEASE,
            timeout=TIMEOUT,
            backend=backend.url,
            metrics=METRICS,
        )
        (folder / "pipelines.yaml").write_text(text)
        proxies = stack.enter_context(replicas_of(folder / "pipelines.yaml"))
        yield Replicas(proxies, store, backend)


@pytest.fixture
def replicas(both: Replicas) -> Iterator[Replicas]:
    yield both
    for client in both.clients:
        client.close()
    both.clients.clear()
    both.backend.forget()


def test_200_clients_of_two_replicas_get_100_requests(replicas: Replicas) -> None:
    replicas.backend.says(whole(200, completion()))

    numbers = replicas.statuses("calls")
    assert numbers == {200: 100, 429: 100}
    assert len(replicas.backend.requests) == 100


def test_a_million_tokens_are_50_calls_of_20000_to_two_replicas(replicas: Replicas) -> None:
    usage = {"prompt_tokens": 19_000, "completion_tokens": 1_000}
    replicas.backend.says(whole(200, {**completion(), "usage": usage}))
    messages = [{"role": "user", "content": "x" * 76_000}]
    numbers = replicas.statuses("tokens", messages=messages, max_tokens=1000)

    assert numbers[200] == len(replicas.backend.requests)
    assert 49 <= numbers[200] <= 50
    until(lambda: all(replicas.lines(n) for n in range(2)))
    assert [len(replicas.lines(n)) for n in range(2)] == [1, 1], "the store was never lost"


def test_a_frozen_store_is_logged_once_and_no_request_waits(replicas: Replicas) -> None:
    replicas.backend.says(whole(200, completion()))
    clients = [replicas.client(n) for n in range(2)]
    seconds = []
    with replicas.store.frozen():
        for n in range(40):
            started = time.monotonic()
            assert clients[n % 2].post(body(model="frozen")).status == 200
            seconds.append(time.monotonic() - started)
        assert replicas.store_up(0) == "0.0"
        ready = clients[0].get("/health/ready")
        assert ready.status == 200
        assert re.fullmatch(r"no response in \d{4} ms", store_in(ready))
    until(lambda: replicas.store_up(0) == replicas.store_up(1) == "1.0")
    assert sum(each > TIMEOUT * 0.9 for each in seconds) <= 2, "one request of each replica waits"
    until(lambda: all(len(replicas.lines(n)) >= 3 for n in range(2)))
    for n in range(2):
        _, lost, back = replicas.lines(n)
        assert "each process counts alone" in lost
        assert " again, after" in back
    assert store_in(clients[0].get("/health/ready")) == "ready"


def test_the_streams_of_a_killed_replica_are_free_after_the_lease(replicas: Replicas) -> None:
    replicas.backend.says(head(), sse(delta(content="Hello")), Act.UNTIL_CLOSED)
    for _ in range(20):
        client = replicas.client(0)
        client.send(raw(body(model="streams", stream=True)))
        assert client.event()["type"] == "message_start"
    replicas.backend.responses = [[whole(200, completion())]]
    assert replicas.client(1).post(body(model="streams")).status == 429
    replicas.proxies[0].send_signal(signal.SIGKILL)
    killed = time.monotonic()

    until(lambda: replicas.client(1).post(body(model="streams")).status == 200)
    assert time.monotonic() - killed + 0.5 > LEASE * 2 / 3
