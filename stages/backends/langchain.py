"""LangChain's ChatOpenAI, and all that depends on its inside.

What it does here: it puts together the payload of each call (with the operator's LangChain
settings), and carries callbacks and tracing. What it must not do is lose things, and as it
comes it does: reasoning in both directions, tool calls without an index, refusals, the
matched stop string. So messages pass it as they are on the wire (its own conversion would
drop what it does not know), and each message it makes carries the chunk it was made from.

Private members used, pinned by tests: `_get_request_payload`, `_astream`, `_agenerate`,
`_convert_chunk_to_generation_chunk`, `_create_chat_result`. With tracing (LANGSMITH_TRACING)
answers pass `astream` and `ainvoke`. Without, nobody would read the messages these make of each
chunk, and they are half of what a chunk costs (measured; see tests/bench/): then the payload is
ChatOpenAI's, and the answer is read from its client.

2026-11: an intermediate form of LangChain messages was tried on paper and left out. Chat
Completions dicts are accepted by LangChain as messages, so tracing sees all it needs.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from functools import cached_property
from typing import Any

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

# What LangChain's own conversion raises on chunks that are not quite OpenAI's.
_UNCONVERTIBLE = (KeyError, IndexError, TypeError, AttributeError, ValueError)

# The messages are put in afterwards, as they are.
_NONE = ChatPromptValue(messages=[])


class ProxyChat(ChatOpenAI):
    """ChatOpenAI that loses nothing. One object serves all calls to one backend."""

    traced: bool = False

    @cached_property
    def _default_params(self) -> dict[str, Any]:
        return super()._default_params  # they do not change; each call asks for them

    def _get_request_payload(
        self, input_: Any, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        call: BackendCall = kwargs.pop("call")
        stream = kwargs.pop("stream", False)
        payload = super()._get_request_payload(_NONE, **{"stop": stop, **kwargs, **call.options})
        # ChatOpenAI renames max_tokens, always; the translation has used the backend's name.
        limits = {k: v for k, v in call.options.items() if k in OUTPUT_LIMITS}
        payload = {k: v for k, v in payload.items() if k not in OUTPUT_LIMITS} | limits
        call.payload = {**payload, "messages": call.messages, "stream": stream}
        return {"call": call, "stream": stream}

    async def _astream(
        self, messages: Any, stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        # ChatOpenAI's may choose the Responses API; and when it is closed early, it leaves the
        # generators it reads from to the garbage collector.
        payload = self._get_request_payload(messages, stop=stop, stream=True, **kwargs)
        kind: type = AIMessageChunk
        async with await self.async_client.create(**payload) as answer:
            async for chunks in answer:
                for chunk in chunks:
                    made = self._convert_chunk_to_generation_chunk(chunk, kind, {})
                    kind = type(made.message)
                    yield made
        payload["call"].read_to_end = True

    async def _agenerate(
        self, messages: Any, stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        # BaseChatOpenAI's hands the result to a thread and takes no dicts.
        payload = self._get_request_payload(messages, stop=stop, **kwargs)
        async with await self.async_client.create(**payload) as answer:
            return self._create_chat_result(await answer.whole())

    def _convert_chunk_to_generation_chunk(
        self, chunk: Any, default_chunk_class: type, base_generation_info: dict[str, Any] | None
    ) -> ChatGenerationChunk:
        try:
            made = super()._convert_chunk_to_generation_chunk(
                chunk, default_chunk_class, base_generation_info
            )
        except _UNCONVERTIBLE:
            made = None
        made = made or ChatGenerationChunk(message=AIMessageChunk(content=""))
        object.__setattr__(made.message, "__pydantic_extra__", {"wire": chunk})
        return made

    def _create_chat_result(
        self, response: Any, generation_info: dict[str, Any] | None = None
    ) -> ChatResult:
        try:
            made = super()._create_chat_result(response, generation_info)
        except _UNCONVERTIBLE:
            made = ChatResult(generations=[])
        if not made.generations:
            made = ChatResult(generations=[ChatGeneration(message=AIMessage(content=""))])
        object.__setattr__(made.generations[0].message, "__pydantic_extra__", {"wire": response})
        return made


def make_model(completions: ChatCompletionsClient, profile: Profile) -> ProxyChat:
    """The model of one backend."""
    return ProxyChat(
        model="unset",  # each call names its own
        base_url=completions.base_url,
        api_key=SecretStr("unused"),  # the connection has it
        client=completions,
        async_client=completions,
        use_responses_api=False,
        stream_usage=False,  # the translation decides, by the profile
        max_retries=0,
        stream_chunk_timeout=None,  # the connection's idle timeout serves, which comments reset
        traced=bool(tracing_is_enabled()),
    )


async def open_response(
    model: ProxyChat, name: str, call: BackendCall, stream: bool
) -> AbstractAsyncContextManager[AsyncIterator[list[dict[str, Any]]]]:
    """The chunks of one answer as they are on the wire; for no stream, the whole completion.

    In each list are those that arrived together. The connection is held from entering to leaving.
    Entering and iterating raise ApiError.
    """
    if model.traced:
        return aclosing(_traced_stream(model, name, call) if stream else _traced(model, name, call))
    payload = model._get_request_payload([], call=call, model=name, stream=stream)
    answer: BackendResponse = await model.async_client.create(**payload)
    return answer


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
    answer: Any = model.astream(messages, call=call, model=name)
    try:
        async with aclosing(answer):
            async for message in answer:
                if (wire := getattr(message, "wire", None)) is not None:
                    yield [wire]
    except _UNCONVERTIBLE as error:
        if not call.read_to_end:
            raise
        # Then it sums up, and chunks that do not add up, or none, are an error to it.
        kind = type(error).__name__  # its text may quote the answer
        log.warning("an answer of backend `%s` is not traced (%s)", call.backend, kind)
