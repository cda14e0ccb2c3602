"""Events and fakes that tests of single stages start from."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define

from pipeline import Send
from stages.backends.backend import Backend
from stages.events import (
    Authenticated,
    ChatChunk,
    ChatEnd,
    ChatEvent,
    ChatRequest,
    HttpRequest,
    Resolved,
    Validated,
)
from stages.exchange import Exchange, Target
from stages.messages_api.request import MessagesRequest
from stages.messages_api.structuring import structure
from stages.profiles.profile import Profile
from stages.translation.request import chat_request as translated
from stages.wire import json_codec
from tests.secrets import PROMPT

#: For a test that runs on asyncio and trio in a module that runs on asyncio alone.
ON_BOTH = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


def body(**changes: Any) -> dict[str, Any]:
    """The JSON of a small, valid request, with changes. None removes a member."""
    whole = {
        "model": "claude-test",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": PROMPT}],
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def http(data: bytes = b"", **changes: Any) -> HttpRequest:
    """An HTTP request whose body is `data`."""

    async def read(limit: int) -> bytes:
        return data

    options: dict[str, Any] = {"method": "POST", "path": "/v1/messages", "headers": {}, **changes}
    session = options["headers"].get("x-claude-code-session-id", "")
    exchange = Exchange(session=session, client="key-1")
    return HttpRequest(read_body=read, **{"exchange": exchange, **options})


def authenticated(**changes: Any) -> Authenticated:
    """A request with the JSON of `body(**changes)`."""
    return Authenticated(http(json_codec.encode(body(**changes))))


def request(**changes: Any) -> MessagesRequest:
    """A structured request."""
    return structure(body(**changes))


def validated(**changes: Any) -> Validated:
    """A request after `validate`."""
    event = Validated(http(), request(**changes))
    event.exchange.stream = event.request.stream
    return event


def resolved(**changes: Any) -> Resolved:
    """A request after `resolve`, on its way to the backend `fake`."""
    event = validated(**changes)
    return Resolved(event.http, event.request, Target("fake", "some-model"))


def profile(**changes: Any) -> Profile:
    """The generic profile, with changes."""
    return Profile(**{"base_url": "http://backend.invalid/v1", **changes})


def backend(**changes: Any) -> Backend:
    """A configured backend that is not opened."""
    return Backend(profile(**changes))


def chat_request(**changes: Any) -> ChatRequest:
    """A request after `translate-in`, translated for the generic profile."""
    return translated(resolved(**changes), profile())


def degradations(event: ChatRequest | Exchange) -> tuple[str, ...]:
    """The degradations of a translation or of an exchange, as the client reads them."""
    return tuple(map(str, event.degradations))


@define
class FakeBackend:
    """Responds to every request with `chunks`. `end` is its last event, or the error it raises."""

    chunks: list[Any]
    end: ChatEvent | Exception = ChatEnd()
    closed: bool = False

    async def answer(
        self,
        request: ChatRequest,
        forward: Send[ChatEvent],
        idle_timeout: float,
        first_byte_timeout: float | None = None,
    ) -> None:
        try:
            for data in self.chunks:
                await forward(ChatChunk(data))
            if isinstance(self.end, Exception):
                raise self.end
            await forward(self.end)
        finally:
            self.closed = True
