"""An official SDK, the whole proxy on a real socket, and a backend that says what a test wants."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from attrs import define

from tests.secrets import PROMPT
from tests.support import body
from tests.wire.agents import create
from tests.wire.backend import ScriptedBackend, Step
from tests.wire.chat import DONE, END, delta, head, sse, whole
from tests.wire.client import Client, Response

MODES = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
USAGE = {"prompt_tokens": 40, "completion_tokens": 7}
WEATHER: Any = {
    "name": "get_weather",
    "description": f"Report the weather. {PROMPT}",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
THINKING: Any = {"type": "adaptive"}

#: A model for each profile, all at the scripted backend, and some with facts of their own.
CONFIG = """
backends:
  generic: {{base_url: "{url}/v1", api_key: backend-key}}
  llamacpp: {{profile: llamacpp, base_url: "{url}/v1"}}
  vllm: {{profile: vllm, base_url: "{url}/v1"}}
  openai: {{profile: openai, base_url: "{url}/v1"}}
  openrouter: {{profile: openrouter, base_url: "{url}/v1"}}
  ollama: {{profile: ollama, base_url: "{url}/v1"}}
  databricks: {{profile: databricks, base_url: "{url}/v1"}}
models:
  claude-test: {{backend: generic}}
  llamacpp: {{backend: llamacpp}}
  vllm: {{backend: vllm}}
  openai: {{backend: openai}}
  openrouter: {{backend: openrouter}}
  ollama: {{backend: ollama}}
  databricks: {{backend: databricks}}
  learning: {{backend: generic}}
  reasoner: {{backend: generic, overrides: {{fields: {{temperature: warn, top_p: drop}}}}}}
  small: {{backend: generic, overrides: {{context_window: 4096}}}}
  blind: {{backend: generic, overrides: {{fields: {{image.base64: reject}}}}}}
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      - authenticate: &keys {{keys: [client-key]}}
      - validate
      - resolve
      - translate-in
      - invoke
      - translate-out
      - stream-encode
  impatient:
    route: POST /impatient/v1/messages
    stages:
      - authenticate: *keys
      - validate
      - resolve
      - translate-in
      - queue
      - invoke
      - translate-out: {{ping_interval: 0.05}}
      - stream-encode
  weak:
    route: POST /weak/v1/messages
    stages:
      - authenticate: *keys
      - validate
      - resolve
      - translate-in
      - extract-reasoning: {{starts_inside: true, backends: [vllm]}}
      - invoke
      - repair-tools
      - translate-out
      - stream-encode
"""


@define
class Talk:
    """A client and a backend, and the proxy between the two."""

    url: str
    backend: ScriptedBackend
    sdk: anthropic.Anthropic
    client: Client

    def script(self, *steps: Step) -> None:
        """From now on the backend answers so."""
        self.backend.responses = [steps]

    def plays(self, *deltas: dict[str, Any], finish: str | None = "stop") -> None:
        """The backend streams these deltas, each in a chunk, and its usage at the end."""
        ending = [delta(finish), {"choices": [], "usage": USAGE}]
        chunks = [each if "choices" in each else delta(**each) for each in deltas]
        self.script(head() + sse(*chunks, *ending) + DONE + END)

    def answers(self, stream: bool, finish: str = "stop", **members: Any) -> None:
        """The backend answers with this message, in one chunk where a stream is asked for."""
        if stream:
            self.plays({"role": "assistant", **members}, finish=finish)
            return
        message = {"role": "assistant", "content": None, **members}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        self.script(whole(200, {"choices": [choice], "usage": USAGE}))

    def ask(
        self, stream: bool = False, under: str = "", **required: Any
    ) -> anthropic.types.Message:
        """Send a request with the SDK. Fields without an argument go in `extra_body`.

        `under` is a path the routes of another pipeline are below.
        """
        request: dict[str, Any] = {**body(), **required}
        sdk = self.sdk.with_options(base_url=self.url + under)
        return create(sdk, stream, request)

    def post(self, path: str = "/v1/messages", **changes: Any) -> Response:
        """Send a request. Check the response against the grammar and the SDK's types."""
        answer = self.client.post(body(**changes), path)
        _ = answer.events if answer.status == 200 and changes.get("stream") else answer.json
        return answer

    def history(self, *history: Any, **changes: Any) -> list[dict[str, Any]]:
        """The messages that the backend gets for this conversation. The user's is the first."""
        self.answers(False, content="Well.")
        roles = ("user", "assistant")
        messages = [
            turn if "role" in turn else {"role": roles[n % 2], "content": turn}
            for n, turn in enumerate(history)
        ]
        answer = self.post(messages=messages, **changes)
        assert answer.status == 200, answer.body
        sent: list[dict[str, Any]] = self.asked["messages"]
        return sent

    @property
    def asked(self) -> Any:
        """The body of the last request the backend got."""
        return self.backend.requests[-1].body


def call(arguments: Any, index: int | None = 0, **members: Any) -> dict[str, Any]:
    """A fragment of a tool call, of `get_weather` if it has an id."""
    function = {"name": "get_weather"} if "id" in members else {}
    fragment = {"function": {**function, "arguments": arguments}, **members}
    return fragment if index is None else {"index": index, **fragment}


def calls(*fragments: dict[str, Any]) -> dict[str, Any]:
    """A delta with fragments of tool calls."""
    return {"tool_calls": list(fragments)}


def cities(message: anthropic.types.Message) -> list[Any]:
    """The inputs of the tool calls in a response."""
    return [block.input for block in message.content if block.type == "tool_use"]


def kinds(message: anthropic.types.Message) -> list[str]:
    """The types of the blocks of a response."""
    return [block.type for block in message.content]


def use(identity: str, city: str = "Paris") -> dict[str, Any]:
    """A tool call in a conversation."""
    return {"type": "tool_use", "id": identity, "name": "get_weather", "input": {"city": city}}


def result(identity: str, content: Any = "sunny", **members: Any) -> dict[str, Any]:
    """Its result."""
    return {"type": "tool_result", "tool_use_id": identity, "content": content, **members}


def said(text: str) -> dict[str, Any]:
    """A text block in a conversation."""
    return {"type": "text", "text": text}


def roles(messages: list[dict[str, Any]]) -> list[str]:
    """Who speaks, in order."""
    return [message["role"] for message in messages]
