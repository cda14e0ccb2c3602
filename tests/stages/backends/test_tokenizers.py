"""A backend's tokenizer counts prompts, against a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stages.backends.backend import Backend
from tests.secrets import PROMPT
from tests.stages.backends.support import opened
from tests.support import chat_request, profile
from tests.wire.backend import Act, ScriptedBackend, Step
from tests.wire.chat import head, http_chunk, whole


@pytest.fixture
def anyio_backend() -> str:
    """A backend's client is one for asyncio."""
    return "asyncio"


@pytest.fixture
def server() -> Iterator[ScriptedBackend]:
    made = ScriptedBackend()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("kind", "path", "said"),
    [
        ("llamacpp", "/v1/chat/completions/input_tokens", {"input_tokens": 42}),
        ("vllm", "/tokenize", {"count": 42, "max_model_len": 100, "tokens": [1, 2]}),
        ("sglang", "/tokenize", {"count": 42, "max_model_len": 100, "tokens": [1, 2]}),
    ],
)
async def test_tokens_are_counted_by_the_backend(
    kind: str, path: str, said: dict[str, Any], server: ScriptedBackend
) -> None:
    server.says(whole(200, said))
    tool = {"name": "look", "input_schema": {"type": "object"}}
    async with opened(server, tokenizer=kind) as backend:
        assert await backend.count_tokens(chat_request(max_tokens=None, tools=[tool])) == 42
    asked = server.request()
    assert asked.path == path
    assert asked.body["model"] == "some-model"
    assert asked.body["messages"] == [{"role": "user", "content": PROMPT}]
    assert asked.body["tools"][0]["function"]["name"] == "look"


async def test_a_backend_without_a_tokenizer_is_not_asked(server: ScriptedBackend) -> None:
    async with opened(server) as backend:
        assert await backend.count_tokens(chat_request()) is None
    assert not server.requests


@pytest.mark.parametrize(
    "steps",
    [
        [whole(404, {"error": "no"})],
        [whole(400, {"error": {"message": "prompt is too long"}})],
        [whole(401, {"error": {"message": "no"}})],
        [whole(200, b"{")],
        [whole(200, [42])],
        [whole(200, {"input_tokens": True})],
        [whole(200, {"input_tokens": "42"})],
        [whole(200, {"count": 42})],
        [Act.CLOSE],
        [head(), http_chunk(b"{"), Act.CLOSE],
    ],
    ids=[
        "404",
        "400",
        "401",
        "broken",
        "list",
        "true",
        "text",
        "other",
        "closed",
        "half",
    ],
)
async def test_a_backend_that_fails_to_count_leaves_it_to_an_estimate_and_the_log(
    steps: list[Any], server: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    server.says(*steps)
    async with opened(server, tokenizer="llamacpp") as backend:
        assert await backend.count_tokens(chat_request()) is None
    assert "backend `fake` cannot count tokens: " in caplog.text


async def test_a_backend_that_cannot_be_reached_to_count_leaves_it_to_an_estimate() -> None:
    backend = Backend(profile(base_url="http://127.0.0.1:1/v1", tokenizer="vllm"))
    assert await backend.count_tokens(chat_request()) is None
    await backend.aclose()


@pytest.mark.parametrize(
    "said",
    [
        [],
        [b"HTTP/1.1 100 Continue\r\n\r\n"],
        [head(content_type="application/json"), *[http_chunk(b" "), 0.02] * 4],
    ],
    ids=["silent", "informational", "slow"],
)
async def test_a_backend_that_counts_too_long_leaves_it_to_an_estimate(
    said: list[Step], server: ScriptedBackend
) -> None:
    server.says(*said, Act.UNTIL_CLOSED)
    how = profile(base_url=f"{server.url}/v1", tokenizer="vllm")
    backend = Backend(how, counting_timeout=0.05)
    assert await backend.count_tokens(chat_request()) is None
    await backend.aclose()


async def test_a_count_that_is_malformed_is_left_to_an_estimate(server: ScriptedBackend) -> None:
    server.says(
        head(content_type="application/json"), http_chunk(b"{"), 0.01, b"zz\r\n", Act.UNTIL_CLOSED
    )
    how = profile(base_url=f"{server.url}/v1", tokenizer="vllm")
    backend = Backend(how, counting_timeout=0.1)
    assert await backend.count_tokens(chat_request()) is None
    await backend.aclose()
