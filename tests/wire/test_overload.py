"""A worker that is asked more than it can do (row A11), on real sockets.

The lag is a stage that holds the event loop until the test lets go: what was sent meanwhile arrives
in one turn, so it is known how much of it begins, and no test depends on the machine's speed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from attrs import define, frozen

from pipeline import Send, Stage
from proxy.admission import PER_TURN
from stages.events import Authenticated, HttpResponse, ResponseBody, ResponseStart
from tests.grammar import parse_sse
from tests.support import body
from tests.wire.backend import LIMIT, ScriptedBackend
from tests.wire.chat import DONE, END, completion, delta, head, sse, whole
from tests.wire.client import Client, Response, raw
from tests.wire.proxy import METRICS, config_text, proxy

#: Requests of a flood that are answered: one more than begin at once waits, and the next ones are
#: refused, since it has waited for longer than nothing.
ANSWERED = PER_TURN + 1
FLOOD = 30
ORIGIN = "http://app.example"
STALL = """
  stall:
    route: GET /stall
    stages:
      - authenticate: *keys
      - tests.wire.test_overload:Stall
"""


@define
class Lag:
    """Whether the loop is blocked, and the event that ends that."""

    began: Event
    over: Event


LAG = Lag(Event(), Event())


@frozen
class Stall(Stage[Authenticated, HttpResponse]):
    """Holds the event loop until the test lets go."""

    async def handle(self, event: Authenticated, forward: Send[HttpResponse]) -> None:
        LAG.began.set()
        LAG.over.wait(LIMIT)
        await forward(ResponseStart(204, {}))
        await forward(ResponseBody(b""))


@pytest.fixture
def backend() -> Iterator[ScriptedBackend]:
    made = ScriptedBackend()
    yield made
    made.close()


@pytest.fixture
def url(tmp_path: Path, backend: ScriptedBackend) -> Iterator[str]:
    server = f"\nserver: {{max_loop_delay: 1.0e-9, allowed_origins: ['{ORIGIN}']}}\n"
    with proxy(tmp_path, config_text(backend.url) + STALL + METRICS + server) as url:
        yield url


@define
class Flood:
    """Clients that all send a request while the loop is blocked."""

    clients: list[Client]
    stalled: Client

    @contextlib.contextmanager
    def lag(self) -> Iterator[None]:
        """Hold the loop. What is sent within arrives in one turn."""
        LAG.began.clear()
        LAG.over.clear()
        self.stalled.socket.sendall(
            b"GET /stall HTTP/1.1\r\nhost: x\r\nx-api-key: client-key\r\n\r\n"
        )
        assert LAG.began.wait(LIMIT)
        try:
            yield
        finally:
            LAG.over.set()
        assert self.stalled.send(b"").status == 204

    def ask(self, request: bytes) -> list[Response]:
        """All ask at once; their answers."""
        with self.lag():
            for client in self.clients:
                client.socket.sendall(request)
        return [Response.of(client.send(b"")) for client in self.clients]


@pytest.fixture
def flood(url: str) -> Iterator[Flood]:
    clients = [Client(url) for _ in range(FLOOD + 1)]
    for client in clients:  # so that all are accepted
        assert client.get("/health").status == 200
    yield Flood(clients[1:], clients[0])
    for client in clients:
        client.close()


def test_row_a11_a_flood_is_refused_before_its_bodies_are_read(
    flood: Flood, backend: ScriptedBackend, url: str
) -> None:
    backend.says(whole(200, completion()))
    answers = flood.ask(raw(body()))
    refused = [each for each in answers if each.status != 200]
    assert len(answers) - len(refused) == len(backend.requests) == ANSWERED
    for each in refused:
        assert each.error == (529, "overloaded_error")
        assert each.headers["retry-after"] == "1"
        assert "connection" not in each.headers  # it may be asked again
    backend.says(whole(200, completion()))
    for client in flood.clients:  # after the lag
        assert client.post(body()).status == 200


def test_row_a11_health_and_metrics_are_answered_within_a_flood(
    flood: Flood, backend: ScriptedBackend, url: str
) -> None:
    backend.says(whole(200, completion()))
    observers = [Client(url) for _ in range(4)]
    paths = ("/health", "/health/live", "/health/ready", "/metrics")
    for client in observers:
        assert client.get("/health").status == 200
    with flood.lag():
        for client in flood.clients:
            client.socket.sendall(raw(body()))
        for client, path in zip(observers, paths, strict=True):
            head = f"GET {path} HTTP/1.1\r\nhost: x\r\nx-api-key: client-key\r\n\r\n"
            client.socket.sendall(head.encode())
    assert {Response.of(client.send(b"")).status for client in observers} <= {200, 503}
    for client in flood.clients:
        Response.of(client.send(b""))
    counted = flood.stalled.get("/metrics").body.decode()
    assert f"llm_proxy_shed_total {FLOOD - ANSWERED}.0" in counted
    for client in observers:
        client.close()


def test_row_a11_a_stream_in_flight_continues(
    flood: Flood, backend: ScriptedBackend, url: str
) -> None:
    hold = Event()
    backend.says(head(), sse(delta(content="Hello")), hold, sse(delta("stop")), DONE, END)
    backend.says(whole(200, completion()))
    stream = Client(url)
    stream.send(raw(body(stream=True)))
    assert stream.event()["type"] == "message_start"
    assert [each.status for each in flood.ask(raw(body()))].count(529) == FLOOD - ANSWERED
    hold.set()
    assert parse_sse(stream.response.read())[-1]["type"] == "message_stop"
    stream.close()


def test_refused_clients_with_large_bodies_or_disconnects_do_no_harm(
    flood: Flood, backend: ScriptedBackend, url: str
) -> None:
    backend.says(whole(200, completion()))
    large = raw(body(system="x" * 300_000))
    with flood.lag():
        for client in flood.clients[:-2]:
            client.socket.sendall(raw(body()))
        flood.clients[-1].socket.sendall(large[:100_000])
        flood.clients[-2].socket.sendall(large[:100_000])
    refused = flood.clients[-1]
    assert Response.of(refused.send(b"")).status == 529
    flood.clients[-2].close()
    refused.socket.sendall(large[100_000:])
    for client in flood.clients[:-2]:
        Response.of(client.send(b""))
    backend.says(whole(200, completion()))
    assert refused.post(body()).status == 200


def test_a_web_page_may_read_that_it_was_refused(flood: Flood, backend: ScriptedBackend) -> None:
    backend.says(whole(200, completion()))
    answers = flood.ask(raw(body(), origin=ORIGIN))
    refused = [each for each in answers if each.status == 529]
    assert len(refused) == FLOOD - ANSWERED
    assert {each.headers["access-control-allow-origin"] for each in refused} == {ORIGIN}
