"""Several workers behave as one proxy. Real processes, real sockets."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define, field

from proxy.coordinator.link import TIMEOUT
from tests.support import body
from tests.waiting import until
from tests.wire.client import Client, Response, raw
from tests.wire.command import LIMIT, Command, command
from tests.wire.counting_backend import CountingBackend, counting_backend

WORKERS = 2
CONFIG = """
server: {{max_loop_delay: null}}
backends:
  one-slot: {{base_url: "{url}/one", max_concurrent_calls: 1}}
  free: {{base_url: "{url}/free"}}
models:
  "slot*": {{backend: one-slot}}
  "*": {{backend: free}}
limits:
  models:
    hundred: {{requests_per_day: 100}}
    stopped: {{requests_per_day: 1_000_000}}
    place: {{concurrent_requests: 1}}
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      - authenticate: {{keys: [client-key]}}
      - validate
      - resolve
      - stages_of_test:Worker
      - limit
      - fallback
      - translate-in
      - queue: {{max_queued: 1000}}
      - invoke
      - translate-out
      - stream-encode
  metrics: {{route: GET /metrics, stages: [authenticate: {{keys: [client-key]}}, metrics]}}
"""
#: Writes a file for each request, with the process id of its worker.
STAGES = """
import os
from pathlib import Path

from attrs import frozen

from pipeline import Send, Stage
from stages.events import Resolved


@frozen
class Worker(Stage[Resolved, Resolved]):
    async def handle(self, event: Resolved, forward: Send[Resolved]) -> None:
        name = event.exchange.session
        if name:
            Path(__file__).with_name(name).write_text(str(os.getpid()))
        await forward(event)
"""


@define
class Scene:
    """A proxy with several workers, and its backend."""

    proxy: Command
    backend: CountingBackend
    folder: Path
    clients: list[Client] = field(factory=list)

    def send(self, model: str, session: str = "") -> Client:
        """Send a request on a new connection. `session` names the file with its worker."""
        client = Client(self.proxy.url)
        self.clients.append(client)
        headers = {"x_claude_code_session_id": session} if session else {}
        client.socket.sendall(raw(body(model=model), **headers))
        return client

    def worker_of(self, session: str) -> int:
        """The process id of the worker that has the request, as soon as it has it."""
        file = self.folder / session
        until(lambda: file.exists() and bool(file.read_text()), "no worker has the request")
        return int(file.read_text())

    def gauge(self, name: str) -> float:
        """The gauge of the backend with a slot."""
        with contextlib.closing(Client(self.proxy.url)) as client:
            lines = client.get("/metrics").body.decode().splitlines()
        (line,) = (line for line in lines if line.startswith(f'{name}{{backend="one-slot"}}'))
        return float(line.split()[-1])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("workers")
    file = folder / "pipelines.yaml"
    with counting_backend() as backend:
        file.write_text(CONFIG.format(url=backend.url))
        (folder / "stages_of_test.py").write_text(STAGES)
        with command(file, "--workers", str(WORKERS), at_most=6 * LIMIT) as proxy:
            for _ in range(2 * WORKERS - 1):  # each worker opens two backends
                proxy.says("is open after", within=2 * LIMIT)
            yield Scene(proxy, backend, folder)


@pytest.fixture
def scene(shared: Scene) -> Iterator[Scene]:
    yield shared
    for client in shared.clients:
        client.close()
    shared.clients.clear()
    shared.backend.seconds, shared.backend.most = 0.001, 0


def response(client: Client) -> Response:
    return Response.of(client.send(b""))


def result(client: Client) -> tuple[int, str]:
    """The status, and the message of an error."""
    made = response(client)
    return made.status, "" if made.status == 200 else made.body.decode()


def test_the_backend_never_has_two_calls_at_once(scene: Scene) -> None:
    for number in range(8):
        clients = [scene.send("slot", f"slot{number}-{n}") for n in range(40)]
        for client in clients[::4]:
            client.close()
        assert {result(client) for n, client in enumerate(clients) if n % 4} == {(200, "")}
    assert scene.backend.most == 1
    workers = {scene.worker_of(f"slot{number}-{n}") for number in range(8) for n in range(1, 40, 4)}
    assert len(workers) > 1, "one worker has all requests"
    until(lambda: scene.gauge("llm_proxy_queue_running") == 0, "a call still runs")
    until(lambda: scene.gauge("llm_proxy_queue_waiting") == 0, "a call still waits")


def test_a_limit_holds_exactly_at_200_clients(scene: Scene) -> None:
    clients = [scene.send("hundred", f"limit{n}") for n in range(200)]
    assert Counter(response(client).status for client in clients) == {200: 100, 429: 100}
    assert len({scene.worker_of(f"limit{n}") for n in range(200)}) > 1


def test_no_request_waits_for_a_supervisor_that_is_stopped(scene: Scene) -> None:
    assert response(scene.send("stopped")).status == 200
    scene.proxy.send_signal(signal.SIGSTOP)
    try:
        times = []
        for model in ("stopped", "slot") * 40:
            started = time.monotonic()
            assert response(scene.send(model)).status == 200
            times.append(time.monotonic() - started)
    finally:
        scene.proxy.send_signal(signal.SIGCONT)
    lost = until(lambda: [line for line in scene.proxy.log if "not respond: this worker" in line])
    assert 1 <= len(lost) <= WORKERS, "each worker reports it once"
    # If each request waited, all would take longer than TIMEOUT.
    assert sum(seconds < TIMEOUT for seconds in times) > len(times) / 2
    for _ in lost:
        scene.proxy.says("the coordinator responds again")
    scene.backend.most = 0
    clients = [scene.send("slot") for _ in range(20)]
    assert {response(client).status for client in clients} == {200}
    assert scene.backend.most == 1


def test_a_worker_that_is_killed_gives_its_slot_and_its_place_back(scene: Scene) -> None:
    scene.backend.seconds = LIMIT
    scene.send("slot", "killed")
    pid = scene.worker_of("killed")
    until(lambda: scene.backend.running == 1, "the backend has no call")
    others: list[Client] = []
    while len(others) < 3:  # that wait in other workers
        name = f"waits{len(scene.clients)}"
        client = scene.send("slot", name)
        if scene.worker_of(name) != pid:
            others.append(client)
    until(lambda: scene.gauge("llm_proxy_queue_waiting") >= 3, "the calls do not wait")
    scene.backend.seconds = 0.001
    os.kill(pid, signal.SIGKILL)
    assert [response(client).status for client in others] == [200] * 3
