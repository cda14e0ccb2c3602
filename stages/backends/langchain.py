"""LangChain's ChatOpenAI, and everything that depends on its internals.

ChatOpenAI puts together the payload of each call (with the operator's LangChain settings), and
carries callbacks and tracing. Unmodified it loses reasoning in both directions, tool calls without
an index, refusals, and the matched stop string. So messages pass through it as Chat Completions
dicts, and each message that it makes carries its original chunk.

Private members used, pinned by tests: `_get_request_payload`, `_astream`, `_agenerate`,
`_convert_chunk_to_generation_chunk`, `_create_chat_result`. With tracing (LANGSMITH_TRACING)
responses pass through `astream` and `ainvoke`. These make a message of each chunk, which is half
of a chunk's cost (see tests/bench/). Without tracing these messages are not needed: ChatOpenAI
makes the payload, and `open_response` reads the response from its client.

    open_response                  makes the payload, and enters one of these
    ├── BackendResponse            without tracing: the client's response
    └── _TracedResponse            with tracing: `ainvoke` or `astream` enters the response

2026-11: LangChain messages as an intermediate form were tried on paper and rejected. LangChain
accepts Chat Completions dicts as messages, so tracing records everything.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from functools import cached_property
from typing import Any

from attrs import define
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompt_values import ChatPromptValue
from langchain_openai import ChatOpenAI
from langsmith.utils import tracing_is_enabled
from pydantic import SecretStr

from stages.backends.call import BackendCall
from stages.backends.client import ChatCompletionsClient
from stages.backends.response import BackendResponse
from stages.profiles.profile import OUTPUT_LIMITS, Profile

log = logging.getLogger("llm_proxy")

# Errors of LangChain's conversion for chunks that deviate from OpenAI's.
_UNCONVERTIBLE = (KeyError, IndexError, TypeError, AttributeError, ValueError)

# The messages are added afterwards, unconverted.
_NONE = ChatPromptValue(messages=[])


class ProxyChat(ChatOpenAI):
    """ChatOpenAI without losses. One object serves all calls to one backend."""

    traced: bool = False

    @cached_property
    def _default_params(self) -> dict[str, Any]:
        return super()._default_params  # constant, and read by each call

    def _get_request_payload(
        self, input_: Any, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        call: BackendCall = kwargs.pop("call")
        stream = kwargs.pop("stream", False)
        payload = super()._get_request_payload(_NONE, **{"stop": stop, **kwargs, **call.options})
        # ChatOpenAI always renames max_tokens; the translation already uses the backend's name.
        limits = {k: v for k, v in call.options.items() if k in OUTPUT_LIMITS}
        payload = {k: v for k, v in payload.items() if k not in OUTPUT_LIMITS} | limits
        call.payload = {**payload, "messages": call.messages, "stream": stream}
        return {"call": call, "stream": stream}

    async def _astream(
        self, messages: Any, stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        # ChatOpenAI's own may choose the Responses API, and when closed early it leaves its inner
        # generators to the garbage collector.
        payload = self._get_request_payload(messages, stop=stop, stream=True, **kwargs)
        kind: type = AIMessageChunk
        async with await self.async_client.create(**payload) as response:
            async for chunks in response:
                for chunk in chunks:
                    generation = self._convert_chunk_to_generation_chunk(chunk, kind, {})
                    kind = type(generation.message)
                    yield generation
        payload["call"].read_to_end = True

    async def _agenerate(
        self, messages: Any, stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        # BaseChatOpenAI's own runs in a thread and does not accept dicts.
        payload = self._get_request_payload(messages, stop=stop, **kwargs)
        async with await self.async_client.create(**payload) as response:
            return self._create_chat_result(await response.whole())

    def _convert_chunk_to_generation_chunk(
        self, chunk: Any, default_chunk_class: type, base_generation_info: dict[str, Any] | None
    ) -> ChatGenerationChunk:
        try:
            result = super()._convert_chunk_to_generation_chunk(
                chunk, default_chunk_class, base_generation_info
            )
        except _UNCONVERTIBLE:
            result = None
        result = result or ChatGenerationChunk(message=AIMessageChunk(content=""))
        object.__setattr__(result.message, "__pydantic_extra__", {"wire": chunk})
        return result

    def _create_chat_result(
        self, response: Any, generation_info: dict[str, Any] | None = None
    ) -> ChatResult:
        try:
            result = super()._create_chat_result(response, generation_info)
        except _UNCONVERTIBLE:
            result = ChatResult(generations=[])
        if not result.generations:
            result = ChatResult(generations=[ChatGeneration(message=AIMessage(content=""))])
        object.__setattr__(result.generations[0].message, "__pydantic_extra__", {"wire": response})
        return result


def make_model(completions: ChatCompletionsClient, profile: Profile) -> ProxyChat:
    """Make the model of one backend."""
    return ProxyChat(
        model="unset",  # each call sets it
        base_url=completions.base_url,
        api_key=SecretStr("unused"),  # the session sends it
        client=completions,
        async_client=completions,
        use_responses_api=False,
        stream_usage=False,  # set by the translation, by the profile
        max_retries=0,
        stream_chunk_timeout=None,  # BackendResponse has an idle timeout, which comments reset
        traced=bool(tracing_is_enabled()),
    )


async def open_response(
    model: ProxyChat, name: str, call: BackendCall, stream: bool
) -> AbstractAsyncContextManager[AsyncIterator[list[dict[str, Any]]]]:
    """The response to `call`, as lists of chunks as on the wire; without a stream, one completion.

    Each list has the chunks that arrived together. Entering sends the request, leaving releases the
    connection. Entering and iterating raise ApiError.
    """
    if model.traced:
        traced = _traced_stream if stream else _traced
        return _TracedResponse(traced(model, name, call))
    payload = model._get_request_payload([], call=call, model=name, stream=stream)
    response: BackendResponse = await model.async_client.create(**payload)
    return response


@define
class _TracedResponse:
    """A response that tracing records. Entering waits for the first of `chunks`.

    A generator sends its request only when its first value is asked for.
    """

    chunks: AsyncGenerator[list[dict[str, Any]], None]
    _first: list[dict[str, Any]] | None = None

    async def __aenter__(self) -> _TracedResponse:
        self._first = await anext(self.chunks, None)
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.chunks.aclose()

    def __aiter__(self) -> _TracedResponse:
        return self

    async def __anext__(self) -> list[dict[str, Any]]:
        first, self._first = self._first, None
        return await anext(self.chunks) if first is None else first


async def _traced(
    model: ProxyChat, name: str, call: BackendCall
) -> AsyncGenerator[list[dict[str, Any]], None]:
    messages: Any = call.messages
    message: Any = await model.ainvoke(messages, call=call, model=name)
    yield [message.wire]


async def _traced_stream(
    model: ProxyChat, name: str, call: BackendCall
) -> AsyncGenerator[list[dict[str, Any]], None]:
    messages: Any = call.messages
    stream: Any = model.astream(messages, call=call, model=name)
    try:
        async with aclosing(stream):
            async for message in stream:
                if (wire := getattr(message, "wire", None)) is not None:
                    yield [wire]
    except _UNCONVERTIBLE as error:
        if not call.read_to_end:
            raise
        # At the end LangChain merges the chunks, and fails if they do not fit or there are none.
        kind = type(error).__name__  # its text may quote the response
        log.warning("a response of backend `%s` is not traced (%s)", call.backend, kind)
