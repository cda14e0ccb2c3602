"""What the checks send, and short descriptions of what comes."""

from __future__ import annotations

from typing import Any

import aiohttp
import anthropic
from anthropic.lib.streaming import AsyncMessageStreamManager
from anthropic.types import Message
from attrs import frozen

from tests.live.process import Running
from tests.live.servers import KEY

#: Seconds that a check may take. A slow machine generates about ten tokens per second.
LIMIT = 180.0


def user(text: str) -> list[dict[str, Any]]:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]


@frozen
class Live:
    """What a check uses: the server, and a client of the proxy that calls it."""

    server: Running
    model: str
    client: anthropic.AsyncAnthropic
    direct: aiohttp.ClientSession

    async def whole(self, **changes: Any) -> Message:
        """The response to a request with `changes`, at temperature 0."""
        message: Message = await self.client.messages.create(**_request(changes))
        return message

    async def streamed(self, **changes: Any) -> Message:
        """The same as a stream, put together by the SDK."""
        async with self.stream(**changes) as stream:
            return await stream.get_final_message()

    def stream(self, **changes: Any) -> AsyncMessageStreamManager[None]:
        """The stream itself. A check may close it at any time."""
        return self.client.messages.stream(**_request(changes))

    async def count(self, **changes: Any) -> int:
        """How many tokens the prompt has, by the proxy."""
        asked = _request(changes)
        for name in ("max_tokens", "stop_sequences", "extra_body"):
            asked.pop(name, None)
        return (await self.client.messages.count_tokens(**asked)).input_tokens

    async def ask(self, **body: Any) -> dict[str, Any]:
        """What the server itself answers to a chat completion at temperature 0."""
        whole = {"model": self.model, "temperature": 0, **body}
        url = f"{self.server.url}/v1/chat/completions"
        headers = {"Authorization": f"Bearer {KEY}"}
        async with self.direct.post(url, json=whole, headers=headers) as response:
            answer: dict[str, Any] = await response.json()
            return answer


def _request(changes: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the SDK, which has none for the temperature."""
    asked = {"model": "live", "max_tokens": 40, "messages": user("Say hello."), **changes}
    asked["extra_body"] = {"temperature": asked.pop("temperature", 0)}
    return asked


def text(message: Message) -> str:
    """The text of a response."""
    return "".join(block.text for block in message.content if block.type == "text")


def calls(message: Message) -> list[str]:
    """The names of the tools it calls."""
    return [block.name for block in message.content if block.type == "tool_use"]


def prompt_tokens(message: Message) -> int:
    """All tokens of the prompt, those from a cache, too."""
    usage = message.usage
    cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    return usage.input_tokens + cached


def ending(message: Message) -> str:
    """How a response ended: `tool_use weather`, `end_turn`."""
    return " ".join((str(message.stop_reason), *calls(message)))


def error(raised: anthropic.APIStatusError) -> str:
    """An error as a client sees it, and whether the SDK would try again."""
    body: Any = raised.body
    inner = body.get("error", {}) if isinstance(body, dict) else {}
    said = raised.response.headers.get("x-should-retry")
    status = raised.status_code
    again = said == "true" or (said is None and (status in (408, 409, 429) or status >= 500))
    hint = "retried" if again else "not retried"
    return f"{status} {inner.get('type')}, {hint}: {inner.get('message')}"
