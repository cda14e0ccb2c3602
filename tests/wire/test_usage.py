"""What is in the usage record after each way that a request can end. All share one proxy."""

from __future__ import annotations

import http.client
from pathlib import Path
from threading import Event

import pytest
from attrs import define

from stages.usage.report import lines, read_usage
from stages.usage.rows import Row
from tests.stages.usage.support import query
from tests.support import body
from tests.wire.backend import Act, ScriptedBackend, Step
from tests.wire.chat import DONE, END, completion, delta, head, sse, whole
from tests.wire.client import Client, raw
from tests.wire.proxy import proxy

USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 40},
}
TEXT = sse(delta(content="x" * 400))
OVERLOADED = whole(503, {"error": {"message": "overloaded"}})
CONFIG = """
backends:
  one: {{base_url: "{one}/v1"}}
  two: {{base_url: "{two}/v1"}}
circuit_breaker: {{failures: 1000}}
models:
  claude-test: {{targets: [{{backend: one, model: a}}, {{backend: two, model: b}}]}}
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      - authenticate: {{keys: [client-key]}}
      - account
      - validate
      - resolve
      - fallback
      - retry: {{attempts: 2, max_wait: 0.01}}
      - translate-in
      - invoke: {{idle_timeout: 0.5}}
      - translate-out
      - stream-encode
"""


@define
class Scene:
    """A proxy with two backends. The session of a request is the name of its test."""

    one: ScriptedBackend
    two: ScriptedBackend
    client: Client

    def ask(self, session: str, *steps: Step, stream: bool = True) -> None:
        """Script the first backend, and send a request."""
        self.one.responses = [steps]
        self.client.socket.sendall(
            raw(body(stream=stream), **{"x-claude-code-session-id": session})
        )

    def read(self) -> None:
        """Read the response to its end."""
        _response(self.client).read()

    def disconnect(self, connections: int) -> None:
        """Disconnect, and wait until the proxy has closed its connection to the backend."""
        self.client.socket.close()
        assert self.one.is_closed(connections)
        self.client = Client(self.client.url)


def play(scene: Scene) -> None:
    """Send the requests of all tests."""
    ending = sse({**delta("stop"), "usage": USAGE})
    scene.ask("whole", whole(200, {**completion(), "usage": USAGE}), stream=False)
    scene.read()
    scene.ask("streamed", head(), TEXT, ending, DONE, END)
    scene.read()
    scene.ask("without usage", head(), TEXT, sse(delta("stop")), DONE, END)
    scene.read()
    scene.ask("bad request", whole(400, {"error": {"message": "wrong"}}))
    scene.read()
    scene.ask("cut", head(), TEXT, Act.CLOSE)
    scene.read()

    scene.two.responses = [[head(), TEXT, ending, DONE, END]]
    scene.ask("fallback", OVERLOADED)
    scene.read()
    scene.two.responses = [[OVERLOADED]]
    scene.ask("all fail", OVERLOADED)
    scene.read()

    sent = Event()
    scene.ask("left in mid-stream", head(), TEXT, sent, TEXT, Act.UNTIL_CLOSED)
    scene.client.response = _response(scene.client)
    while scene.client.event()["type"] != "content_block_delta":
        pass
    number = scene.one.connections - 1
    sent.set()
    scene.client.response.close()
    scene.disconnect(number)
    requests = len(scene.one.requests)
    scene.ask("left before the response", Act.UNTIL_CLOSED)
    scene.one.request(requests)
    scene.disconnect(scene.one.connections - 1)


def _response(client: Client) -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(client.socket)
    response.begin()
    return response


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("usage")
    one, two = ScriptedBackend(), ScriptedBackend()
    with proxy(folder, CONFIG.format(one=one.url, two=two.url)) as url:
        scene = Scene(one, two, Client(url))
        play(scene)
        refused = scene.client.post(body(), **{"x-api-key": "wrong"})
        assert refused.status == 401
        scene.client.close()
    one.close()
    two.close()
    return folder / "usage.db"


def rows(file: Path, session: str) -> list[Row]:
    """The rows of a session, with texts in place of ids."""
    names = {0: "", **dict(query(file, "SELECT id, text FROM name"))}
    found = [Row(*each) for each in query(file, "SELECT * FROM attempt ORDER BY rowid")]
    named = ("session", "agent", "key", "backend", "asked_model", "model", "outcome", "error")
    readable = [
        row._replace(**{name: names[getattr(row, name)] for name in named}) for row in found
    ]
    return [row for row in readable if row.session == session]


def tokens(row: Row) -> tuple[int, int, int, bool]:
    return row.input_tokens, row.cache_read_tokens, row.output_tokens, bool(row.estimated)


@pytest.mark.parametrize("session", ["whole", "streamed"])
def test_a_complete_response_has_the_tokens_that_the_backend_reports(
    session: str, file: Path
) -> None:
    [row] = rows(file, session)

    assert tokens(row) == (60, 40, 7, False)
    assert (row.outcome, row.error, row.status, row.number) == ("complete", "", 200, 1)
    assert (row.key, row.backend, row.asked_model, row.model) == (
        "key-1",
        "one",
        "claude-test",
        "a",
    )
    assert row.first_byte_ms is not None
    assert row.total_ms >= row.first_byte_ms


def test_a_backend_that_does_not_count_has_estimates(file: Path) -> None:
    [row] = rows(file, "without usage")

    assert (row.outcome, bool(row.estimated)) == ("complete", True)
    assert 90 <= row.output_tokens <= 110
    assert row.input_tokens > 0


def test_a_refused_call_has_no_tokens(file: Path) -> None:
    [row] = rows(file, "bad request")

    assert (row.outcome, row.error, row.status) == ("error", "invalid_request", 400)
    assert tokens(row) == (0, 0, 0, False)


def test_a_stream_that_is_cut_off_has_the_tokens_until_then(file: Path) -> None:
    [row] = rows(file, "cut")

    assert (row.outcome, row.status) == ("error", 200)
    assert 90 <= row.output_tokens <= 110
    assert row.estimated


def test_each_attempt_of_a_fallback_has_its_row(file: Path) -> None:
    first, second, third = rows(file, "fallback")

    assert [first.outcome, second.outcome, third.outcome] == ["retry", "fallback", "complete"]
    assert [first.backend, second.backend, third.backend] == ["one", "one", "two"]
    assert [first.error, second.error, third.error] == ["overloaded", "overloaded", ""]
    assert tokens(first) == tokens(second) == (0, 0, 0, False)
    assert third.output_tokens > 0
    assert first.request == second.request == third.request


def test_a_request_whose_targets_all_fail_ends_with_an_error(file: Path) -> None:
    *_, last = rows(file, "all fail")

    assert (last.outcome, last.error, last.backend, last.number) == (
        "error",
        "overloaded",
        "two",
        4,
    )


def test_a_disconnect_in_mid_stream_counts_the_generated_tokens(file: Path) -> None:
    [row] = rows(file, "left in mid-stream")

    assert (row.outcome, row.status, bool(row.estimated)) == ("client_disconnected", 200, True)
    assert 90 <= row.output_tokens <= 220
    assert row.input_tokens > 0


def test_a_disconnect_before_the_response_counts_the_prompt(file: Path) -> None:
    [row] = rows(file, "left before the response")

    assert (row.outcome, row.status, row.first_byte_ms) == ("client_disconnected", 0, None)
    assert (row.output_tokens, bool(row.estimated)) == (0, True)
    assert row.input_tokens > 0


def test_a_request_without_a_right_key_has_no_row(file: Path) -> None:
    assert not rows(file, "")


def test_the_daily_sums_are_those_of_the_rows(file: Path) -> None:
    usages = read_usage(file, ["session"])
    sums = {line.group[0]: line.sums for line in lines(usages, lambda backend, model: ())}

    assert (sums["fallback"].requests, sums["fallback"].attempts) == (1, 3)
    assert (sums["fallback"].errors, sums["all fail"].errors) == (2, 4)
    assert sums["left in mid-stream"].disconnects == 1
    [(attempts, output)] = query(file, "SELECT count(*), sum(output_tokens) FROM attempt")
    assert sum(each.attempts for each in sums.values()) == attempts
    assert sum(each.output_tokens for each in sums.values()) == output


def test_no_prompt_and_no_key_is_in_the_file(file: Path) -> None:
    data = file.read_bytes()

    assert b"client-key" not in data
    assert b"xxxx" not in data
    assert body()["messages"][0]["content"].encode() not in data


def test_a_failed_write_stops_no_request_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = ScriptedBackend()
    backend.says(whole(200, completion()))
    config = CONFIG.format(one=backend.url, two=backend.url)
    with proxy(tmp_path, f"usage: {{file: /proc/no/usage.db}}\n{config}") as url:
        client = Client(url)
        statuses = {client.post(body()).status for _ in range(5)}
        client.close()
    backend.close()

    assert statuses == {200}
    assert len([line for line in caplog.messages if "usage is not recorded" in line]) == 1
    assert "attempts are not in the usage record: 5" in caplog.messages
