"""Calls that wait for a backend with one slot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import pytest
from attrs import define, field
from prometheus_client.parser import text_string_to_metric_families

from tests.grammar import check_grammar
from tests.support import body
from tests.waiting import until
from tests.wire.backend import Act, ScriptedBackend
from tests.wire.chat import DONE, END, completion, delta, head, sse, streamed, whole
from tests.wire.client import Client, error_in, raw
from tests.wire.command import Reloadable
from tests.wire.proxy import METRICS, config_text, proxy


@define
class Queued:
    """A proxy whose backend has one slot; one call may wait. The clients are closed at the end."""

    url: str
    backend: ScriptedBackend
    running: ExitStack
    clients: list[Client] = field(factory=list)

    def client(self) -> Client:
        self.clients.append(Client(self.url))
        return self.clients[-1]

    def metrics(self) -> dict[str, float]:
        """The metrics of the queue."""
        families = text_string_to_metric_families(self.client().get("/metrics").body.decode())
        samples = [sample for family in families for sample in family.samples]
        return {
            sample.name.removeprefix("llm_proxy_queue_"): sample.value
            for sample in samples
            if sample.labels.get("backend") == "scripted"
        }

    def until(self, **expected: float) -> None:
        """Ask until the metrics say so."""
        until(lambda: expected.items() <= self.metrics().items(), f"not in /metrics: {expected}")


def config_for(backend: ScriptedBackend) -> str:
    """What is served, with one slot."""
    text = (
        config_text(backend.url)
        .replace("api_key: backend-key", "api_key: backend-key, max_concurrent_calls: 1")
        .replace("- invoke", "- queue: {max_queued: 1}\n      - invoke")
        .replace("- translate-out", "- translate-out: {ping_interval: 0.05}")
    )
    return text + METRICS


@pytest.fixture
def queued(tmp_path: Path) -> Iterator[Queued]:
    backend = ScriptedBackend()
    with ExitStack() as running:
        url = running.enter_context(proxy(tmp_path, config_for(backend)))
        made = Queued(url, backend, running)
        yield made
        for client in made.clients:
            client.close()
    backend.close()


def test_a_queued_call_gets_keep_alives(queued: Queued) -> None:
    backend, end = queued.backend, Event()
    backend.says(head(), sse(delta(content="One")), end, sse(delta("stop")), DONE, END)
    backend.says(streamed("Two"))
    first, second = queued.client(), queued.client()
    first.send(raw(body(stream=True)))
    assert first.event()["type"] == "message_start"
    backend.request()  # the event may have come before, with a ping

    second.send(raw(body(stream=True)))
    events = [second.event() for _ in range(3)]
    assert [event["type"] for event in events] == ["message_start", "ping", "ping"]
    assert len(backend.requests) == 1
    assert queued.metrics() == {"running": 1, "waiting": 1}

    end.set()
    while events[-1]["type"] != "message_stop":
        events.append(second.event())
    check_grammar(events)
    queued.until(running=0, waiting=0, wait_seconds_count=2)
    assert queued.metrics()["wait_seconds_sum"] > 0.05


def test_a_full_queue_is_a_529_with_retry_after(queued: Queued) -> None:
    backend, end = queued.backend, Event()
    backend.says(end, whole(200, completion("One")))
    backend.says(whole(200, completion("Two")))
    first, second = queued.client(), queued.client()
    first.socket.sendall(raw(body()))
    backend.request()
    second.socket.sendall(raw(body()))
    queued.until(waiting=1)

    refused = queued.client().post(body(stream=True))
    assert refused.error == (529, "overloaded_error")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    end.set()
    queued.until(running=0, waiting=0)
    assert len(backend.requests) == 2


def test_after_a_reload_calls_in_flight_count(
    reloadable: Reloadable,
) -> None:
    backend, end = ScriptedBackend(), Event()
    backend.says(end, whole(200, completion()))
    text = config_for(backend)
    reloadable.load(text)
    queued = Queued(reloadable.url, backend, ExitStack())
    first, second, third = (queued.client() for _ in range(3))
    first.socket.sendall(raw(body()))
    backend.request()
    second.socket.sendall(raw(body()))
    queued.until(running=1, waiting=1)

    reloadable.load(text.replace("max_concurrent_calls: 1", "max_concurrent_calls: 2"))
    backend.request(1)
    third.socket.sendall(raw(body()))
    queued.until(running=2, waiting=1)
    end.set()
    queued.until(running=0, waiting=0)
    for each in queued.clients:
        each.close()
    assert len(backend.requests) == 3
    backend.close()


def test_a_disconnect_in_the_queue_frees_its_place(queued: Queued) -> None:
    backend = queued.backend
    backend.says(Act.UNTIL_CLOSED)
    backend.says(whole(200, completion("Two")))
    first, second = queued.client(), queued.client()
    first.socket.sendall(raw(body()))
    backend.request()
    second.send(raw(body(stream=True)))
    assert second.event()["type"] == "message_start"
    second.close()
    queued.until(running=1, waiting=0)
    first.close()
    assert queued.client().post(body()).status == 200
    assert len(backend.requests) == 2


def test_a_failure_does_not_fail_a_queued_call(queued: Queued) -> None:
    backend, end = queued.backend, Event()
    backend.says(end, Act.RESET)
    backend.says(whole(500, {"error": {"message": "no"}}))
    first, second = queued.client(), queued.client()
    first.socket.sendall(raw(body()))
    backend.request()
    second.send(raw(body(stream=True)))
    events = [second.event()]
    end.set()
    while events[-1]["type"] != "error":
        events.append(second.event())
    assert error_in(events[-1])[0] == "api_error"
    check_grammar(events, whole=False)
    assert first.socket.recv(1024).startswith(b"HTTP/1.1 5")


def test_a_shutdown_is_reported_to_queued_and_running_calls(queued: Queued) -> None:
    backend = queued.backend
    backend.says(Act.UNTIL_CLOSED)
    first, second, third = (queued.client() for _ in range(3))
    first.socket.sendall(raw(body()))
    backend.request()
    second.send(raw(body(stream=True)))
    assert second.event()["type"] == "message_start"
    assert third.post(body()).error == (529, "overloaded_error")

    queued.running.close()
    first.send(b"")
    events = [second.event()]
    while events[-1]["type"] != "error":
        events.append(second.event())
    assert first.response.status == 529
    assert error_in(events[-1]) == (
        "overloaded_error",
        "the proxy is shutting down; try again in a moment",
    )
    assert backend.is_closed()
    assert len(backend.requests) == 1
