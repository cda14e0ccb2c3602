"""Calls of a scripted backend, as a Backend and as its client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from attrs import evolve

from stages.backends.backend import Backend
from stages.backends.call import BackendCall
from stages.backends.client import ChatCompletionsClient
from stages.events import ChatChunk, ChatEvent, ChatRequest
from tests.support import chat_request, profile
from tests.wire.backend import ScriptedBackend


@asynccontextmanager
async def opened(server: ScriptedBackend, **changes: Any) -> AsyncIterator[Backend]:
    """A backend that leads to `server`."""
    backend = Backend(profile(base_url=f"{server.url}/v1/", **changes))
    try:
        yield backend
    finally:
        await backend.aclose()


async def parts_of(backend: Backend, request: ChatRequest) -> list[ChatEvent]:
    """The parts of the response to one request."""
    parts: list[ChatEvent] = []

    async def keep(part: ChatEvent) -> None:
        parts.append(part)

    await backend.answer(request, keep, idle_timeout=5)
    return parts


async def events_of(backend: Backend, **changes: Any) -> list[ChatEvent]:
    """The same, no matter what arrived together."""
    return [
        evolve(part, more_buffered=False) if isinstance(part, ChatChunk) else part
        for part in await parts_of(backend, chat_request(**changes))
    ]


def call(idle_timeout: float = 5, **payload: Any) -> BackendCall:
    """A call whose payload LangChain has made."""
    return BackendCall("fake", [], {}, idle_timeout, payload={"model": "some-model", **payload})


async def chunks(
    completions: ChatCompletionsClient, backend_call: BackendCall, stream: bool = True
) -> list[Any]:
    """All chunks of a response; `stream`: whether a stream is asked for."""
    async with await completions.create(call=backend_call, stream=stream) as response:
        return [chunk async for together in response for chunk in together]


async def completed(completions: ChatCompletionsClient, backend_call: BackendCall) -> Any:
    """The only chunk of a response that is no stream."""
    async with await completions.create(call=backend_call) as response:
        return await response.whole()
