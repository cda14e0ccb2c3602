"""`llm-proxy explain` against a backend on a real socket."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from click.testing import CliRunner, Result

from proxy.cli import main
from tests.docs.pages import ROOT, Page
from tests.support import body
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import DONE, END, completion, delta, error_json, head, sse, streamed, whole

KEY = "sk-key-of-the-client"
BACKEND_KEY = "sk-key-of-the-backend"
TEXT = """\
backends:
  here: {base_url: "${BACKEND_URL}/v1", api_key: "${BACKEND_KEY}", fields: {top_k: warn}}
  there: {base_url: "${BACKEND_URL}/there/v1"}
models:
  claude-test: {backend: here, model: some-model}
  two: {targets: [{backend: here, model: one}, {backend: there, model: other}]}
pipelines:
  messages:
    route: POST /v1/messages
    stages: [authenticate, validate, resolve, fallback, translate-in, queue, invoke,
      translate-out, stream-encode]
  count:
    route: POST /v1/messages/count_tokens
    stages: [authenticate, "validate": {endpoint: count-tokens}, resolve, fallback, translate-in,
      count-tokens]
  models:
    route: "GET /v1/models/{id:path}"
    stages: [authenticate, list-models]
"""


@frozen
class Explaining:
    """The command, in a folder with a config and next to a backend."""

    backend: ScriptedBackend
    folder: Path

    def __call__(
        self, request: Any, *arguments: str, color: bool = False, source: tuple[str, ...] = ("-",)
    ) -> Result:
        environ = {
            "BACKEND_URL": self.backend.url,
            "BACKEND_KEY": BACKEND_KEY,
            "PROXY_API_KEY": KEY,
            "LLM_PROXY_CONFIG": None,
        }
        data = request if isinstance(request, bytes) else json.dumps(request).encode()
        with contextlib.chdir(self.folder):
            result = CliRunner(env=environ).invoke(
                main, ["explain", *source, *arguments], input=data, color=color
            )
        assert not {KEY, BACKEND_KEY} & set(re.findall(r"sk-[\w-]+", result.output))
        return result

    def json(self, request: Any, *arguments: str) -> dict[str, Any]:
        whole: dict[str, Any] = json.loads(self(request, "--json", *arguments).stdout)
        return whole


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedBackend]:
    made = ScriptedBackend()
    yield made
    made.close()


@pytest.fixture
def explain(server: ScriptedBackend, tmp_path: Path) -> Iterator[Explaining]:
    (tmp_path / "pipelines.yaml").write_text(TEXT)
    yield Explaining(server, tmp_path)
    server.forget()


def request(**changes: Any) -> dict[str, Any]:
    plain = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}
    return body(**{**plain, **changes})


SHOWN = """\
POST /v1/messages → pipeline `messages`
> content-type: application/json
> x-api-key: ***

authenticate
  + client: "key-1"
validate
  + model: "claude-test"
  + messages: [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
  + max_tokens: 100
  + system: [{"type": "text", "text": "Be brief."}]
  + stream: true
  + top_k: 5
  + metadata: {"user_id": "u"}
resolve
  + target: {"backend": "here", "model": "some-model"}
fallback
  unchanged
translate-in
  ~ model: "claude-test" → "some-model"
  ~ messages: [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}] → \
[system, user] (82 bytes)
  - system: [{"type": "text", "text": "Be brief."}]  (its equivalent is sent)
  - stream: true  (its equivalent is sent)
  - top_k: 5  (dropped, and reported to the client)
  - metadata: {"user_id": "u"}  (dropped; the client cannot notice)
  + stream_options: {"include_usage": true}
  ! top_k: dropped, and reported to the client
queue
  unchanged
"""
FULL = request(top_k=5, metadata={"user_id": "u"}, system="Be brief.")


def without_times(text: str) -> str:
    return re.sub(r" +[\d.]+ ms(?=  |$)", "", text, flags=re.MULTILINE)


def test_dry_shows_each_stage_and_calls_no_backend(explain: Explaining) -> None:
    result = explain(FULL, "--dry")

    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert without_times(result.stdout) == (
        f"{SHOWN}\nstopped before `invoke`: no backend was called\n"
    )
    assert not explain.backend.requests
    assert len(re.findall(r"[\d.]+ ms$", result.stdout, re.MULTILINE)) == 6


def test_a_run_shows_the_response_too(explain: Explaining) -> None:
    explain.backend.says(streamed("Good ", "morning"))

    result = explain(FULL)

    assert result.exit_code == 0, result.output
    assert result.stderr == "waiting for backend `here` …\n"
    lines = without_times(result.stdout).removeprefix(SHOWN).splitlines()
    assert lines[:3] == [
        "invoke  ChatRequest → ChatWaiting, ChatStart, 3 ChatChunk, ChatEnd",
        '  + content: "Good morning"',
        '  + finish_reason: "stop"',
    ]
    assert '  ~ content: "Good morning" → [{"type": "text", "text": "Good morning"}]' in lines
    assert '  + stop_reason: "end_turn"' in lines
    assert "  + status: 200" in lines
    assert explain.backend.request().body["messages"][0]["content"] == "Be brief."


def test_a_long_conversation_hides_no_other_change(explain: Explaining) -> None:
    turns = [{"role": ("user", "assistant")[n % 2], "content": "word " * 50} for n in range(101)]

    text = explain(request(messages=turns), "--dry").stdout

    assert "    and 93 more in messages; `--json` prints all\n" in text
    assert "  + stream_options: " in text
    assert len(text) < 5000


def test_colours_are_for_terminals_only(explain: Explaining) -> None:
    assert "\x1b[32m  + client" in explain(FULL, "--dry", color=True).stdout
    assert "\x1b" not in explain(FULL, "--dry").stdout


def test_json_has_all_values_and_counts_and_times(explain: Explaining) -> None:
    explain.backend.says(streamed("Good ", "morning"))

    report = explain.json(request(messages=[{"role": "user", "content": "Hello" * 100}]))

    stages = {stage["name"]: stage for stage in report["stages"]}
    assert list(stages)[-2:] == ["translate-out", "stream-encode"]
    assert stages["invoke"]["in"] == {"ChatRequest": 1}
    assert stages["invoke"]["out"]["ChatChunk"] == 3
    assert stages["invoke"]["first_response_seconds"] >= 0
    assert all(stage["seconds"] >= 0 for stage in stages.values())
    [made] = stages["translate-in"]["requests"]
    changed = {change["path"]: change for change in made["changes"]}
    assert changed["messages[0].content"]["after"] == "Hello" * 100
    assert (report["errors"], report["response"]["status"]) == ([], 200)
    assert report["attempts"][0]["target"]["model"] == "some-model"


def test_another_attempt_shows_the_stages_again(explain: Explaining) -> None:
    explain.backend.says(whole(500, error_json(f"no, {BACKEND_KEY}")))
    explain.backend.says(whole(200, completion("Hi")))

    result = explain(request(model="two", stream=False))

    assert result.exit_code == 0, result.output
    text = without_times(result.stdout)
    assert '  ~ target.backend: "here" → "there"\n' in text
    assert text.count("\ntranslate-in\n") == 2
    assert "\ninvoke: 500 api_error: " in text
    assert text.endswith("\nfallback: sent again after api at here\n")


def test_a_tool_call_is_put_together(explain: Explaining) -> None:
    parts = [{"name": "read"}, {"arguments": '{"a"'}, {"arguments": ": 1}"}]
    calls = [delta(tool_calls=[{"index": 0, "id": "call_1", "function": part}]) for part in parts]
    explain.backend.says(head() + sse(*calls, delta("tool_calls")) + DONE + END)
    tool = {"name": "read", "input_schema": {"type": "object", "properties": {"a": {}}}}

    report = explain.json(request(tools=[tool]))

    made = {c["path"]: c.get("after") for c in report["stages"][6]["response"]}
    assert made["tool_calls"] == [{"name": "read", "arguments": '{"a": 1}'}]


@pytest.mark.parametrize(
    ("data", "stage", "words"),
    [
        (b"{", "validate", "the body is not valid JSON"),
        (b"[]", "validate", "400 invalid_request_error"),
        (json.dumps(request(model="other")).encode(), "resolve", "model: other is not served here"),
    ],
    ids=["json", "list", "model"],
)
def test_an_error_names_its_stage(explain: Explaining, data: bytes, stage: str, words: str) -> None:
    result = explain(data)

    assert result.exit_code == 1
    last = result.stdout.splitlines()[-1]
    assert last.startswith(f"{stage}: 4")
    assert words in last


@pytest.mark.parametrize(
    "saved",
    [
        request(model="\x1b]0;title\x07\x9b2J"),
        request(**{"\x1b]0;title\x07\x9b2J": 1}),
        request(metadata={"user_id": "\x9b2J"}),
        {"request": request(), "headers": {"x-a": "\x1b]0;title\x07"}},
    ],
    ids=["error", "member", "value", "header"],
)
def test_a_request_writes_no_control_characters_to_the_terminal(
    explain: Explaining, saved: dict[str, Any]
) -> None:
    result = explain(saved, "--dry")

    assert result.stdout.replace("\n", "").isprintable()


def test_a_stream_that_breaks_off_is_an_error(explain: Explaining) -> None:
    explain.backend.says(head() + sse(delta(content="Hel")) + END)

    result = explain(request())

    assert result.exit_code == 1
    assert re.match(r"translate-out: \d+ \w+: ", result.stdout.splitlines()[-1])


def test_a_saved_exchange_has_headers_and_the_request(explain: Explaining) -> None:
    saved = {"request": request(), "headers": {"Anthropic-Beta": "x", "Authorization": KEY}}

    result = explain(saved, "--dry")

    assert result.exit_code == 0
    assert "> anthropic-beta: x\n> authorization: ***\n> x-api-key: ***\n" in result.stdout
    assert '+ model: "claude-test"' in result.stdout


def test_another_pipeline_is_named(explain: Explaining) -> None:
    counted = explain(request(stream=None, max_tokens=None), "--pipeline", "count", "--dry")
    listed = explain(b"", "--pipeline", "models")

    assert counted.exit_code == 0
    assert counted.stdout.endswith("stopped before `count-tokens`: no backend was called\n")
    assert listed.stdout.startswith("GET /v1/models/x → pipeline `models`\n")
    assert listed.exit_code == 1  # there is no model `x`


def test_wrong_command_lines(explain: Explaining) -> None:
    misspelt = explain(FULL, "--pipeline", "message")
    (explain.folder / "pipelines.yaml").write_text("pipelines: 1")

    assert (misspelt.exit_code, misspelt.stdout) == (1, "")
    assert "hint: did you mean `messages`?" in misspelt.stderr
    assert (explain(FULL).exit_code, explain(FULL, "--drY").exit_code) == (1, 2)
    assert CliRunner().invoke(main, ["explain", "no-such-file"]).exit_code == 2


def test_a_file_that_cannot_be_read_is_reported(explain: Explaining) -> None:
    result = explain(FULL, "/proc/self/mem", source=())

    assert result.exit_code == 1
    assert "/proc/self/mem cannot be read: Input/output error" in result.stderr
    assert "hint: name another file" in result.stderr


STAGE = '''
from attrs import define, evolve, frozen
from pipeline import Send, Stage, option
from stages.events import Validated

@frozen
class Limit(Stage[Validated, Validated]):
    """Limit the tokens."""

    tokens: int = option(help="tokens")

    async def handle(self, event: Validated, forward: Send[Validated]) -> None:
        await forward(evolve(event, request=evolve(event.request, max_tokens=self.tokens)))
'''


def test_a_stage_of_ones_own_is_explained(explain: Explaining) -> None:
    (explain.folder / "explained_stages.py").write_text(STAGE)
    text = TEXT.replace(
        "validate, resolve", '"validate", "explained_stages:Limit": {tokens: 7}, resolve', 1
    )
    (explain.folder / "pipelines.yaml").write_text(text)

    result = explain(request(), "--dry")

    assert "\nexplained_stages:Limit\n  ~ max_tokens: 100 → 7\n" in without_times(result.stdout)


def test_the_example_on_the_page_is_what_the_command_prints() -> None:
    blocks = [block.text for block in Page("docs/operations.md").blocks("text")]
    example = next(text for text in blocks if "→ pipeline" in text)
    asked = {"model": "claude-any", "max_tokens": 20, "system": "Be brief.", "speed": "fast"}
    message = {"role": "user", "content": "Hello"}
    data = {**asked, "metadata": {"user_id": "u"}, "messages": [message]}

    with contextlib.chdir(ROOT):
        result = CliRunner(env={"LLM_PROXY_CONFIG": None, "PROXY_API_KEY": None}).invoke(
            main, ["explain", "--dry", "-"], input=json.dumps(data)
        )

    assert without_times(result.stdout) == without_times(example)
