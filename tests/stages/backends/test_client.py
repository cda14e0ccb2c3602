"""Chat Completions over HTTP, against a real socket."""

from __future__ import annotations

import asyncio
import gzip
import socket
import weakref
from threading import Event

import anyio
import pytest
from attrs import evolve

from stages.backends.client import ChatCompletionsClient
from stages.messages_api.errors import (
    GatewayTimeoutError,
    InternalError,
    InvalidRequestError,
    OverloadedError,
)
from stages.off_loop import LARGE_BODY
from stages.wire import json_codec
from tests.rounds import turning
from tests.stages.backends.support import call, chunks, completed
from tests.wire.backend import Act, ScriptedBackend, closed
from tests.wire.chat import DONE, END, completion, delta, head, http_chunk, sse, streamed, whole


@pytest.fixture
def anyio_backend() -> str:
    """The client is one for asyncio."""
    return "asyncio"


async def test_a_stream_is_the_json_of_its_events(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(streamed("Hello", " there"))
    value = call()
    assert await chunks(completions, value) == [
        delta(content="Hello"),
        delta(content=" there"),
        delta("stop"),
    ]
    assert value.completed


async def test_unknown_members_of_a_chunk_are_kept(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    odd = {"choices": [{"delta": {"reasoning": "Hm", "x": [1, None]}}], "y": {"z": 1.5}}
    backend.says(head(), sse(odd), DONE, END)
    assert await chunks(completions, call()) == [odd]


async def test_a_stream_without_done_is_not_called_done(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hello")), http_chunk(b'data: {"last": 1}'), END)
    value = call()
    assert await chunks(completions, value) == [delta(content="Hello"), {"last": 1}]
    assert not value.completed


async def test_done_without_its_empty_line_counts(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta("stop")), http_chunk(b"data: [DONE]"), END)
    value = call()
    assert await chunks(completions, value) == [delta("stop")]
    assert value.completed


async def test_data_after_done_is_not_read(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    late = http_chunk(b'data: {"c": 3}\n\n')
    response = http_chunk(b'data: {"a": 1}\n\ndata: [DONE]\n\ndata: {"b": 2}\n\n')
    backend.says(head(), response, late, END)
    assert await chunks(completions, call()) == [{"a": 1}]


async def test_a_break_after_done_is_no_failure(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta("stop")), DONE, Act.RESET)
    value = call()
    assert await chunks(completions, value) == [delta("stop")]
    assert value.completed


async def test_a_whole_completion_is_its_json(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion(), "Application/JSON; charset=utf-8"))
    value = call(messages=[])
    assert await completed(completions, value) == completion()
    assert value.completed
    assert backend.request().body == {"model": "some-model", "messages": []}
    assert backend.request().headers["authorization"] == "Bearer secret"


async def test_closing_a_response_early_closes_its_connection(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hello")), Act.UNTIL_CLOSED)
    async with await completions.create(call=call(), stream=True) as response:
        async for together in response:
            assert together == [delta(content="Hello")]
            break
    assert await closed(backend)


@pytest.mark.parametrize(
    "body",
    [[], [head()], [head(), sse(delta(content="Hi"))], [head(500), http_chunk(b"Oops")]],
    ids=["nothing", "head", "chunk", "half-an-error"],
)
async def test_a_cancelled_call_closes_its_connection(
    body: list[bytes], completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(*body, Act.UNTIL_CLOSED)
    with anyio.move_on_after(0.1) as scope:
        await chunks(completions, call())
    assert scope.cancelled_caught
    assert await closed(backend)


async def test_a_kept_connection_that_closes_costs_one_more_try(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    backend.says(Act.CLOSE)
    backend.says(whole(200, completion()))
    for _ in range(2):
        assert await completed(completions, call()) == completion()
    assert [request.connection for request in backend.requests] == [0, 0, 1]


async def test_a_fresh_connection_that_closes_is_a_failure(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(Act.CLOSE)
    with pytest.raises(OverloadedError, match="`fake` broke the connection"):
        await completed(completions, call())
    assert len(backend.requests) == 1


async def test_a_truncated_response_is_overloaded(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hi")), Act.CLOSE)
    with pytest.raises(OverloadedError, match="`fake` broke the connection"):
        await chunks(completions, call())


async def test_silence_is_a_timeout(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(), Act.UNTIL_CLOSED)
    with pytest.raises(GatewayTimeoutError, match="`fake` was silent for too long"):
        await chunks(completions, call(idle_timeout=0.1))
    assert await closed(backend)


async def test_a_backend_that_is_not_there_cannot_be_reached(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.close()
    with pytest.raises(OverloadedError, match="`fake` cannot be reached"):
        await completed(completions, call())


async def test_an_address_that_cannot_be_is_a_failure(completions: ChatCompletionsClient) -> None:
    completions.base_url = "ftp://backend.invalid"
    with pytest.raises(InternalError, match="could not be called: NonHttpUrlClientError"):
        await completed(completions, call())


async def test_only_the_beginning_of_an_endless_error_is_read(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(500, "text/plain"), *[http_chunk(b"Oops " * 20_000)] * 12, Act.UNTIL_CLOSED)
    with pytest.raises(InternalError, match="Oops") as caught:
        await completed(completions, call())
    assert len(caught.value.message) < 2100
    assert await closed(backend)


async def test_a_refused_stream_closes_its_response(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(whole(400, {"error": {"message": "No"}}))
    for _ in range(2):
        with pytest.raises(InvalidRequestError, match="`fake` answered 400: No"):
            await chunks(completions, call())
    assert backend.connections == 1


async def test_chunks_that_arrive_together_come_together(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    both = b"".join(b"data: %b\n\n" % json_codec.encode(delta(content=text)) for text in ("a", "b"))
    hold = Event()
    backend.says(head(), http_chunk(both), hold, sse(delta("stop")), DONE, END)
    async with await completions.create(call=call(), stream=True) as response:
        assert await anext(response) == [delta(content="a"), delta(content="b")]
        hold.set()
        assert await anext(response) == [delta("stop")]


async def test_events_before_a_broken_event_are_forwarded(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    good = b"data: %b\n\n" % json_codec.encode(delta(content="a"))
    backend.says(head(), http_chunk(good + b"data: {\n\n" + good), END)
    async with await completions.create(call=call(), stream=True) as response:
        assert await anext(response) == [delta(content="a")]
        for _ in range(2):
            with pytest.raises(InternalError, match="broken JSON"):
                await anext(response)


async def test_a_broken_event_that_is_not_awaited_is_not_kept(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    good = b"data: %b\n\n" % json_codec.encode(delta(content="a"))
    backend.says(head(), http_chunk(good + b"data: {\n\n"), Act.UNTIL_CLOSED)
    value = call()
    kept = weakref.ref(value)
    async with await completions.create(call=value, stream=True) as response:
        assert await anext(response) == [delta(content="a")]
    del value, response
    assert await closed(backend)
    assert kept() is None, "until the garbage collector runs"


async def test_a_large_body_arrives_whole(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    await completed(completions, call(text="x" * 3_000_000))
    assert len(backend.request().body["text"]) == 3_000_000


async def test_odd_bytes_of_a_content_type_are_shown(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(b"HTTP/1.1 200 OK\r\ncontent-type: a\xff/b\r\ncontent-length: 0\r\n\r\n")
    with pytest.raises(InternalError, match=r"answered with a\?/b"):
        await completed(completions, call())


async def test_a_compressed_response_is_decompressed(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    packed = gzip.compress(b"data: %b\n\ndata: [DONE]\n\n" % json_codec.encode(delta(content="Hi")))
    backend.says(
        head(content_encoding="gzip"), http_chunk(packed[:30]), http_chunk(packed[30:]), END
    )
    assert await chunks(completions, call()) == [delta(content="Hi")]


async def test_an_informational_response_does_not_stop_the_clock(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(b"HTTP/1.1 103 Early Hints\r\n\r\n", Act.UNTIL_CLOSED)
    completions.connect_timeout = 0.1
    with pytest.raises(GatewayTimeoutError, match="`fake` was silent for too long"):
        await chunks(completions, call(idle_timeout=0.1))
    assert await closed(backend)


async def test_a_request_that_is_not_read_is_a_timeout(completions: ChatCompletionsClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        completions.base_url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        completions.connect_timeout = 0.1
        with pytest.raises(GatewayTimeoutError, match="`fake` was silent for too long"):
            await completed(completions, call(idle_timeout=0.1, text="x" * 20_000_000))


async def test_a_response_with_a_lost_connection_is_a_failure(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    hold = Event()
    backend.says(head(), sse(delta(content="Hi")), hold, b"zz\r\n", Act.UNTIL_CLOSED)
    async with await completions.create(call=call(), stream=True) as response:
        assert await anext(response) == [delta(content="Hi")]
        assert response._connection_closed is not None
        response._connection_closed.remove_done_callback(
            response._on_connection_closed
        )  # as if it were not reported yet
        hold.set()
        assert await closed(backend)
        with pytest.raises(OverloadedError, match="`fake` broke the connection"):
            await anext(response)


async def test_row_a7_a_large_request_is_written_off_the_event_loop(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    numbers = list(range(1_000_000))
    async with turning() as turned:
        await completed(completions, evolve(call(numbers=numbers), body_size=LARGE_BODY))
    assert turned.rounds > 5
    assert backend.request().body["numbers"] == numbers


async def test_the_time_to_start_a_server_again_is_not_the_calls(
    completions: ChatCompletionsClient,
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # it refuses connections
        started: dict[ScriptedBackend, float] = {}

        async def start() -> None:
            listener.listen()
            server = ScriptedBackend(listener=listener)
            server.says(whole(200, completion()))
            started[server] = asyncio.get_running_loop().time()

        host, port = listener.getsockname()
        completions.base_url, completions.start_again = f"http://{host}:{port}", start
        value = call()
        await completed(completions, value)
        ((server, time),) = started.items()
        assert value.sent_at >= time
        server.close()
