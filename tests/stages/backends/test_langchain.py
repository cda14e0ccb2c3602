"""The parts of LangChain that the proxy relies on: a release that changes one fails here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from anyio import wait_all_tasks_blocked
from attrs import Factory, define
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langsmith.run_helpers import tracing_context

from stages.backends.call import BackendCall
from stages.backends.langchain import ProxyChat, make_model, open_response
from stages.messages_api.errors import OverloadedError
from tests.cases import for_each
from tests.support import profile
from tests.wire.chat import completion, delta


@define(eq=False)
class FakeResponse:
    """The result of `create`: each chunk arrives alone."""

    chunks: list[Any]
    closed: bool = False
    _options: int = 0

    async def __aenter__(self) -> FakeResponse:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed = True

    def __aiter__(self) -> FakeResponse:
        return self

    async def __anext__(self) -> Any:
        if self._options == len(self.chunks):
            raise StopAsyncIteration
        self._options += 1
        chunk = self.chunks[self._options - 1]
        if isinstance(chunk, Exception):
            raise chunk
        return [chunk]

    async def whole(self) -> Any:
        return (await anext(self))[0]


@define(eq=False)
class FakeCompletions:
    """Takes the calls LangChain makes."""

    response: Any
    calls: list[tuple[BackendCall, bool]] = Factory(list)
    base_url: str = "http://backend.invalid/v1"

    async def create(self, *, call: BackendCall, stream: bool = False) -> Any:
        self.calls.append((call, stream))
        if isinstance(self.response, Exception):
            raise self.response
        return (
            self.response
            if isinstance(self.response, FakeResponse)
            else FakeResponse([self.response])
        )


def model(response: Any, **changes: Any) -> ProxyChat:
    """A model whose backend gives `response`."""
    fake: Any = FakeCompletions(response)
    return make_model(fake, profile(**changes))


def call(messages: list[dict[str, Any]] | None = None, **options: Any) -> BackendCall:
    """A call, as `Backend.answer` makes it."""
    return BackendCall("fake", messages or [{"role": "user", "content": "Hello"}], options, 5)


async def received(
    chat: ProxyChat, backend_call: BackendCall, *, stream: bool, name: str = "some-model"
) -> list[Any]:
    """All that `ask` yields."""
    async with await open_response(chat, name, backend_call, stream) as response:
        return [chunk async for chunks in response for chunk in chunks]


async def stream_of(chat: ProxyChat) -> AbstractAsyncContextManager[AsyncIterator[list[Any]]]:
    """The context of a streamed response."""
    return await open_response(chat, "some-model", call(), stream=True)


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
LOOK = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "What is on it?"}, IMAGE]},
    {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [LOOK]},
    {"role": "tool", "tool_call_id": "call_1", "content": "A cat."},
    {"role": "system", "content": "Do not guess."},
    {"role": "assistant", "content": "A cat"},
]

MODES = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


def whole_or_stream(stream: bool) -> Any:
    """A valid response in either form."""
    return FakeResponse([delta("stop", content="Hi")]) if stream else completion()


class TestPayload:
    @MODES
    async def test_it_is_the_call_and_nothing_else(self, stream: bool) -> None:
        options = {
            "max_tokens": 9,
            "top_k": 5,
            "stop": ["x"],
            "odd": {"a": None},
            "tools": [{"type": "function"}],
        }
        value = call(CONVERSATION, **options)
        await received(model(whole_or_stream(stream)), value, stream=stream)
        expected = {"model": "some-model", "messages": CONVERSATION, "stream": stream, **options}
        assert value.payload == expected

    async def test_messages_are_untouched(self) -> None:
        value = call(CONVERSATION)
        await received(model(completion()), value, stream=False)
        assert value.payload["messages"] is value.messages

    @pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
    async def test_the_limit_keeps_the_name_the_translation_gave_it(self, field: str) -> None:
        value = call()
        value.options[field] = 9
        await received(model(completion()), value, stream=False)
        assert value.payload[field] == 9
        assert {"max_tokens", "max_completion_tokens"} & value.payload.keys() == {field}

    @MODES
    @for_each("name", ["gpt-5-codex", "o3", "o1-mini", "gpt-6", "gpt-4o"])
    async def test_a_models_name_changes_nothing(self, name: str, stream: bool) -> None:
        value = call(CONVERSATION, tools=[{"type": "function"}], reasoning={"effort": "low"})
        value.options["text"] = {"format": "x"}
        result = model(whole_or_stream(stream))
        assert await received(result, value, stream=stream, name=name)
        assert value.payload["messages"] == CONVERSATION
        assert value.payload["model"] == name
        assert value.payload.keys() == {"model", "messages", "stream", *value.options}

    async def test_calls_at_once_have_a_payload_each(self) -> None:
        result = model(completion())
        value = [call(max_tokens=number) for number in range(3)]
        for item in value:
            await received(result, item, stream=False, name=f"model-{item.options['max_tokens']}")
        assert [item.payload["max_tokens"] for item in value] == [0, 1, 2]
        assert [item.payload["model"] for item in value] == ["model-0", "model-1", "model-2"]


class TestModel:
    def test_no_client_of_openai_is_made(self) -> None:
        result = model(completion())
        assert result.root_client is None
        assert result.root_async_client is None
        assert isinstance(result.async_client, FakeCompletions)

    def test_nothing_is_retried_or_timed_unseen(self) -> None:
        result = model(completion())
        assert result.max_retries == 0
        assert result.stream_chunk_timeout is None
        assert result.stream_usage is False
        assert result.use_responses_api is False


ODD_CHUNKS: dict[str, Any] = {
    "reasoning": delta(reasoning_content="Hm", reasoning="Hm", thinking={"x": 1}),
    "refusal": delta(refusal="No"),
    "unknown": {"choices": [{"delta": {"x": [None]}, "stop_reason": "END"}], "y": 1.5},
    "call-without-index": delta(tool_calls=[{"id": "a", "function": {"name": "f"}}]),
    "call-with-arguments-as-object": delta(
        tool_calls=[{"index": 0, "function": {"name": "f", "arguments": {"a": 1}}}]
    ),
    "usage-only": {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
    "usage-of-another-kind": {**delta(content="x"), "usage": "much"},
    "null-choices": {"choices": None},
    "null-choice": {"choices": [None]},
    "no-choices": {"object": "chunk"},
    "null-delta": {"choices": [{"delta": None}]},
    "no-delta": {"choices": [{"text": "x"}]},
    "delta-of-another-kind": {"choices": [{"delta": 3}]},
    "content-of-another-kind": delta(content=3),
    "content-parts": delta(content=[{"type": "text", "text": "x"}]),
    "role-of-another-kind": delta(role="critic", content="x"),
    "role-user": delta(role="user", content="x"),
    "tool-without-id": delta(role="tool", content="x"),
    "openais-own": {"type": "content.delta", "delta": "x"},
    "error": {"error": {"message": "It broke"}},
    "empty": {},
}


class TestPlain:
    @for_each("chunk", ODD_CHUNKS.values(), ids=ODD_CHUNKS)
    async def test_a_chunk_arrives_as_it_is_on_the_wire(self, chunk: Any) -> None:
        response = [delta(role="assistant", content="Hi"), chunk, delta("stop")]
        assert await received(model(FakeResponse(response)), call(), stream=True) == response

    @for_each("response", ODD_CHUNKS.values(), ids=ODD_CHUNKS)
    async def test_a_whole_response_arrives_as_it_is_on_the_wire(self, response: Any) -> None:
        assert await received(model(response), call(), stream=False) == [response]

    @MODES
    async def test_an_error_arrives_as_it_was_raised(self, stream: bool) -> None:
        with pytest.raises(OverloadedError, match="busy"):
            await received(model(OverloadedError("busy")), call(), stream=stream)

    async def test_an_error_after_a_chunk_arrives_after_it(self) -> None:
        response = FakeResponse([delta(content="Hi"), OverloadedError("busy")])
        async with await stream_of(model(response)) as parts:
            assert await anext(parts) == [delta(content="Hi")]
            with pytest.raises(OverloadedError, match="busy"):
                await anext(parts)
        assert response.closed

    async def test_a_cancelled_caller_has_closed_the_response(self) -> None:
        response = FakeResponse([delta(content="Hi"), delta("stop")])
        async with await stream_of(model(response)) as parts:
            async for _ in parts:
                break
        assert response.closed

    async def test_a_bug_of_ours_is_not_taken_for_one_of_tracing(self) -> None:
        with pytest.raises(KeyError):
            await received(model(FakeResponse([KeyError("ours")])), call(), stream=True)


class Notes(AsyncCallbackHandler):
    """A callback handler as tracing has one."""

    def __init__(self) -> None:
        self.started: list[Any] = []
        self.parameters: dict[str, Any] = {}
        self.tokens: list[str] = []
        self.ended: list[Any] = []
        self.failed: list[BaseException] = []

    async def on_chat_model_start(self, serialized: Any, messages: Any, **more: Any) -> None:
        self.started += messages[0]
        self.parameters = more["invocation_params"]

    async def on_llm_new_token(self, token: Any, **_: Any) -> None:
        self.tokens.append(token)

    async def on_llm_end(self, response: Any, **_: Any) -> None:
        self.ended.append(response.generations[0][0].message)

    async def on_llm_error(self, error: BaseException, **_: Any) -> None:
        self.failed.append(error)


class TestTraced:
    """With callbacks, LangChain's own `astream` and `ainvoke` run, which need asyncio."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def notes(self) -> Notes:
        return Notes()

    def traced(self, response: Any, notes: Notes) -> ProxyChat:
        result = model(response)
        result.traced = True
        result.callbacks = [notes]
        return result

    async def test_a_stream_is_seen_from_start_to_end(self, notes: Notes) -> None:
        response = [delta(role="assistant", content="Hel"), delta(content="lo"), delta("stop")]
        value = call(CONVERSATION, max_tokens=9)
        assert (
            await received(self.traced(FakeResponse(response), notes), value, stream=True)
            == response
        )
        assert "".join(notes.tokens) == "Hello"
        assert [message.content for message in notes.ended] == ["Hello"]
        assert notes.parameters["model"] == "some-model"
        assert not notes.failed

    async def test_a_whole_response_is_seen_from_start_to_end(self, notes: Notes) -> None:
        result = self.traced(completion("Hello"), notes)
        assert await received(result, call(CONVERSATION), stream=False) == [completion("Hello")]
        assert [message.content for message in notes.ended] == ["Hello"]
        assert notes.ended[0].response_metadata["token_usage"]["prompt_tokens"] == 12

    @MODES
    async def test_the_conversation_is_seen_and_goes_out_untouched(
        self, stream: bool, notes: Notes
    ) -> None:
        value = call(CONVERSATION)
        await received(self.traced(whole_or_stream(stream), notes), value, stream=stream)
        kinds = [SystemMessage, HumanMessage, AIMessage, ToolMessage, SystemMessage, AIMessage]
        assert [type(message) for message in notes.started] == kinds
        assert notes.started[2].tool_calls[0]["name"] == "look"
        assert value.payload["messages"] == CONVERSATION

    async def test_callbacks_may_come_with_the_call(self, notes: Notes) -> None:
        result = model(FakeResponse([delta(content="Hi"), delta("stop")]))
        result.traced = True
        bound = result.with_config(callbacks=[notes])
        assert [part async for part in bound.astream([], call=call(), model="m")]
        assert "".join(notes.tokens) == "Hi"

    @pytest.mark.parametrize("chunk", ODD_CHUNKS.values(), ids=ODD_CHUNKS)
    async def test_an_odd_chunk_arrives_all_the_same(self, chunk: Any, notes: Notes) -> None:
        response = [delta(role="assistant", content="Hi"), chunk, delta("stop")]
        assert (
            await received(self.traced(FakeResponse(response), notes), call(), stream=True)
            == response
        )
        assert len(notes.started) == 1

    @pytest.mark.parametrize("response", ODD_CHUNKS.values(), ids=ODD_CHUNKS)
    async def test_an_odd_response_arrives_unchanged(self, response: Any, notes: Notes) -> None:
        assert await received(self.traced(response, notes), call(), stream=False) == [response]
        assert len(notes.ended) == 1

    @pytest.mark.parametrize(
        "chunks",
        [
            [],
            [delta(function_call={"arguments": "{"}), delta(function_call={"arguments": 3})],
            [{**delta("stop"), "model": "m"}, {**delta("stop"), "model": ["m"]}],
        ],
        ids=["nothing", "function-call", "model"],
    )
    async def test_chunks_that_do_not_add_up_are_no_failure(
        self, chunks: list[Any], notes: Notes, caplog: pytest.LogCaptureFixture
    ) -> None:
        response = FakeResponse(chunks)
        assert await received(self.traced(response, notes), call(), stream=True) == chunks
        assert "a response of backend `fake` is not traced" in caplog.text

    @MODES
    async def test_an_error_arrives_as_it_was_raised_and_is_seen(
        self, stream: bool, notes: Notes
    ) -> None:
        error = OverloadedError("busy")
        with pytest.raises(OverloadedError, match="busy"):
            await received(self.traced(error, notes), call(), stream=stream)
        assert notes.failed == [error]

    @MODES
    async def test_entering_raises_a_refusal(self, stream: bool, notes: Notes) -> None:
        opening = await open_response(
            self.traced(OverloadedError("busy"), notes), "some-model", call(), stream
        )
        with pytest.raises(OverloadedError, match="busy"):
            await opening.__aenter__()

    async def test_a_bug_of_ours_is_not_taken_for_one_of_tracing(self, notes: Notes) -> None:
        response = FakeResponse([delta(content="Hi"), KeyError("ours")])
        with pytest.raises(KeyError):
            await received(self.traced(response, notes), call(), stream=True)

    async def test_a_cancelled_caller_closes_the_response(self, notes: Notes) -> None:
        response = FakeResponse([delta(content="Hi"), delta("stop")])
        async with await stream_of(self.traced(response, notes)) as parts:
            async for _ in parts:
                break
        await wait_all_tasks_blocked()  # LangChain leaves the closing to the event loop
        assert response.closed

    def test_the_environment_decides(self) -> None:
        fake: Any = FakeCompletions(None)
        for enabled in (True, False):
            with tracing_context(enabled=enabled):
                assert make_model(fake, profile()).traced is enabled
