"""Limits over real sockets. All tests share a proxy; each uses a model with its own limits."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from threading import Event
from typing import Any

import pytest
from attrs import define, field
from prometheus_client.parser import text_string_to_metric_families

from tests.grammar import check_grammar
from tests.support import body
from tests.waiting import until
from tests.wire.backend import Act, ScriptedBackend
from tests.wire.chat import DONE, END, completion, delta, head, sse, whole
from tests.wire.client import Client, Response, error_in, raw
from tests.wire.proxy import METRICS, SharedProxy, proxy_with_backend

CLIENTS = 200
LIMITS = """
    per-minute: {requests_per_minute: 100}
    per-day: {requests_per_day: 100}
    tokens: {tokens_per_day: 1_000_000}
    left: {tokens_per_day: 1_000_000, concurrent_requests: 3}
    failed: {tokens_per_day: 1_000_000, requests_per_day: 10}
    one: {concurrent_requests: 1, concurrency_timeout: 5}
    short: {concurrent_requests: 1, concurrency_timeout: 0.05}
    dear: {cost_per_day: 1}
    shown:
      requests_per_minute: 50
      input_tokens_per_minute: 80000
      output_tokens_per_minute: 16000
"""


def config_for(url: str) -> str:
    return f"""
server: {{max_loop_delay: null}}
backends:
  scripted: {{base_url: "{url}/v1", price: {{input: 1000, output: 1000}}}}
models:
  "*": {{backend: scripted}}
limits:
  sessions: {{requests_per_day: 5}}
  models: {LIMITS}
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      - authenticate: &keys {{keys: [client-key]}}
      - validate
      - resolve
      - limit
      - fallback
      - retry: {{max_wait: 0.01}}
      - translate-in
      - invoke
      - translate-out: {{ping_interval: 0.05}}
      - stream-encode
{METRICS}"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProxy]:
    with proxy_with_backend(tmp_path_factory.mktemp("limits"), config_for) as made:
        yield made


@define
class Scene:
    """A proxy and its backend. The clients are closed at the end."""

    url: str
    backend: ScriptedBackend
    clients: list[Client] = field(factory=list)

    def client(self) -> Client:
        self.clients.append(Client(self.url))
        return self.clients[-1]

    def ask(self, model: str, **changes: Any) -> Response:
        return self.client().post(body(model=model, **changes))

    def start(self, model: str, **changes: Any) -> Client:
        """Send a request, and wait until the backend has it."""
        number, client = len(self.backend.requests), self.client()
        client.socket.sendall(raw(body(model=model, **changes)))
        self.backend.request(number)
        return client

    def refusals(self) -> dict[tuple[str, str], float]:
        """The metric of refusals, by limit and account."""
        families = text_string_to_metric_families(self.client().get("/metrics").body.decode())
        samples = [sample for family in families for sample in family.samples]
        return {
            (sample.labels["limit"], sample.labels["account"]): sample.value
            for sample in samples
            if sample.name == "llm_proxy_limit_refusals_total"
        }


@pytest.fixture
def scene(shared: SharedProxy) -> Iterator[Scene]:
    made = Scene(shared.url, shared.backend)
    yield made
    for client in made.clients:
        client.close()
    shared.backend.forget()


def reading(client: Client) -> Response:
    """The response to what was sent."""
    return Response.of(client.send(b""))


def statuses(scene: Scene, model: str, **changes: Any) -> Counter[int]:
    """Send requests on 200 connections, and only then read the responses."""
    clients = [scene.client() for _ in range(CLIENTS)]
    data = raw(body(model=model, **changes))
    for client in clients:
        client.socket.sendall(data)
    return Counter(reading(client).status for client in clients)


def test_200_clients_get_100_requests(scene: Scene) -> None:
    scene.backend.says(whole(200, completion()))

    assert statuses(scene, "per-day") == {200: 100, 429: 100}
    assert len(scene.backend.requests) == 100


def test_per_minute_it_is_100_and_what_refilled_meanwhile(scene: Scene) -> None:
    scene.backend.says(whole(200, completion()))
    started = time.monotonic()
    admitted = statuses(scene, "per-minute")[200]
    elapsed = time.monotonic() - started

    assert 100 <= admitted <= 100 + elapsed * 100 / 60


def test_a_million_tokens_are_50_calls_of_20000(scene: Scene) -> None:
    """An estimate is above 20,000 (80,000 bytes); each call then uses 20,000."""
    usage = {"prompt_tokens": 19_000, "completion_tokens": 1_000}
    scene.backend.says(whole(200, {**completion(), "usage": usage}))
    messages = [{"role": "user", "content": "x" * 76_000}]
    numbers = statuses(scene, "tokens", messages=messages, max_tokens=1000)

    assert numbers[200] == len(scene.backend.requests)
    while (last := scene.ask("tokens", messages=messages, max_tokens=1000)).status == 200:
        numbers[200] += 1  # the estimates of requests that came at once were higher
    assert 49 <= numbers[200] <= 50
    assert last.error == (429, "rate_limit_error")
    assert int(last.headers["anthropic-ratelimit-tokens-remaining"]) < 40_000


def test_a_client_that_disconnects_pays_for_what_was_generated(scene: Scene) -> None:
    sent = Event()
    text = sse(delta(content="x" * 400))
    scene.backend.says(head(), text, sent, text, Act.UNTIL_CLOSED)
    client = scene.client()
    client.send(raw(body(model="left", stream=True, max_tokens=900)))
    while client.event()["type"] != "content_block_delta":
        pass
    sent.set()
    client.close()
    assert scene.backend.is_closed(scene.backend.connections - 1)

    scene.backend.responses = [[whole(200, completion())]]
    remaining = int(scene.ask("left", max_tokens=0).headers["anthropic-ratelimit-tokens-remaining"])
    assert 1_000_000 - 500 < remaining < 1_000_000 - 100


def test_what_no_backend_did_costs_no_tokens(scene: Scene) -> None:
    scene.backend.says(whole(500, {"error": {"message": "broken"}}))
    first = scene.ask("failed", max_tokens=900)
    assert first.status == 500
    assert first.headers["anthropic-ratelimit-requests-remaining"] == "9"
    again = scene.ask("failed", max_tokens=0)

    assert int(again.headers["anthropic-ratelimit-tokens-remaining"]) > 1_000_000 - 200
    assert again.headers["anthropic-ratelimit-requests-remaining"] == "8"


def test_a_request_that_waits_for_a_place_gets_pings(scene: Scene) -> None:
    end = Event()
    scene.backend.says(head(), sse(delta(content="One")), end, sse(delta("stop")), DONE, END)
    scene.backend.says(head(), sse(delta(content="Two")), sse(delta("stop")), DONE, END)
    first, second = scene.start("one", stream=True), scene.client()

    second.send(raw(body(model="one", stream=True)))
    events = [second.event() for _ in range(3)]
    assert [event["type"] for event in events] == ["message_start", "ping", "ping"]
    assert len(scene.backend.requests) == 1
    end.set()
    while events[-1]["type"] != "message_stop":
        events.append(second.event())
    check_grammar(events)
    assert reading(first).status == 200


def test_a_disconnect_while_waiting_lets_the_next_one_go(scene: Scene) -> None:
    end = Event()
    scene.backend.says(end, whole(200, completion("One")))
    scene.backend.says(whole(200, completion("Two")))
    first, impatient, last = scene.start("one"), scene.client(), scene.client()
    impatient.send(raw(body(model="one", stream=True)))
    assert impatient.event()["type"] == "message_start"
    last.socket.sendall(raw(body(model="one")))
    impatient.close()
    end.set()

    assert [reading(first).status, reading(last).status] == [200, 200]
    assert len(scene.backend.requests) == 2


@pytest.mark.parametrize("stream", [True, False])
def test_a_wait_has_an_end(stream: bool, scene: Scene) -> None:
    end = Event()
    scene.backend.says(end, whole(200, completion()))
    first, second = scene.start("short"), scene.client()
    response = second.send(raw(body(model="short", stream=stream)))
    if response.status == 200:  # a ping began the stream
        event = second.event()
        while event["type"] != "error":
            event = second.event()
        kind, message = error_in(event)
    else:
        refused = Response.of(response)
        assert refused.status == 429
        kind, message = error_in(refused.json)
    assert kind == "rate_limit_error"
    assert "a limit of 1 requests in flight" in message
    end.set()
    assert reading(first).status == 200


def test_a_budget_that_is_used_up_is_not_to_be_retried(scene: Scene) -> None:
    usage = {"prompt_tokens": 400, "completion_tokens": 700}
    scene.backend.says(whole(200, {**completion(), "usage": usage}))
    assert scene.ask("dear", max_tokens=100).status == 200

    refused = scene.ask("dear", max_tokens=100)
    assert refused.error == (429, "rate_limit_error")
    assert refused.headers["x-should-retry"] == "false"
    assert "model `dear` has a budget of 1 per day (UTC): 0 is left" in str(refused.json)
    assert 0 < int(refused.headers["retry-after"]) <= 86400


def test_each_response_has_the_headers_of_the_api(scene: Scene) -> None:
    scene.backend.says(whole(200, completion()))
    before = int(time.time())
    response = scene.ask("shown", max_tokens=100)
    headers = {
        name.removeprefix("anthropic-ratelimit-"): value
        for name, value in response.headers.items()
        if name.startswith("anthropic-ratelimit-")
    }

    assert headers.keys() == {
        f"{unit}-{value}"
        for unit in ("requests", "tokens", "input-tokens", "output-tokens")
        for value in ("limit", "remaining", "reset")
    }
    assert (headers["requests-limit"], headers["requests-remaining"]) == ("50", "49")
    assert (headers["tokens-limit"], headers["output-tokens-remaining"]) == ("96000", "15900")
    reset = datetime.strptime(headers["requests-reset"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert before <= reset.timestamp() <= time.time() + 3


def test_a_session_that_runs_away_is_refused_logged_and_counted(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llm_proxy")
    scene.backend.says(whole(200, completion()))
    before = scene.refusals().get(("requests_per_day", "session"), 0)
    client = scene.client()
    session = {"x-claude-code-session-id": "wild one"}
    numbers = [client.post(body(model="any"), **session).status for _ in range(7)]

    assert numbers == [200] * 5 + [429] * 2
    assert client.post(body(model="any"), **{"x-claude-code-session-id": "calm"}).status == 200
    key = "requests_per_day", "session"
    until(lambda: scene.refusals().get(key) == before + 2, "the refusals are not counted")
    lines = [each for each in caplog.messages if " limit=" in each and "wild one" in each]
    assert len(lines) == 2
    [line] = {each.partition(" limit=")[2] for each in lines}
    assert line == 'requests_per_day account="session:key-1/wild one"'
