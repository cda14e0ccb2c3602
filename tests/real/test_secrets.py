"""Keys and prompts stay out of whatever the proxy prints, in whichever way a request ends.

The command is started as a person starts it. Each thing that is secret is marked; nothing of what
it prints, counts, or logs about a bug may have a mark.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from tests.real.test_command import COMMAND, LIMIT
from tests.waiting import until
from tests.wire.backend import Act, ScriptedBackend, Step
from tests.wire.chat import DONE, END, completion, delta, head, http_chunk, sse, streamed, whole
from tests.wire.client import Client, raw
from tests.wire.command import CLEAN
from tests.wire.proxy import config_text

MARK = "zqMARKqz"
PROMPT = f"{MARK} prompt"
KEYS = {"client": f"{MARK}-client", "backend": f"{MARK}-backend", "header": f"{MARK}-header"}

STAGE = '''
from attrs import frozen

from pipeline import Send, Stage
from stages.events import ChatEvent, ChatRequest


@frozen
class Fail(Stage[ChatRequest, ChatRequest]):
    """A bug where the request says so, as they are: they quote what they were at."""

    async def handle(self, event: ChatRequest, forward: Send[ChatRequest]) -> None:
        said = event.messages[-1]["content"]
        if "KeyError" in said:
            {}[said]
        if "group" in said:
            raise ExceptionGroup(said, [ValueError(said)])
        if "cause" in said:
            try:
                int(said)
            except ValueError as error:
                raise RuntimeError(repr(event), event, said) from error
        await forward(event)
'''


@frozen
class Printing:
    """The command at work. What it has printed is read when it has ended."""

    process: subprocess.Popen[str]
    url: str
    backend: ScriptedBackend
    file: Path

    def logged(self, words: str) -> None:
        """Wait for these words in the log."""
        until(lambda: words in self.file.read_text(), f"{words!r} is not in {self.file}")

    def opened(self, **members: Any) -> Client:
        """A client that has requested a stream, and has not read the response."""
        client = Client(self.url)
        headers = {"x_api_key": KEYS["client"], "x_claude_code_session_id": "session-1"}
        client.socket.sendall(raw({**ASKED, "stream": True, **members}, **headers))
        return client

    def post(self, content: Any = PROMPT, key: str = KEYS["client"], **members: Any) -> bytes:
        """The body of any response."""
        asked = {"model": "claude-test", "max_tokens": 9, "stream": True, **members}
        asked.setdefault("messages", [{"role": "user", "content": content}])
        return self.send(asked, x_api_key=key)

    def send(self, asked: Any, path: str = "/v1/messages", **headers: str) -> bytes:
        """The same of any body."""
        client = Client(self.url)
        try:
            return client.post(asked, path, **{"x_api_key": KEYS["client"], **headers}).body
        finally:
            client.close()

    def printed(self) -> str:
        """End it."""
        self.process.terminate()
        self.process.wait(LIMIT)
        assert self.process.stdout
        return self.process.stdout.read() + self.file.read_text()


MORE = f"""\
  queued: {{base_url: "BASE/v1", api_key: {KEYS["backend"]}, max_concurrent_calls: 1}}
server: {{drain_timeout: 0}}
circuit_breaker: {{failures: 2, cooldown: 60}}
"""
MODELS = """\
  claude-two: {targets: [{backend: scripted, model: one}, {backend: queued, model: two}]}
  claude-queued: {backend: queued, model: three}
"""
RETRIED = "      - retry: {attempts: 2, max_wait: 0.01}\n      - fallback\n      - translate-in\n"
QUEUED = "      - stage_that_fails:Fail\n      - queue: {max_queued: 1}\n      - invoke\n"


@pytest.fixture
def printing(tmp_path: Path) -> Iterator[Printing]:
    backend = ScriptedBackend()
    text = config_text(backend.url).replace("[client-key]", f"[{KEYS['client']}]")
    headers = f"headers: {{x-own: {KEYS['header']}}}, tokenizer: vllm"
    text = text.replace("backend-key", f"{KEYS['backend']}, {headers}")
    text = text.replace("models:\n", f"{MORE}models:\n{MODELS}", 1)
    text = text.replace("      - translate-in\n", RETRIED, 1).replace("      - invoke\n", QUEUED, 1)
    text = text.replace("translate-out\n", "translate-out: {ping_interval: 0.05}\n", 1)
    text += "  metrics: {route: GET /metrics, stages: [authenticate: *keys, metrics]}\n"
    (tmp_path / "pipelines.yaml").write_text(text.replace("BASE", backend.url))
    (tmp_path / "stage_that_fails.py").write_text(STAGE)
    file = tmp_path / "stderr"
    with (
        file.open("w") as errors,
        subprocess.Popen(
            [str(COMMAND), "--port", "0"],
            cwd=tmp_path,
            env=CLEAN,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        watchdog = threading.Timer(LIMIT * 2, process.kill)
        watchdog.start()
        assert process.stdout
        said = next((line for line in process.stdout if " listens on " in line), "")
        yield Printing(process, said.rpartition(" listens on ")[2].strip(), backend, file)
        watchdog.cancel()
        process.kill()
    backend.close()


ECHO = f"cannot render: {PROMPT} with Bearer {KEYS['backend']}7"
SAID = {"error": {"message": ECHO, "code": ECHO, "type": ECHO}}
HELLO = sse(delta(role="assistant", content="Hello"))

#: Ways for a backend to fail that repeats the request.
ECHOES: dict[str, Sequence[Step]] = {
    **{
        str(status): [whole(status, SAID)]
        for status in (204, 302, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503)
    },
    "text": [whole(500, ECHO.encode(), "text/plain")],
    "overflow": [whole(400, {"error": {"message": f"context window exceeded: {ECHO}"}})],
    "detail": [whole(422, {"detail": [{"loc": ["body"], "msg": ECHO, "input": ECHO}]})],
    "json": [whole(200, SAID)],
    "html": [whole(200, ECHO.encode(), f"text/{MARK}")],
    "head": [b"HTTP/1.1 200 OK\r\n" + ECHO.encode() + b"\r\n\r\n", Act.CLOSE],
    "status": [b"HTTP/1.1 " + ECHO.encode() + b"\r\n\r\n", Act.CLOSE],
    "location": [whole(307, b"", location=f"http://127.0.0.1:1/{MARK}")],
    "early": [head(), sse(SAID), END],
    "late": [head(), HELLO, sse(SAID), END],
    "broken": [head(), HELLO, http_chunk(b'data: {"x": "' + ECHO.encode() + b"\n\n"), END],
    "no-object": [head(), http_chunk(b"data: " + json.dumps(ECHO).encode() + b"\n\n"), END],
    "chunk": [head(), HELLO, ECHO.encode() + b"\r\n", Act.CLOSE],
    "reset": [head(), HELLO, Act.RESET],
    "silent": [head(), sse(delta()), DONE, END],
    "refusal": [head(), sse(delta(refusal=ECHO), delta("content_filter")), DONE, END],
    "ending": [head(), sse(delta(content="Hello"), delta(ECHO)), DONE, END],
    "odd": [head(), sse({"choices": ECHO}, {"choices": [ECHO]}, delta(tool_calls=ECHO)), END],
    "odd-call": [head(), sse(delta(tool_calls=[{"index": ECHO, "function": ECHO}])), END],
}


def fail_in_every_way(it: Printing) -> None:
    """Requests that end well and badly, in the order of the chain."""
    it.post(key=f"{MARK}-wrong")
    it.send({}, x_api_key="", authorization=f"Bearer {MARK}")
    it.send({}, authorization=f"Basic {MARK}", x_api_key=f"{MARK}\xff")
    it.send(f'{{"{MARK}": 1, "{MARK}": 2}}'.encode())
    it.send(f'{{"messages": "{MARK}'.encode())
    it.send(PROMPT.encode())
    it.post(messages=PROMPT)
    it.post(messages=[PROMPT, {"role": PROMPT, "content": PROMPT}, {"role": "user", PROMPT: 1}])
    it.post([{"type": f"x' found using {PROMPT}", "x": PROMPT}])
    it.post([{"type": "image", "source": {"type": PROMPT, "data": PROMPT}}])
    it.post([{"type": "document", "source": {"type": PROMPT}}])
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQKMSAwIG9iag=="}
    it.post([{"type": "document", "source": pdf}, {"type": "text", "text": PROMPT}])
    it.post(tools=[{"name": PROMPT, "input_schema": {PROMPT: PROMPT}}])
    it.post(tool_choice={"type": "tool", "name": PROMPT}, tools=[{"name": "t"}])
    it.post(temperature=PROMPT, stop_sequences=[" "], metadata=PROMPT)
    for kind in ("KeyError", "group", "cause"):
        it.post(f"{PROMPT} {kind}")
    for steps in ECHOES.values():
        for stream in (True, False):
            it.backend.responses = [steps]
            it.post(system=PROMPT, stream=stream)
            it.backend.responses = [steps]
            it.send(
                {"model": "claude-test", "messages": [{"role": "user", "content": PROMPT}]},
                "/v1/messages/count_tokens",
            )
    it.backend.responses = [[streamed(PROMPT)]]
    it.post(top_k=1, thinking={"type": "adaptive"}, system=PROMPT)
    it.backend.responses = [[whole(200, completion(PROMPT))]]
    it.post(stream=False)


def fail_over(it: Printing) -> None:
    """Requests that are tried again, and elsewhere, until the targets are given up."""
    it.backend.responses = [[whole(503, SAID, retry_after="0")]]
    for _ in range(3):
        it.post(model="claude-two", system=PROMPT)


def wait_in_every_way(it: Printing) -> Client:
    """A call that has the slot to the end, which is given back; one that waits, one too many."""
    it.backend.responses = [[head(), HELLO, Act.UNTIL_CLOSED]]
    begun = len(it.backend.requests)
    first = it.opened(model="claude-queued")
    it.backend.request(begun)
    second = it.opened(model="claude-queued")
    said = b""
    while b"event: ping" not in said:
        said += second.socket.recv(1000)
    assert b"overloaded_error" in it.post(model="claude-queued")
    second.close()
    return first


def break_the_file(it: Printing) -> None:
    """Make an invalid change of the config, on a line with a key."""
    file = it.file.with_name("pipelines.yaml")
    file.write_text(
        file.read_text().replace("max_concurrent_calls: 1", "max_concurrent_calls: many")
    )
    it.logged("1 problem")


def test_no_key_and_no_prompt_is_printed_or_counted(printing: Printing) -> None:
    """A backend's text about the prompt is in the response to the client, but not in the log."""
    printing.backend.says(whole(400, {"error": {"message": f"cannot render {PROMPT}"}}))
    assert PROMPT.encode() in printing.post()
    fail_in_every_way(printing)
    fail_over(printing)
    last = wait_in_every_way(printing)
    break_the_file(printing)
    leaving = Client(printing.url)
    printing.backend.responses = [[head(), HELLO, Act.UNTIL_CLOSED]]
    leaving.send(raw({**ASKED, "stream": True}, x_api_key=KEYS["client"]))
    leaving.close()
    broken = Client(printing.url)
    broken.socket.sendall(f"GET / HTTP/1.1\r\nx-api-key : {MARK}\r\n\r\n{PROMPT}".encode())
    assert b" 400 " in broken.socket.recv(1000)
    broken.close()
    client = Client(printing.url)
    metrics = client.get("/metrics", **{"x-api-key": KEYS["client"]})
    client.close()
    assert metrics.status == 200
    assert MARK not in metrics.body.decode()
    printed = printing.printed()
    last.close()
    found = [line for line in printed.splitlines() if MARK in line]
    assert not found
    # That all of it was seen:
    assert len(re.findall(r"req_\w+ POST /v1/messages\S* \d+ ", printed)) >= 4 * len(ECHOES) + 20
    assert printed.count("pipeline `messages` failed") == 3
    assert "KeyError (" in printed
    assert "backend `scripted` answered 400: …" in printed
    assert re.search(r"req_\w+ - - 400 ", printed)
    assert "`max_concurrent_calls`: expected a whole number" in printed
    reported = metrics.body.decode()
    assert re.search(r'retries_total{.*stage="retry".*} \d', reported)
    assert re.search(r'retries_total{.*stage="fallback".*} \d', reported)
    assert re.search(r'target_state{state="open",target="queued/two"} 1', reported)
    assert 'queue_running{backend="queued"} 1' in reported


ASKED = {
    "model": "claude-test",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": PROMPT}],
}
