"""A response is read by its first bytes, not by its content type, against a real socket."""

from __future__ import annotations

import pytest

from stages.backends.client import ChatCompletionsClient
from stages.chat_completions.chunk_decoding import is_undecided
from stages.messages_api.errors import (
    InternalError,
)
from tests.stages.backends.support import call, chunks, completed
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import DONE, END, completion, delta, head, http_chunk, sse, streamed, whole


@pytest.fixture
def anyio_backend() -> str:
    """The client is one for asyncio."""
    return "asyncio"


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
    backend.says(
        head(content_type=content_type), http_chunk(b"d"), http_chunk(b"ata: {}\n\n"), DONE, END
    )
    async with await completions.create(call=call(), stream=stream) as response:
        assert [chunk async for some in response for chunk in some] == [{}]
    assert response.call.completed


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
    backend.says(
        head(content_type=content_type), http_chunk(b" \n "), http_chunk(b'{"a": 1}' + end), END
    )
    async with await completions.create(call=call(), stream=stream) as response:
        assert [chunk async for some in response for chunk in some] == [{"a": 1}]
    assert response.call.completed


def test_row_b29_a_part_of_a_byte_order_mark_decides_nothing() -> None:
    assert is_undecided(b"\xef\xbb")


@pytest.mark.parametrize("body", [b"data: {}\n\n", b"{}"])
@pytest.mark.parametrize("stream", [True, False])
async def test_row_b29_a_byte_order_mark_is_ignored(
    body: bytes, stream: bool, completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(content_type=""), http_chunk(b"\xef\xbb"), http_chunk(b"\xbf" + body), END)
    assert await chunks(completions, call(), stream) == [{}]


@pytest.mark.parametrize("body", [b"<html><h1>No", b"no", b"", b"7", b" " * 1000])
@pytest.mark.parametrize("stream", [True, False])
async def test_row_b29_any_other_body_is_a_failure(
    body: bytes, stream: bool, completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(content_type="text/html"), *([http_chunk(body)] if body else []), END)
    with pytest.raises(InternalError, match="check its `base_url`"):
        await chunks(completions, call(), stream)


async def test_row_b29_an_unwanted_stream_that_breaks_off_is_not_done(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, b"data: {}\n\n"))
    async with await completions.create(call=call(), stream=False) as response:
        assert [chunk async for some in response for chunk in some] == [{}]
    assert not response.call.completed


@pytest.mark.parametrize("frame", [b"", b" ", b"null", b": keepalive"])
async def test_row_b28_a_frame_that_says_nothing_is_passed_over(
    frame: bytes, completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    nothing = http_chunk(b"data:%b\n\n" % frame)
    backend.says(head(), nothing, sse(delta(content="Hi")), nothing, sse(delta("stop")), DONE, END)
    assert await chunks(completions, call()) == [delta(content="Hi"), delta("stop")]


async def test_row_b28_chunks_parted_by_one_line_break_are_chunks(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(), http_chunk(b"data: {}\ndata: {}\n\n"), DONE, END)
    assert await chunks(completions, call()) == [{}, {}]


@pytest.mark.parametrize(
    ("data", "message"),
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
    data: bytes, message: str, completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hi")), http_chunk(data), END)
    with pytest.raises(InternalError, match=f"`fake` sent {message}"):
        await chunks(completions, call())


@pytest.mark.parametrize("data", [b"data: [DONE]", b"data: null", b": keepalive"])
async def test_an_unwanted_stream_without_chunks_yields_no_list(
    data: bytes, completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, data + b"\n\n"))
    async with await completions.create(call=call(), stream=False) as response:
        assert [some async for some in response] == []


async def test_an_unwanted_stream_with_a_broken_first_chunk_is_a_failure(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, b"data: {\n\n"))
    async with await completions.create(call=call(), stream=False) as response:
        with pytest.raises(InternalError, match="broken JSON"):
            await anext(response)


async def test_a_completion_in_place_of_a_stream_is_its_only_chunk(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(whole(200, completion()))
    value = call()
    assert await chunks(completions, value) == [completion()]
    assert value.completed


async def test_a_stream_in_place_of_a_completion_is_not_traced(
    completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(streamed("Hi"))
    with pytest.raises(InternalError, match="broken JSON"):
        await completed(completions, call())


@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html>\n<html>", b"\xef\xbb\xbf\r\n <html>\n", b"<p>Hi"]
)
async def test_a_page_with_the_content_type_of_a_stream_is_named(
    page: bytes, completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(), *map(http_chunk, [page[:1], page[1:]]), END)
    with pytest.raises(InternalError, match=r"sent a page of HTML .* check its `base_url`"):
        await chunks(completions, call())


@pytest.mark.parametrize("end", [b"", b"\n"])
async def test_json_with_the_content_type_of_a_stream_is_read(
    end: bytes, completions: ChatCompletionsClient, backend: ScriptedBackend
) -> None:
    backend.says(head(), http_chunk(b'{"error": "no such model"}' + end), END)
    assert await chunks(completions, call()) == [{"error": "no such model"}]
