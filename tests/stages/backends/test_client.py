"""Chat Completions over HTTP, against a real socket."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import weakref
from collections.abc import AsyncIterator, Iterator
from threading import Event
from typing import Any

import anyio
import pytest
from attrs import evolve

from stages.backends.call import BackendCall
from stages.backends.client import ChatCompletionsClient
from stages.backends.session import make_session
from stages.messages_api.errors import (
    GatewayTimeoutError,
    InternalError,
    InvalidRequestError,
    OverloadedError,
)
from stages.off_loop import LARGE_BODY
from stages.profiles.profile import Profile, profiles
from stages.wire import json_codec
from tests.rounds import turning
from tests.support import profile
from tests.wire.backend import Act, ScriptedBackend, gone
from tests.wire.chat import DONE, END, completion, delta, head, piece, sse, streamed, whole


@pytest.fixture
def anyio_backend() -> str:
    """The client is one for asyncio."""
    return "asyncio"


@pytest.fixture
def backend() -> Iterator[ScriptedBackend]:
    made = ScriptedBackend()
    yield made
    made.close()


@pytest.fixture
async def completions(backend: ScriptedBackend) -> AsyncIterator[ChatCompletionsClient]:
    async with make_session(profile(api_key="secret")) as client:
        yield ChatCompletionsClient(client, f"{backend.url}/v1", connect_timeout=5)


def call(idle_timeout: float = 5, **payload: Any) -> BackendCall:
    """A call whose payload LangChain has made."""
    return BackendCall("fake", [], {}, idle_timeout, payload={"model": "some-model", **payload})


async def chunks(
    completions: ChatCompletionsClient, given: BackendCall, stream: bool = True
) -> list[Any]:
    """All chunks of a response; `stream`: whether a stream is asked for."""
    async with await completions.create(call=given, stream=stream) as answer:
        return [chunk async for together in answer for chunk in together]


async def completed(completions: ChatCompletionsClient, given: BackendCall) -> Any:
    """The one chunk of an answer that is no stream."""
    async with await completions.create(call=given) as answer:
        return await answer.whole()


async def test_a_stream_is_the_json_of_its_events(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(streamed("Hello", " there"))
    given = call()
    assert await chunks(completions, given) == [
        delta(content="Hello"),
        delta(content=" there"),
        delta("stop"),
    ]
    assert given.completed


async def test_unknown_members_of_a_chunk_are_kept(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    odd = {"choices": [{"delta": {"reasoning": "Hm", "x": [1, None]}}], "y": {"z": 1.5}}
    backend.says(head(), sse(odd), DONE, END)
    assert await chunks(completions, call()) == [odd]


async def test_a_stream_without_done_is_not_called_done(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hello")), piece(b'data: {"last": 1}'), END)
    given = call()
    assert await chunks(completions, given) == [delta(content="Hello"), {"last": 1}]
    assert not given.completed


async def test_done_without_its_empty_line_counts(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta("stop")), piece(b"data: [DONE]"), END)
    given = call()
    assert await chunks(completions, given) == [delta("stop")]
    assert given.completed


async def test_what_stands_after_done_is_left(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    late = piece(b'data: {"c": 3}\n\n')
    said = piece(b'data: {"a": 1}\n\ndata: [DONE]\n\ndata: {"b": 2}\n\n')
    backend.says(head(), said, late, END)
    assert await chunks(completions, call()) == [{"a": 1}]


async def test_a_break_after_done_is_no_failure(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta("stop")), DONE, Act.RESET)
    given = call()
    assert await chunks(completions, given) == [delta("stop")]
    assert given.completed


async def test_a_whole_completion_is_its_json(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion(), "Application/JSON; charset=utf-8"))
    given = call(messages=[])
    assert await completed(completions, given) == completion()
    assert given.completed
    assert backend.request().body == {"model": "some-model", "messages": []}
    assert backend.request().headers["authorization"] == "Bearer secret"


async def test_a_declared_header_goes_before_the_key() -> None:
    declared = profile(api_key="secret", headers={"authorization": "Basic abc", "x-org": "me"})
    async with make_session(declared) as client:
        assert client.headers["authorization"] == "Basic abc"
        assert client.headers["x-org"] == "me"


async def test_without_a_key_none_is_sent() -> None:
    async with make_session(profile()) as client:
        assert "authorization" not in client.headers


async def test_closing_an_answer_early_closes_its_connection(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hello")), Act.UNTIL_GONE)
    async with await completions.create(call=call(), stream=True) as answer:
        async for together in answer:
            assert together == [delta(content="Hello")]
            break
    assert await gone(backend)


@pytest.mark.parametrize(
    "said",
    [[], [head()], [head(), sse(delta(content="Hi"))], [head(500), piece(b"Oops")]],
    ids=["nothing", "head", "chunk", "half-an-error"],
)
async def test_a_cancelled_call_closes_its_connection(
    said: list[bytes], completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(*said, Act.UNTIL_GONE)
    with anyio.move_on_after(0.1) as scope:
        await chunks(completions, call())
    assert scope.cancelled_caught
    assert await gone(backend)


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


async def test_a_broken_off_answer_is_overloaded(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hi")), Act.CLOSE)
    with pytest.raises(OverloadedError, match="`fake` broke the connection"):
        await chunks(completions, call())


async def test_silence_is_a_timeout(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(), Act.UNTIL_GONE)
    with pytest.raises(GatewayTimeoutError, match="`fake` was silent for too long"):
        await chunks(completions, call(idle_timeout=0.1))
    assert await gone(backend)


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
    backend.says(head(500, "text/plain"), *[piece(b"Oops " * 20_000)] * 12, Act.UNTIL_GONE)
    with pytest.raises(InternalError, match="Oops") as caught:
        await completed(completions, call())
    assert len(caught.value.message) < 2100
    assert await gone(backend)


async def test_a_refused_stream_closes_its_answer(
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
    backend.says(head(), piece(both), hold, sse(delta("stop")), DONE, END)
    async with await completions.create(call=call(), stream=True) as answer:
        assert await anext(answer) == [delta(content="a"), delta(content="b")]
        hold.set()
        assert await anext(answer) == [delta("stop")]


async def test_what_comes_before_a_broken_event_is_not_lost(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    good = b"data: %b\n\n" % json_codec.encode(delta(content="a"))
    backend.says(head(), piece(good + b"data: {\n\n" + good), END)
    async with await completions.create(call=call(), stream=True) as answer:
        assert await anext(answer) == [delta(content="a")]
        for _ in range(2):
            with pytest.raises(InternalError, match="broken JSON"):
                await anext(answer)


async def test_a_broken_event_that_nobody_waited_for_keeps_nothing_in_memory(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    good = b"data: %b\n\n" % json_codec.encode(delta(content="a"))
    backend.says(head(), piece(good + b"data: {\n\n"), Act.UNTIL_GONE)
    given = call()
    kept = weakref.ref(given)
    async with await completions.create(call=given, stream=True) as answer:
        assert await anext(answer) == [delta(content="a")]
    del given, answer
    assert await gone(backend)
    assert kept() is None, "until the garbage collector runs"


async def test_a_large_body_arrives_whole(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    await completed(completions, call(text="x" * 3_000_000))
    assert len(backend.request().body["text"]) == 3_000_000


async def test_a_content_type_of_odd_bytes_is_shown_as_far_as_it_can_be(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(b"HTTP/1.1 200 OK\r\ncontent-type: a\xff/b\r\ncontent-length: 0\r\n\r\n")
    with pytest.raises(InternalError, match=r"answered with a\?/b"):
        await completed(completions, call())


async def test_a_packed_answer_is_unpacked(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    packed = gzip.compress(b"data: %b\n\ndata: [DONE]\n\n" % json_codec.encode(delta(content="Hi")))
    backend.says(head(content_encoding="gzip"), piece(packed[:30]), piece(packed[30:]), END)
    assert await chunks(completions, call()) == [delta(content="Hi")]


TYPES = [
    "text/event-stream",
    "TEXT/Event-Stream ; charset=utf-8",
    "",
    "application/json",
    "text/plain",
    "application/octet-stream",
]


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("stream", [True, False])
async def test_row_b29_a_body_is_a_stream_by_its_first_bytes(
    content_type: str, stream: bool, completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(content_type=content_type), piece(b"d"), piece(b"ata: {}\n\n"), DONE, END)
    async with await completions.create(call=call(), stream=stream) as answer:
        assert [chunk async for some in answer for chunk in some] == [{}]
    assert answer.call.completed


@pytest.mark.parametrize("content_type", TYPES[2:])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("end", [b"", b"\n\ndata: [DONE]\n\n"])
async def test_row_b29_a_body_is_whole_by_its_first_bytes(
    content_type: str,
    stream: bool,
    end: bytes,
    completions: ChatCompletionsClient,
    backend: ScriptedBackend,
) -> None:
    backend.says(head(content_type=content_type), piece(b" \n "), piece(b'{"a": 1}' + end), END)
    async with await completions.create(call=call(), stream=stream) as answer:
        assert [chunk async for some in answer for chunk in some] == [{"a": 1}]
    assert answer.call.completed


@pytest.mark.parametrize("body", [b"<html><h1>No", b"no", b"", b"7", b" " * 1000])
@pytest.mark.parametrize("stream", [True, False])
async def test_row_b29_any_other_body_is_a_failure(
    body: bytes, stream: bool, completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(content_type="text/html"), *([piece(body)] if body else []), END)
    with pytest.raises(InternalError, match="check its `base_url`"):
        await chunks(completions, call(), stream)


async def test_row_b29_a_stream_that_was_not_wanted_and_breaks_off_is_not_done(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, b"data: {}\n\n"))
    async with await completions.create(call=call(), stream=False) as answer:
        assert [chunk async for some in answer for chunk in some] == [{}]
    assert not answer.call.completed


@pytest.mark.parametrize("frame", [b"", b" ", b"null", b": keepalive"])
async def test_row_b28_a_frame_that_says_nothing_is_passed_over(
    frame: bytes, completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    nothing = piece(b"data:%b\n\n" % frame)
    backend.says(head(), nothing, sse(delta(content="Hi")), nothing, sse(delta("stop")), DONE, END)
    assert await chunks(completions, call()) == [delta(content="Hi"), delta("stop")]


async def test_row_b28_chunks_parted_by_one_line_break_are_chunks(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(), piece(b"data: {}\ndata: {}\n\n"), DONE, END)
    assert await chunks(completions, call()) == [{}, {}]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"data: {\n\n", "broken JSON"),
        (b"data: [1]\n\n", "JSON that is not an object"),
        (b"data: {}\ndata: x\n\n", "broken JSON"),
        (b"data: {", "broken JSON"),
        (b"data: " + b"x" * 17_000_000, "an event of more than"),
    ],
    ids=["broken", "list", "a line", "unfinished", "huge"],
)
async def test_an_event_that_cannot_be_read_is_a_failure(
    said: bytes, message: str, completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hi")), piece(said), END)
    with pytest.raises(InternalError, match=f"`fake` sent {message}"):
        await chunks(completions, call())


async def test_a_completion_in_place_of_a_stream_is_its_only_chunk(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    given = call()
    assert await chunks(completions, given) == [completion()]
    assert given.completed


async def test_a_stream_in_place_of_a_completion_is_no_document_to_trace(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(streamed("Hi"))
    with pytest.raises(InternalError, match="broken JSON"):
        await completed(completions, call())


async def test_an_empty_answer_before_the_answer_does_not_stop_the_clock(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(b"HTTP/1.1 103 Early Hints\r\n\r\n", Act.UNTIL_GONE)
    completions.connect_timeout = 0.1
    with pytest.raises(GatewayTimeoutError, match="`fake` was silent for too long"):
        await chunks(completions, call(idle_timeout=0.1))
    assert await gone(backend)


async def test_a_request_that_nobody_reads_is_a_timeout(completions: ChatCompletionsClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        completions.base_url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        completions.connect_timeout = 0.1
        with pytest.raises(GatewayTimeoutError, match="`fake` was silent for too long"):
            await completed(completions, call(idle_timeout=0.1, text="x" * 20_000_000))


async def test_an_answer_whose_connection_is_lost_unnoticed_is_a_failure(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    hold = Event()
    backend.says(head(), sse(delta(content="Hi")), hold, b"zz\r\n", Act.UNTIL_GONE)
    async with await completions.create(call=call(), stream=True) as answer:
        assert await anext(answer) == [delta(content="Hi")]
        assert answer._connection_closed is not None
        answer._connection_closed.remove_done_callback(
            answer._on_connection_closed
        )  # as if it were not told yet
        hold.set()
        assert await gone(backend)
        with pytest.raises(OverloadedError, match="`fake` broke the connection"):
            await anext(answer)


@contextlib.contextmanager
def environment(**names: str) -> Iterator[None]:
    """The environment with these names for proxies, and no others."""
    before = dict(os.environ)
    for name in before:
        if name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(names)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_a_backend_is_reached_through_the_proxy_of_the_environment(
    scheme: str, name: str, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    to = "https" if "HTTPS" in name else "http"
    with environment(**{name: scheme + backend.url.removeprefix("http://")}):
        client = make_session(profile(base_url=f"{to}://backend.invalid/v1", api_key="secret"))
    async with client:
        completions = ChatCompletionsClient(client, f"{to}://backend.invalid/v1", connect_timeout=5)
        if to == "http":
            assert await completed(completions, call()) == completion()
        else:  # the answer to CONNECT is no more than its head
            with pytest.raises(OverloadedError, match="cannot be reached"):
                await completed(completions, call())
    asked = backend.request()
    assert asked.method == ("CONNECT" if to == "https" else "POST")
    # What the proxy is told: nothing of the backend's key.
    assert "proxy-authorization" not in asked.headers
    assert asked.headers.get("authorization") == (None if to == "https" else "Bearer secret")


@pytest.mark.parametrize("no_proxy", ["*", "127.0.0.1", "{host}"])
async def test_no_proxy_is_asked_where_none_is_to_be(
    no_proxy: str, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    no_proxy = no_proxy.format(host=backend.url.removeprefix("http://"))
    with environment(http_proxy="http://127.0.0.1:1", no_proxy=no_proxy):
        client = make_session(profile(base_url=f"{backend.url}/v1"))
    async with client:
        completions = ChatCompletionsClient(client, f"{backend.url}/v1", connect_timeout=5)
        assert await completed(completions, call()) == completion()


async def test_the_embedded_model_is_never_reached_through_a_proxy(
    backend: ScriptedBackend,
) -> None:
    backend.says(whole(200, completion()))
    with environment(http_proxy="http://127.0.0.1:1", all_proxy="http://127.0.0.1:1"):
        client = make_session(Profile(**profiles()["embedded"]))
    async with client:
        completions = ChatCompletionsClient(client, f"{backend.url}/v1", connect_timeout=5)
        assert await completed(completions, call()) == completion()


async def test_row_a7_a_large_request_is_written_off_the_event_loop(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    numbers = list(range(1_000_000))
    async with turning() as turned:
        await completed(completions, evolve(call(numbers=numbers), body_size=LARGE_BODY))
    assert turned.rounds > 5
    assert backend.request().body["numbers"] == numbers
