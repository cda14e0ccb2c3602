"""A request with an output limit that does not fit is sent again, against a real socket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stages.events import ChatChunk, ChatEnd
from stages.messages_api.errors import (
    InvalidRequestError,
)
from tests.stages.backends.support import events_of, opened
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import completion, streamed, whole


@pytest.fixture
def anyio_backend() -> str:
    """A backend's client is one for asyncio."""
    return "asyncio"


@pytest.fixture
def server() -> Iterator[ScriptedBackend]:
    result = ScriptedBackend()
    yield result
    result.close()


def excess(space: str) -> bytes:
    """A refusal: the limit does not fit after the prompt."""
    response = (
        "This model's maximum context length is 120 tokens. However, you requested 100 output "
        f"tokens and your prompt contains {space} input tokens, for a total of too many"
    )
    return whole(400, {"error": {"message": response}})


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_pitfall_31_the_call_is_repeated_with_a_limit_that_fits(
    stream: bool, server: ScriptedBackend
) -> None:
    server.says(excess("40"))
    server.says(streamed("Hello") if stream else whole(200, completion()))
    async with opened(server, max_tokens_field="max_tokens") as backend:
        *chunks, end = await events_of(backend, stream=stream, temperature=0.5)
    assert end == ChatEnd(limit_lowered="window")
    assert all(isinstance(chunk, ChatChunk) for chunk in chunks)
    first, second = (request.body for request in server.requests)
    assert first["max_tokens"] == 100
    assert second == {**first, "max_tokens": 79}


async def test_without_a_count_the_call_is_repeated_without_a_limit(
    server: ScriptedBackend,
) -> None:
    server.says(excess("at least 21"))
    server.says(whole(200, completion()))
    async with opened(server) as backend:
        assert (await events_of(backend))[-1] == ChatEnd(limit_lowered="window")
    assert "max_tokens" not in server.request(1).body


async def test_it_is_asked_again_only_once(server: ScriptedBackend) -> None:
    server.says(excess("40"))
    async with opened(server) as backend:
        with pytest.raises(InvalidRequestError, match=r"exceed context limit: 40 \+ 100 > 120"):
            await events_of(backend)
    assert len(server.requests) == 2


async def test_a_prompt_that_turns_out_to_be_too_long_is_reported(server: ScriptedBackend) -> None:
    server.says(excess("at least 21"))
    response = (
        "This model's maximum context length is 120 tokens. However, your request has 130 input"
    )
    server.says(whole(400, {"error": {"message": response}}))
    async with opened(server) as backend:
        with pytest.raises(InvalidRequestError, match="too long: 130 tokens > 120 maximum"):
            await events_of(backend)


@pytest.mark.parametrize(
    ("counted", "message"), [(150, "150 tokens > 120 maximum"), (7, "at least")]
)
async def test_row_l5_the_tokenizer_counts_what_the_backend_has_not(
    counted: int, message: str, server: ScriptedBackend
) -> None:
    server.says(excess("at least 121").replace(b"requested 100", b"requested 000"))
    server.says(whole(200, {"count": counted}))
    async with opened(server, tokenizer="vllm") as backend:
        with pytest.raises(InvalidRequestError, match=f"prompt is too long.*{message}"):
            await events_of(backend)
    assert [request.path for request in server.requests] == ["/v1/chat/completions", "/tokenize"]


async def test_a_limit_over_what_the_model_puts_out_is_lowered_too(server: ScriptedBackend) -> None:
    response = "max_tokens is too large: 100. This model supports at most 50 completion tokens"
    server.says(whole(400, {"error": {"message": response}}))
    server.says(whole(200, completion()))
    async with opened(server) as backend:
        assert (await events_of(backend))[-1] == ChatEnd(limit_lowered="model")
    assert server.request(1).body["max_tokens"] == 50
