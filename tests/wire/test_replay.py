"""Exchanges are recorded by a proxy on a real socket, and replayed against another backend."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from attrs import frozen
from click import ClickException
from click.testing import CliRunner, Result

from proxy.cli import main
from proxy.replay.recordings import count, files, read
from stages.recording.lines import Recorded
from tests.support import body
from tests.wire.backend import Act, ScriptedBackend
from tests.wire.chat import DONE, END, completion, delta, error_json, head, sse, streamed, whole
from tests.wire.client import Client, raw
from tests.wire.proxy import proxy

ASKED = "Read it. My key is sk-proj-4f9a8b7c6d5e4f3a2b1c."
TOOL = {"name": "read", "input_schema": {"type": "object", "properties": {"path": {}}}}
CONFIG = """
backends:
  one: {{base_url: "{url}/v1"}}
  two: {{base_url: "{other}/v1"}}
models:
  claude-test: {{backend: one, model: some-model}}
  other: {{backend: two, model: a-model}}
  "open-*": {{backend: two}}
pipelines:
  messages:
    route: POST /v1/messages
    stages: [authenticate: {{keys: [client-key]}}, validate, record, resolve, translate-in,
      invoke, translate-out, stream-encode]
"""


def called(path: str) -> bytes:
    """A stream with a text and a tool call."""
    function = {"name": "read", "arguments": json.dumps({"path": path})}
    call = {"index": 0, "id": "call_1", "function": function}
    parts = sse(delta(content="I will."), delta(tool_calls=[call]), delta("tool_calls"))
    return head() + parts + DONE + END


def asked(session: str, **changes: Any) -> bytes:
    message = {"role": "user", "content": ASKED}
    return raw(body(messages=[message], **changes), **{"x-claude-code-session-id": session})


def play(backend: ScriptedBackend, url: str) -> None:
    """Send one request of each kind."""
    client = Client(url)
    for session, stream, step in (
        ("whole", False, whole(200, completion("Hello"))),
        ("streamed", True, streamed("Hel", "lo")),
        ("tools", True, called("a.txt")),
        ("error", True, whole(400, error_json("no"))),
    ):
        backend.responses = [[step]]
        client.send(asked(session, stream=stream, tools=[TOOL])).read()
    backend.responses = [[head(), sse(delta(content="Hel")), Act.UNTIL_CLOSED]]
    client.socket.sendall(asked("disconnected", stream=True))
    client.response = http.client.HTTPResponse(client.socket)
    client.response.begin()
    while client.event()["type"] != "content_block_delta":
        pass
    client.close()
    assert backend.is_closed(backend.connections - 1)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a config, with its recordings."""
    folder, backend = tmp_path_factory.mktemp("record"), ScriptedBackend()
    with proxy(folder, CONFIG.format(url=backend.url, other=backend.url)) as url:
        play(backend, url)
    backend.close()
    return folder


@frozen
class Replaying:
    """The command in a copy of that folder; both backends are this one."""

    backend: ScriptedBackend
    folder: Path

    def __call__(self, *arguments: str, place: str = "recordings") -> Result:
        with contextlib.chdir(self.folder):
            result = CliRunner(env={"LLM_PROXY_CONFIG": None}).invoke(
                main, ["replay", place, *arguments]
            )
        assert "sk-proj" not in result.output
        return result

    def by_session(self, *arguments: str) -> dict[str, Any]:
        """What `--json` prints, by the session of each exchange, and the `summary`."""
        ids = {e.exchange["id"]: e.exchange["session"] for e in exchanges(self.folder)}
        lines = map(json.loads, self(*arguments, "--json").stdout.splitlines())
        return {ids.get(line.get("id"), "summary"): line for line in lines}


@pytest.fixture
def replay(recorded: Path, tmp_path: Path) -> Iterator[Replaying]:
    folder, backend = tmp_path / "copy", ScriptedBackend()
    shutil.copytree(recorded, folder)
    (folder / "pipelines.yaml").write_text(CONFIG.format(url=backend.url, other=backend.url))
    yield Replaying(backend, folder)
    backend.close()


def exchanges(folder: Path) -> list[Recorded]:
    return list(read(files(folder / "recordings"), pytest.fail))


def test_each_exchange_is_recorded_however_it_ends(recorded: Path) -> None:
    ends = {e.exchange["session"]: (e.exchange["outcome"], e.response) for e in exchanges(recorded)}

    assert {session: outcome for session, (outcome, _) in ends.items()} == {
        "whole": "complete",
        "streamed": "complete",
        "tools": "complete",
        "error": "error",
        "disconnected": "client_disconnected",
    }
    contents = {
        session: [
            {k: v for k, v in block.items() if k not in ("id", "caller")}
            for block in response["content"]
        ]
        for session, (_, response) in ends.items()
        if response
    }
    hello = [{"type": "text", "text": "Hello"}]
    assert contents == {
        "whole": hello,
        "streamed": hello,
        "tools": [
            {"type": "text", "text": "I will."},
            {"type": "tool_use", "name": "read", "input": {"path": "a.txt"}},
        ],
        "disconnected": [{"type": "text", "text": "Hel"}],
    }


def test_neither_a_key_nor_a_header_is_recorded(recorded: Path) -> None:
    [file] = (recorded / "recordings").iterdir()
    text = file.read_text()

    assert text.count("Read it. My key is [redacted].") == 5
    assert not re.search(r"client-key|sk-proj|x-api-key", text)


def test_the_same_responses_are_the_same(replay: Replaying) -> None:
    for step in (
        whole(200, completion("Other words")),
        streamed("Other"),
        called("a.txt"),
        whole(400, error_json("no")),
    ):
        replay.backend.says(step)

    result = replay("--fail-on-difference")

    assert result.exit_code == 0, result.output
    first, totals = result.stdout.splitlines()
    assert first == "4 same, 0 differ, 0 failed; 1 skipped: they have no end"
    assert totals.startswith("input tokens ")
    assert "replaying 5 exchanges against the config\n" in result.stderr
    requests = [received.body for received in replay.backend.requests]
    assert [bool(request.get("stream")) for request in requests] == [False, True, True, True]
    assert {request["model"] for request in requests} == {"some-model"}


def test_another_backend_that_responds_differently(replay: Replaying) -> None:
    calls = completion("I will.")
    function = {"name": "read", "arguments": '{"path": "b.txt"}'}
    calls["choices"][0]["message"]["tool_calls"] = [{"id": "call_1", "function": function}]
    calls["choices"][0]["finish_reason"] = "tool_calls"
    replay.backend.says(whole(200, calls))
    replay.backend.says(whole(503, error_json("overloaded")))
    replay.backend.says(called("b.txt"))
    replay.backend.says(streamed("Hello"))

    lines = replay.by_session("--against", "two/large")

    summary = lines.pop("summary")["summary"]
    results = {name: (line["result"], line["differences"]) for name, line in lines.items()}
    assert results == {
        "whole": ("differs", ["blocks", "tools", "stop reason"]),
        "streamed": ("failed", ["blocks", "stop reason", "error"]),
        "tools": ("differs", ["tools"]),
        "error": ("differs", ["blocks", "stop reason", "error"]),
    }
    assert lines["whole"]["now"]["target"] == "two/large"
    assert lines["whole"]["now"]["tools"] == [{"name": "read", "input": {"path": "b.txt"}}]
    assert (summary["same"], summary["differs"], summary["failed"]) == (0, 3, 1)


def test_the_table_shows_what_differs(replay: Replaying) -> None:
    replay.backend.says(whole(200, completion("Hello")))
    replay.backend.says(streamed("Hello"))
    replay.backend.says(called("b.txt"))
    replay.backend.says(whole(400, error_json("no")))

    result = replay("--against", "other", "--fail-on-difference")

    assert result.exit_code == 1
    table = re.sub(r"req_\w+", "ID", re.sub(r"0\.\d+", "S", result.stdout))
    assert table.startswith("""\
ID differs
                   one/some-model          two/a-model
    blocks         text, tool_use          text, tool_use
  * tools          read {"path": "a.txt"}  read {"path": "b.txt"}
    stop reason    tool_use                tool_use
""")
    assert "3 same, 1 differ, 0 failed" in table


@pytest.mark.parametrize(
    ("against", "model"),
    [("two", "a-model"), ("two/maker/large", "maker/large"), ("open-x", "open-x")],
)
def test_what_against_may_name(replay: Replaying, against: str, model: str) -> None:
    replay.backend.says(whole(200, completion()))

    assert replay("--against", against, "--limit", "1").exit_code == 0
    assert replay.backend.requests[0].body["model"] == model


def test_a_request_that_fails_now_fails_the_command(replay: Replaying) -> None:
    replay.backend.says(whole(500, error_json("broken")))

    result = replay("--limit", "1")

    assert result.exit_code == 1
    assert "  * error " in result.stdout
    assert "0 same, 0 differ, 1 failed" in result.stdout


def test_broken_lines_are_reported_with_their_place(replay: Replaying) -> None:
    replay.backend.says(whole(200, completion()))
    [file] = (replay.folder / "recordings").iterdir()
    good = file.read_text().splitlines()[0]
    file.write_text(f"{{\n{good}\n[]\n{good[:100]}")

    result = replay(place=f"recordings/{file.name}")

    assert result.exit_code == 0
    assert f"{file.name}:1: not valid JSON" in result.stderr
    assert f"{file.name}:3: not an exchange" in result.stderr
    assert f"{file.name}:4: not valid JSON" in result.stderr
    assert "1 same, 0 differ, 0 failed; 3 lines cannot be read" in result.stdout


@pytest.mark.parametrize("content", ["", "{\n[]\n", '{"request": {"model": "x"}}\n'])
def test_a_file_without_an_exchange_fails_the_command(replay: Replaying, content: str) -> None:
    (replay.folder / "other.jsonl").write_text(content)

    result = replay(place="other.jsonl")

    assert result.exit_code == 1
    assert "no exchange in other.jsonl can be replayed\n  hint: " in result.stderr


def test_a_file_that_a_proxy_deletes_meanwhile_is_reported(tmp_path: Path) -> None:
    files = [tmp_path / "exchanges-1.jsonl", tmp_path / "exchanges-2.jsonl"]
    files[1].write_text('{"request": {}}\n')
    broken: list[str] = []

    assert count(files, None) == 1
    assert [recorded.request for recorded in read(files, broken.append)] == [{}]
    assert broken == [f"{files[0]}: it was deleted; a running proxy deletes its oldest recordings"]
    with pytest.raises(ClickException, match="cannot be read: Is a directory"):
        count([tmp_path], None)


def test_two_requests_may_be_in_flight(replay: Replaying) -> None:
    second_came = Event()
    replay.backend.says(second_came, whole(200, completion()))
    replay.backend.says(streamed("Hello"))
    with ThreadPoolExecutor() as pool:
        pool.submit(replay.backend.request, 1).add_done_callback(lambda _: second_came.set())
        result = replay("--concurrency", "2", "--limit", "2")

    assert result.stdout.startswith("2 same, 0 differ, 0 failed\n")


def test_wrong_command_lines(replay: Replaying) -> None:
    misspelt = replay("--against", "tow")
    (replay.folder / "empty").mkdir()
    empty = replay(place="empty")

    assert (misspelt.exit_code, misspelt.stdout) == (1, "")
    assert "there is no model and no backend `tow`" in misspelt.stderr
    assert "hint: did you mean `two`?" in misspelt.stderr
    assert empty.exit_code == 1
    assert "hint: add the stage `record` after `validate`" in empty.stderr
    assert replay("--limit", "0").exit_code == replay(place="absent").exit_code == 2


def test_explain_reads_a_recording(replay: Replaying) -> None:
    [file] = (replay.folder / "recordings").iterdir()
    with contextlib.chdir(replay.folder):
        runner = CliRunner(env={"LLM_PROXY_CONFIG": None})
        several = runner.invoke(main, ["explain", "--dry", str(file)])
        one = runner.invoke(main, ["explain", "--dry", "-"], input=file.read_text().splitlines()[0])

    assert several.exit_code == one.exit_code == 0
    assert "note: only the first exchange is explained; 4 follow\n" in several.stderr
    assert "\nvalidate " in one.stdout
    assert "invalid" not in one.stdout


def test_no_limit_refuses_a_request_of_a_command(replay: Replaying) -> None:
    file = replay.folder / "pipelines.yaml"
    limits = "limits: {all: {requests_per_day: 1}}\nstore: {url: 'redis://x', on_loss: refuse}\n"
    file.write_text(limits + file.read_text().replace("resolve,", "resolve, limit,"))
    for step in (whole(200, completion()), streamed("a"), called("a.txt"), whole(400, {})):
        replay.backend.says(step)
    assert "4 same" in replay().stdout
    with contextlib.chdir(replay.folder):
        result = CliRunner().invoke(main, ["explain", "--dry", "-"], input=json.dumps(body()))
    assert "\nlimit " in result.stdout
    assert result.exit_code == 0


@pytest.fixture
def _ctrl_c_interrupts() -> Iterator[None]:
    """A shell may have started the tests with SIGINT ignored, which processes inherit."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c_interrupts")
def test_ctrl_c_prints_what_is_there(replay: Replaying) -> None:
    replay.backend.says(whole(200, completion()))
    replay.backend.says(Act.UNTIL_CLOSED)
    with ThreadPoolExecutor() as pool:
        pool.submit(replay.backend.request, 1).add_done_callback(
            lambda _: os.kill(os.getpid(), signal.SIGINT)
        )
        result = replay()

    assert result.exit_code == 1
    assert result.stdout.startswith("1 same, 0 differ, 0 failed; interrupted\n")


def test_a_folder_that_cannot_be_written_stops_no_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = ScriptedBackend()
    backend.says(whole(200, completion()))
    config = CONFIG.format(url=backend.url, other=backend.url)
    with proxy(tmp_path, f"recordings: {{folder: /proc/no}}\n{config}") as url:
        client = Client(url)
        statuses = {client.post(body()).status for _ in range(5)}
        client.close()
    backend.close()

    assert statuses == {200}
    assert len([line for line in caplog.messages if "exchanges are not recorded" in line]) == 1
