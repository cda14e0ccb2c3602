"""A configured backend against a real socket: opened once, asked, counted with, closed."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any, Literal

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from attrs import define
from langsmith.run_helpers import tracing_context

from pipeline import StopForwarding
from pipeline.config.options import OptionError
from pipeline.task_groups import task_group
from stages.backends.backend import Backend
from stages.chat_completions.token_calibration import TokenEstimate
from stages.events import ChatChunk, ChatEnd, ChatEvent
from stages.exchange import Attempt, Target
from stages.messages_api.errors import (
    GatewayTimeoutError,
    InternalError,
    OverloadedError,
)
from stages.profiles.profile import Profile
from tests.cases import for_each
from tests.secrets import PROMPT
from tests.stages.backends.support import events_of, opened, parts_of
from tests.support import chat_request, profile
from tests.wire.backend import Act, ScriptedBackend, closed
from tests.wire.chat import DONE, END, completion, delta, error_json, head, sse, streamed, whole


@pytest.fixture
def anyio_backend() -> str:
    """A backend's client is one for asyncio."""
    return "asyncio"


@pytest.fixture
def server() -> Iterator[ScriptedBackend]:
    result = ScriptedBackend()
    yield result
    result.close()


async def test_a_stream_is_chunks_and_an_end(server: ScriptedBackend) -> None:
    server.says(streamed("Hello"))
    async with opened(server, api_key="secret") as backend:
        parts = await events_of(backend, stream=True)
    assert parts == [ChatChunk(delta(content="Hello")), ChatChunk(delta("stop")), ChatEnd()]
    asked = server.request()
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.body == {
        "model": "some-model",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": 100,
        "stream_options": {"include_usage": True},
        "stream": True,
    }


async def test_a_stream_without_done_ends_so(server: ScriptedBackend) -> None:
    server.says(head(), sse(delta(content="Hello")), END)
    async with opened(server) as backend:
        assert (await events_of(backend, stream=True))[-1] == ChatEnd(done=False)


async def test_a_whole_response_is_one_chunk_and_an_end(server: ScriptedBackend) -> None:
    server.says(whole(200, completion()))
    async with opened(server) as backend:
        assert await events_of(backend) == [ChatChunk(completion()), ChatEnd()]


async def test_an_error_of_the_backend_names_it(server: ScriptedBackend) -> None:
    server.says(whole(503, {"error": {"message": "Loading"}}))
    async with opened(server) as backend:
        with pytest.raises(OverloadedError, match="`fake` answered 503: Loading"):
            await events_of(backend)


LIMIT_TOO_HIGH = "max_tokens is too large: 100. This model supports at most 50 completion tokens"


@pytest.mark.parametrize("traced", [False, "local"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_refused_limit_is_lowered_with_and_without_tracing(
    stream: bool, traced: bool | Literal["local"], server: ScriptedBackend
) -> None:
    server.says(whole(400, error_json(LIMIT_TOO_HIGH)))
    server.says(streamed("Hello") if stream else whole(200, completion()))
    with tracing_context(enabled=traced):
        async with opened(server) as backend:
            parts = await events_of(backend, stream=stream)
    assert [server.request(n).body["max_tokens"] for n in (0, 1)] == [100, 50]
    assert parts[-1] == ChatEnd(limit_lowered="model")


async def test_closing_a_response_closes_its_connection(server: ScriptedBackend) -> None:
    server.says(head(), sse(delta(content="Hello")), Act.UNTIL_CLOSED)
    async with opened(server) as backend:

        async def stop(part: ChatEvent) -> None:
            assert part == ChatChunk(delta(content="Hello"))
            raise StopForwarding

        with pytest.raises(StopForwarding):
            await backend.answer(chat_request(stream=True), stop, idle_timeout=5)
        assert await closed(server)


async def test_many_at_once_open_a_backend_once(server: ScriptedBackend) -> None:
    server.says(whole(200, completion()))
    opens: list[object] = []
    async with opened(server) as backend:

        async def ask() -> None:
            opens.append(await backend.open())
            assert len(await events_of(backend)) == 2

        async with task_group() as group:
            for _ in range(5):
                group.start_soon(ask)
        assert len(opens) == 5
        assert all(open is opens[0] for open in opens)


async def test_the_time_to_open_the_backend_is_not_the_calls(server: ScriptedBackend) -> None:
    server.says(whole(200, completion()))
    request = chat_request()
    attempt = Attempt(request.resolved.target, sent=0.0)  # before the backend is open
    request.exchange.attempts.append(attempt)
    began = time.monotonic()

    async with opened(server) as backend:
        assert len(await parts_of(backend, request)) == 2

    assert began < attempt.sent < time.monotonic()


async def test_a_closed_backend_can_be_opened_again(server: ScriptedBackend) -> None:
    server.says(whole(200, completion()))
    async with opened(server) as backend:
        assert len(await events_of(backend)) == 2
        await backend.aclose()
        assert await closed(server)
        assert len(await events_of(backend)) == 2
    assert [request.connection for request in server.requests] == [0, 1]


async def test_closing_a_backend_that_was_never_opened_does_nothing() -> None:
    backend = Backend(profile())
    await backend.aclose()
    await backend.aclose()


def test_overrides_change_the_profile_for_one_model() -> None:
    backend = Backend(profile(stream_options=True, fields={"top_k": "map", "top_p": "warn"}))
    assert backend.profile_for(Target("fake", "m")) is backend.profile
    overrides = {"stream_options": False, "fields": {"top_k": "drop"}}
    changed: Profile = backend.profile_for(Target("fake", "m", overrides))
    assert backend.profile_for(Target("fake", "n", {**overrides})) is changed, "made once"
    assert (changed.stream_options, backend.profile.stream_options) == (False, True)
    assert (changed.fields["top_k"], backend.profile.fields["top_k"]) == ("drop", "map")
    assert changed.fields["top_p"] == "warn"


@pytest.mark.parametrize("key", ["", "sk-1", "a b", "~!@#"])
async def test_a_key_of_plain_characters_is_sent(key: str, server: ScriptedBackend) -> None:
    server.says(whole(200, completion()))
    async with opened(
        server, api_key=key, headers={"X-Org": "me and you", "x-none": ""}
    ) as backend:
        await events_of(backend)
    headers = server.request().headers
    assert headers.get("authorization") == (f"Bearer {key}" if key else None)
    assert (headers["x-org"], headers["x-none"]) == ("me and you", "")


@for_each("key", ["sk-1\n", " sk-1", "sk\r\nx: y", "schlüssel", "ключ", "\x00"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(OptionError, match="`api_key` cannot be sent") as caught:
        profile(api_key=key)
    assert key.strip() not in str(caught.value)


@for_each("header", [("x", "a\nb"), ("x", "é"), ("x y", "a"), ("", "a"), ("x:", "a"), ("x", "a ")])
def test_a_header_that_cannot_be_sent_is_refused_at_once(header: tuple[str, str]) -> None:
    with pytest.raises(OptionError, match="cannot be sent") as caught:
        profile(headers=dict([header]))
    assert caught.value.option == "headers"


# Estimates


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_pitfall_12_estimates_are_calibrated_by_reported_usage(
    stream: bool, server: ScriptedBackend
) -> None:
    system = "word " * 4000
    size = chat_request(system=system).raw_estimate
    used = {"prompt_tokens": size * 2, "completion_tokens": 3}
    events = sse(delta(content="a"), delta("stop"), {"choices": [], "usage": used})
    server.says(
        head() + events + DONE + END if stream else whole(200, {**completion(), "usage": used})
    )
    async with opened(server) as backend:
        await events_of(backend, stream=stream, system=system)
        assert 1.8 < backend.calibration.line("some-model").factor < 2.1
        assert backend.calibration.line("other") == TokenEstimate()


@pytest.mark.parametrize("used", [None, {}, [], {"prompt_tokens": "x"}, {"prompt_tokens": None}])
async def test_invalid_usage_does_not_calibrate(used: Any, server: ScriptedBackend) -> None:
    server.says(whole(200, {**completion(), "usage": used}))
    async with opened(server) as backend:
        await events_of(backend, system="word " * 4000)
        assert backend.calibration.line("some-model") == TokenEstimate()


async def test_silence_is_a_timeout(server: ScriptedBackend) -> None:
    server.says(head(), sse(delta(content="Hi")), Act.UNTIL_CLOSED)
    async with opened(server) as backend:
        parts: list[ChatEvent] = []

        async def keep(part: ChatEvent) -> None:
            parts.append(part)

        with pytest.raises(GatewayTimeoutError):
            await backend.answer(chat_request(stream=True), keep, idle_timeout=0.1)
        assert parts == [ChatChunk(delta(content="Hi"))]


@pytest.fixture
def damaged(tmp_path: Any) -> Profile:
    """An embedded model whose file is none."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF and then nothing of use")
    return profile(base_url="", embedded=True, model_path=str(file))


async def test_a_damaged_model_is_an_error_each_time_it_is_wanted(damaged: Profile) -> None:
    backend = Backend(damaged)
    for _ in range(2):
        with pytest.raises(InternalError, match=r"llama\.cpp cannot be started"):
            await events_of(backend)
    await backend.aclose()


@define
class DyingModel:
    """An EmbeddedModel that dies after each of its first `refused` starts."""

    refused: int
    listener: socket.socket
    socket: None = None
    is_running: bool = False
    starts: int = 0
    server: ScriptedBackend | None = None

    def start(self) -> str:
        """See EmbeddedModel."""
        self.starts += 1
        if self.starts > self.refused and self.server is None:
            self.listener.listen()
            self.server = ScriptedBackend(listener=self.listener)
            self.server.says(whole(200, completion()))
        host, port = self.listener.getsockname()
        return f"http://{host}:{port}"

    def close(self) -> None:
        """See EmbeddedModel."""
        if self.server:
            self.server.close()  # before its socket: `accept` does not end with that
        self.listener.close()


@pytest.mark.parametrize("refused", [1, 2])
async def test_a_model_that_dies_before_the_connection_is_started_once_more(refused: int) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        model = DyingModel(refused, listener)
        backend = Backend(profile(base_url="", embedded=True))
        backend.embedded_model = model
        if refused == 1:
            assert len(await events_of(backend)) == 2
            assert model.server
            assert len(model.server.requests) == 1
        else:
            with pytest.raises(OverloadedError, match="cannot be reached"):
                await events_of(backend)
        await backend.aclose()
        assert model.starts == 2


def test_event_loops_one_after_the_other_can_open_a_backend(server: ScriptedBackend) -> None:
    server.says(whole(200, completion()))
    backend = Backend(profile(base_url=f"{server.url}/v1"))

    async def asked() -> int:
        parts = await events_of(backend)
        await backend.aclose()
        return len(parts)

    assert [anyio.run(asked) for _ in range(2)] == [2, 2]


def test_an_event_loop_does_not_wait_for_a_backend_of_another(server: ScriptedBackend) -> None:
    server.says(whole(200, completion()))
    backend = Backend(profile(base_url=f"{server.url}/v1"))

    async def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="another event loop has opened this backend"):
            await backend.open()

    async def opening() -> None:
        async with task_group() as group, backend._opening:  # so that it is still being opened
            group.start_soon(backend.open)
            await anyio.lowlevel.checkpoint()
            await anyio.to_thread.run_sync(anyio.run, elsewhere)
        assert len(await events_of(backend)) == 2
        await backend.aclose()

    anyio.run(opening)
