"""Two backends. One fails, in each way and at each point; the other one responds.

After the first content of a stream, an error is an event.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event

import pytest
from attrs import frozen

from tests.support import body
from tests.wire.backend import Act, ScriptedBackend, Step
from tests.wire.chat import (
    DONE,
    END,
    HELLO,
    completion,
    delta,
    error_json,
    head,
    http_chunk,
    sse,
    streamed,
    whole,
)
from tests.wire.client import MODES, Client, error_in, raw
from tests.wire.proxy import proxy
from tests.wire.test_faults import EARLY, LATE, Row

#: Kinds that the request is at fault for; another backend would refuse it too.
REJECTED = ("invalid_request_error",)
FIRST_BYTE, IDLE = 0.5, 0.25  # seconds


@frozen
class Pair:
    one: ScriptedBackend
    two: ScriptedBackend
    url: str


def config_for(
    one: ScriptedBackend, two: ScriptedBackend, stages: str = "[fallback]", breaker: str = "{}"
) -> str:
    """A model with two targets, and the stages between `resolve` and `translate-in`."""
    listed = "".join(f"      - {stage}\n" for stage in stages.strip("[]").split("; "))
    return f"""
backends:
  one: {{base_url: "{one.url}/v1"}}
  two: {{base_url: "{two.url}/v1"}}
  absent: {{base_url: "http://127.0.0.1:1/v1"}}
circuit_breaker: {breaker}
models:
  claude-test: {{targets: [{{backend: one, model: a}}, {{backend: two, model: b}}]}}
  claude-absent: {{targets: [{{backend: absent}}, {{backend: two}}]}}
  claude-lost: {{targets: [{{backend: absent}}, {{backend: absent, model: m}}]}}
  claude-seeing:
    targets:
      - {{backend: one, overrides: {{fields: {{image.base64: reject}}}}}}
      - {{backend: two}}
  claude-one: {{backend: one}}
  claude-shared:
    strategy: balance
    targets: [{{backend: one, model: a}}, {{backend: two, model: b}}]
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      - authenticate: &keys {{keys: [client-key]}}
      - validate
      - resolve:
          rules: [{{when: {{thinking: true}}, to: claude-one}}]
{listed}      - translate-in
      - invoke: {{first_byte_timeout: {FIRST_BYTE}, idle_timeout: {IDLE}}}
      - translate-out
      - stream-encode
  metrics:
    route: GET /metrics
    stages:
      - authenticate: *keys
      - metrics
"""


@pytest.fixture(scope="module")
def lasting_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    one, two = ScriptedBackend(), ScriptedBackend()
    text = config_for(one, two, breaker="{failures: 100000}")
    with proxy(tmp_path_factory.mktemp("pair"), text) as url:
        yield Pair(one, two, url)
    one.close()
    two.close()


@pytest.fixture
def pair(lasting_pair: Pair) -> Iterator[Pair]:
    yield lasting_pair
    lasting_pair.one.forget()
    lasting_pair.two.forget()


@pytest.fixture
def client(pair: Pair) -> Iterator[Client]:
    made = Client(pair.url)
    yield made
    made.close()


def answer(stream: bool) -> bytes:
    return streamed("Hello", " there") if stream else whole(200, completion())


@MODES
@pytest.mark.parametrize("row", EARLY.values(), ids=EARLY)
def test_the_alternative_responds_after_a_failure_before_the_response(
    row: Row, stream: bool, client: Client, pair: Pair
) -> None:
    steps, status, kind, message = row
    pair.one.says(*steps)
    pair.two.says(answer(stream))
    got = client.post(body(stream=stream))
    rejected = kind in REJECTED and "prompt is too long" not in message
    if rejected:
        assert got.error == (status, kind)
        assert pair.two.requests == []
    elif stream:
        assert got.events[-1]["type"] == "message_stop"
    else:
        assert got.json["content"][0]["text"] == "Hello there"
    if not rejected:
        assert pair.two.request().body["model"] == "b"
    assert len(pair.one.requests) == 1


@pytest.mark.parametrize(
    "steps",
    [
        [END],
        [http_chunk(b": ping\n\n"), END],
        [http_chunk(b"data: {\n\n"), END],
        [http_chunk(b"data: [1]\n\n"), END],
        [sse(error_json("Busy", code=503)), END],
        [sse({"choices": []}), Act.RESET],
        [sse({"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 0}}), Act.RESET],
        [sse(delta(role="assistant")), END],
        [sse(delta(role="assistant", content="")), sse(error_json("Busy", code=503)), END],
        [sse(delta()), DONE, END],
        [sse(delta(reasoning_content="Hm")), Act.RESET],
        [sse(delta(content="Half"), error_json("Busy", code=503)), END],
        [sse(delta(role="assistant")), Act.UNTIL_CLOSED],
        [Act.UNTIL_CLOSED],
        [http_chunk(b": ping\n\n"), Act.UNTIL_CLOSED],
    ],
    ids=[
        *("empty", "comment", "half-json", "list", "error", "no-choice", "usage", "role"),
        *("empty-text", "empty-delta", "dropped", "text-with-an-error", "role-then-silence"),
        *("silence", "comment-then-silence"),
    ],
)
def test_a_failure_before_the_first_content_falls_back(
    steps: list[Step], client: Client, pair: Pair
) -> None:
    pair.one.says(head(), *steps)
    pair.two.says(streamed("Hello"))
    events = client.post(body(stream=True)).events
    assert [event["type"] for event in events].count("message_start") == 1
    assert events[-1]["type"] == "message_stop"
    assert [
        event["delta"]["text"] for event in events if "index" in event and "delta" in event
    ] == ["Hello"]
    assert steps[-1] is END or pair.one.is_closed()


@pytest.mark.parametrize(("steps", "kind", "message"), LATE.values(), ids=LATE)
def test_a_response_that_has_begun_does_not_fall_back(
    steps: Sequence[Step], kind: str, message: str, client: Client, pair: Pair
) -> None:
    hold = Event()
    pair.one.says(head(), HELLO, hold, *steps)
    client.send(raw(body(stream=True)))
    for _ in range(3):
        client.event()
    hold.set()
    error = client.event()
    assert error_in(error)[0] == kind
    assert message in error_in(error)[1]
    assert client.response.read() == b""
    assert pair.two.requests == []


@pytest.mark.parametrize(
    "steps", [*(steps for steps, *_ in LATE.values()), [Act.UNTIL_CLOSED]], ids=[*LATE, "silence"]
)
def test_a_failure_in_the_middle_of_a_whole_response_falls_back(
    steps: Sequence[Step], client: Client, pair: Pair
) -> None:
    pair.one.says(head(), HELLO, sse(delta(content=" you")), *steps)
    pair.two.says(whole(200, completion("Hello there")))
    got = client.post(body()).json
    assert [block["text"] for block in got["content"]] == ["Hello there"]
    assert got["usage"]["output_tokens"] == 3
    assert (len(pair.one.requests), len(pair.two.requests)) == (1, 1)


@MODES
def test_an_unreachable_backend_falls_back(stream: bool, client: Client, pair: Pair) -> None:
    pair.two.says(answer(stream))
    assert client.post(body(model="claude-absent", stream=stream)).status == 200
    lost = client.post(body(model="claude-lost", stream=stream))
    assert lost.error == (529, "overloaded_error")
    assert "cannot be reached" in lost.json["error"]["message"]


@MODES
def test_a_field_that_one_target_rejects_goes_to_the_next(
    stream: bool, client: Client, pair: Pair
) -> None:
    pair.one.says(answer(stream))
    pair.two.says(answer(stream))
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    shown = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    for messages in (shown, None):
        asked = {"messages": messages} if messages else {}
        assert client.post(body(model="claude-seeing", stream=stream, **asked)).status == 200
    assert [len(each.requests) for each in (pair.one, pair.two)] == [1, 1]
    assert pair.two.request().body["messages"][0]["content"][0]["type"] == "image_url"


@MODES
def test_of_two_failures_the_transient_one_is_reported(
    stream: bool, client: Client, pair: Pair
) -> None:
    pair.one.says(whole(429, error_json("Slow down"), retry_after="7"))
    pair.two.says(whole(400, error_json("maximum context length is 10 tokens")))
    got = client.post(body(stream=stream))
    assert got.error == (429, "rate_limit_error")
    assert got.headers["retry-after"] == "7"


@MODES
@pytest.mark.parametrize("steps", [[], [head()], [b"HTTP/1.1 200 OK\r\n"]], ids=len)
def test_a_backend_that_does_not_begin_has_its_own_message(
    steps: list[Step], stream: bool, client: Client, pair: Pair
) -> None:
    pair.one.says(*steps, Act.UNTIL_CLOSED)
    got = client.post(body(model="claude-one", stream=stream))
    assert got.error == (504, "timeout_error")
    expected = f"backend `one` did not begin to answer within {FIRST_BYTE} s"
    assert expected in got.json["error"]["message"]
    assert pair.one.is_closed()


def test_the_first_byte_may_take_longer_than_later_ones(client: Client, pair: Pair) -> None:
    wait = (FIRST_BYTE + IDLE) / 2
    pair.one.says(head(), wait, HELLO, Act.UNTIL_CLOSED)
    events = client.post(body(model="claude-one", stream=True)).events
    assert events[2]["type"] == "content_block_delta"
    kind, reported = error_in(events[-1])
    assert (kind, reported[:39]) == ("timeout_error", "backend `one` was silent for too long: ")


def test_a_route_goes_before_the_name(client: Client, pair: Pair) -> None:
    pair.one.says(whole(200, completion()))
    asked = body(model="claude-absent", thinking={"type": "adaptive"})
    assert client.post(asked).status == 200
    assert (len(pair.one.requests), pair.two.requests) == (1, [])


def test_a_session_keeps_its_backend_until_it_fails(client: Client, pair: Pair) -> None:
    for backend in (pair.one, pair.two):
        backend.says(whole(200, completion()))
    for session in range(12):
        for text in ("Hello", "Go on"):
            asked = body(model="claude-shared", messages=[{"role": "user", "content": text}])
            client.post(asked, x_claude_code_session_id=str(session))
    counts = len(pair.one.requests), len(pair.two.requests)
    assert sum(counts) == 24
    assert all(count % 2 == 0 and count for count in counts)
    pair.one.says(whole(503, error_json("Loading")))
    pair.one.responses = pair.one.responses[-1:]
    for session in range(12):
        got = client.post(body(model="claude-shared"), x_claude_code_session_id=str(session))
        assert got.status == 200
    assert len(pair.two.requests) == counts[1] + 12


# Retries and the total time, each in a proxy of its own


@MODES
def test_a_backend_that_is_busy_for_a_moment_is_retried(stream: bool, tmp_path: Path) -> None:
    one, two = ScriptedBackend(), ScriptedBackend()
    one.says(whole(429, error_json("Slow down"), retry_after="0"))
    one.says(answer(stream))
    with proxy(tmp_path, config_for(one, two, "[retry: {max_wait: 0.01}]")) as url:
        client = Client(url)
        got = client.post(body(stream=stream))
        assert got.status == 200
        one.responses = [[whole(429, error_json("Later"), retry_after="9")]]
        later = client.post(body(stream=stream))
        client.close()
    assert later.error == (429, "rate_limit_error")
    assert later.headers["retry-after"] == "9"
    assert len(one.requests) == 3
    assert two.requests == []
    one.close()
    two.close()


def test_the_total_timeout_is_reported(tmp_path: Path) -> None:
    one = ScriptedBackend()
    text = config_for(one, one).replace(f"first_byte_timeout: {FIRST_BYTE}", "total_timeout: 0.4")
    with proxy(tmp_path, text) as url:
        client = Client(url)
        deltas: list[Step] = [sse(delta(content="Hi")), IDLE / 2]
        one.says(head(), *deltas * 8, DONE, END)
        events = client.post(body(model="claude-one", stream=True)).events
        signs: list[Step] = [http_chunk(b": ping\n\n"), IDLE / 2]
        one.responses = [[head(), *signs * 8, DONE, END]]
        early = client.post(body(model="claude-one", stream=True))
        client.close()
    assert error_in(events[-1])[0] == "timeout_error"
    assert "within 0.4 s" in error_in(events[-1])[1]
    assert early.error == (504, "timeout_error")
    one.close()
