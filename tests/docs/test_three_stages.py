"""The three stages of docs/writing-a-stage.md, in a proxy on a real socket."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

import stages.backends.langchain  # noqa: F401 - takes seconds: not in the first request
from tests.docs.pages import Page
from tests.support import body
from tests.waiting import until
from tests.wire.backend import Act, ScriptedBackend
from tests.wire.chat import completion, delta, head, sse, whole
from tests.wire.client import Client, raw
from tests.wire.proxy import proxy

PAGE = Page("docs/writing-a-stage.md")
MODULES = ("costs.py", "memory.py", "recorder.py")
USAGE = {"prompt_tokens": 1_000_000, "completion_tokens": 100_000}
CONFIG = """
backends:
  scripted: {{base_url: "{url}/v1"}}
models:
  claude-test: {{backend: scripted, model: some-model}}
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      - costs:LogCost: {{input_price: 3, output_price: 15}}
      - recorder:Record: {{file: {file}}}
      - authenticate: {{keys: [client-key]}}
      - validate
      - memory:FromMemory
      - resolve
      - translate-in
      - invoke
      - translate-out
      - memory:ToMemory
      - stream-encode
"""


@frozen
class Served:
    """The proxy with the three stages, its backend, and the file of the recorder."""

    client: Client
    backend: ScriptedBackend
    file: Path

    def records(self, number: int) -> list[dict[str, Any]]:
        """The records, as soon as there are `number`: each is written after its response."""
        until(lambda: self.file.exists() and self.file.read_text().count("\n") >= number)
        return [json.loads(line) for line in self.file.read_text().splitlines()]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    for name in MODULES:
        (tmp_path / name).write_text(PAGE.modules()[name])
    backend, file = ScriptedBackend(), tmp_path / "exchanges.jsonl"
    with proxy(tmp_path, CONFIG.format(url=backend.url, file=file)) as url:
        client = Client(url)
        yield Served(client, backend, file)
        client.close()
    backend.close()
    for name in MODULES:
        sys.modules.pop(name.removesuffix(".py"), None)


@pytest.mark.parametrize("name", MODULES)
def test_each_has_at_most_40_lines(name: str) -> None:
    assert len(PAGE.modules()[name].splitlines()) <= 40


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_repeated_request_is_served_from_memory_and_is_free(
    stream: bool, served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llm_proxy")
    served.backend.says(whole(200, {**completion("Hi"), "usage": USAGE}))

    first = served.client.post(body())
    second = served.client.post(body(stream=stream))

    assert len(served.backend.requests) == 1
    if stream:
        texts = [e["delta"].get("text", "") for e in second.events if "delta" in e]
        assert "".join(texts) == "Hi"
        assert second.events[-1]["type"] == "message_stop"
    else:
        assert second.json["content"] == first.json["content"]
    one, two = served.records(2)
    costs = [line.partition(" ")[2] for line in caplog.messages if " cost " in line]
    assert costs == ["cost $4.500000"]
    assert one["usage"]["output_tokens"] == 100_000
    assert (one["outcome"], len(one["attempts"])) == ("complete", 1)
    assert (two["outcome"], two["attempts"], two["usage"]) == ("complete", [], None)


def test_a_disconnected_client_has_a_record_with_its_tokens(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llm_proxy")
    served.backend.says(head(), sse(delta(content="Hello " * 100)), Act.UNTIL_CLOSED)
    leaving = Client(served.client.url)
    leaving.send(raw(body(stream=True)))
    while leaving.event()["type"] != "content_block_delta":
        pass
    leaving.close()
    assert served.backend.is_closed()

    [record] = served.records(1)

    assert record["outcome"] == "client_disconnected"
    assert record["usage"]["estimated"]
    assert record["usage"]["output_tokens"] > 100
    assert any(" cost $0.00" in line for line in caplog.messages)


def test_an_error_is_recorded_too(served: Served) -> None:
    served.backend.says(whole(429, {"error": {"message": "slow down"}}))

    assert served.client.post(body()).status == 429

    [record] = served.records(1)
    assert (record["outcome"], record["error"]) == ("error", "rate_limit_error")
    assert [attempt["error"] for attempt in record["attempts"]] == ["rate_limit"]
