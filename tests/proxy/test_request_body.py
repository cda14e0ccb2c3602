"""Reading a body, and the memory budget of all bodies."""

from __future__ import annotations

import gzip
import weakref
import zlib
from typing import Any

import pytest

from proxy.gzip_decoder import GzipDecoder
from proxy.http.disconnect import RequestSignals
from proxy.request_body import BodyBudget, ClientDisconnectedError, RequestBody
from stages.messages_api.errors import (
    InvalidRequestError,
    OverloadedError,
    RequestTooLargeError,
    drop_traceback,
)
from tests.cases import for_each
from tests.proxy.support import DISCONNECT, Server, part


def body(
    *messages: dict[str, Any], length: int = 0, budget: BodyBudget | None = None
) -> RequestBody:
    """A body of which a server has these messages."""
    return RequestBody(
        Server(list(messages)).receive, RequestSignals(), budget or BodyBudget(1000), length
    )


async def test_a_body_is_joined() -> None:
    whole = body(part(b"Hel", more=True), part(b"", more=True), part(b"lo"))
    assert await whole.read(5) == b"Hello"


def packed(*messages: dict[str, Any], budget: BodyBudget | None = None) -> RequestBody:
    """A body that arrives in gzip."""
    whole = body(*messages, budget=budget or BodyBudget(10_000_000))
    whole.gzip = True
    return whole


TEXT = b"Hello, " * 1000
GZIP = {
    "one member": gzip.compress(TEXT),
    "two members": gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:]),
    "members with nothing in them": gzip.compress(b"") * 900 + gzip.compress(TEXT),
    "not compressed": gzip.compress(TEXT, compresslevel=0),
}


@for_each("data", GZIP.values(), ids=GZIP)
@for_each("step", [1, 7, 100_000])
async def test_gzip_is_unpacked_however_it_is_cut(data: bytes, step: int) -> None:
    parts = [data[n : n + step] for n in range(0, len(data), step)]
    messages = [part(each, more=True) for each in parts]
    assert await packed(*messages, part(b"")).read(10_000_000) == TEXT


BROKEN = {
    "nothing": b"",
    "no gzip": b"Hello",
    "cut in the head": GZIP["one member"][:5],
    "cut in the data": GZIP["one member"][:30],
    "cut in the checksum": GZIP["one member"][:-1],
    "another checksum": GZIP["one member"][:-8] + bytes(8),
    "more after it": GZIP["one member"] + b"Hello",
    "zlib": zlib.compress(TEXT),
    "too many members": gzip.compress(b"") * 1001,
}


@for_each("data", BROKEN.values(), ids=BROKEN)
async def test_broken_gzip_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="not valid gzip") as raised:
        await packed(part(data)).read(10_000_000)
    assert raised.value.details == {"error_code": "request_body_encoding_invalid"}


async def test_gzip_is_limited_by_its_unpacked_size() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    budget = BodyBudget(10_000_000)
    whole = packed(part(bomb[:30_000], more=True), part(bomb[30_000:]), budget=budget)
    with pytest.raises(RequestTooLargeError):
        await whole.read(1_000_000)
    assert budget.free_bytes >= 10_000_000 - 1_000_000
    whole.release()
    assert budget.free_bytes == 10_000_000


async def test_gzip_takes_its_unpacked_size_of_the_budget() -> None:
    with pytest.raises(OverloadedError):
        await packed(part(gzip.compress(bytes(2000))), budget=BodyBudget(1000)).read(5000)


async def test_gzip_that_unpacks_to_nothing_is_limited_too() -> None:
    head, empty_block = gzip.compress(b"")[:10], b"\0\0\0\xff\xff"
    with pytest.raises(RequestTooLargeError):
        await packed(part(head + empty_block * 10_000)).read(4000)


@pytest.mark.parametrize(
    "data",
    [gzip.compress(bytes(4_000_000)), gzip.compress(b"") * 900, gzip.compress(bytes(range(256)))],
    ids=["a bomb", "many members", "a short one"],
)
def test_unpacking_takes_a_step_per_chunk_and_member(data: bytes) -> None:
    pieces = list(GzipDecoder().decompress(data))
    members = data.count(b"\x1f\x8b\x08")
    assert max(map(len, pieces)) <= 256 * 1024
    assert len(pieces) <= members + len(data) // 16_384 + sum(map(len, pieces)) // 262_144 + 2


async def test_it_can_be_read_again_by_another_stage() -> None:
    whole = body(part(b"Hello"))
    assert await whole.read(10) == await whole.read(5) == b"Hello"
    with pytest.raises(RequestTooLargeError):
        await whole.read(4)


async def test_a_message_may_leave_out_what_is_empty() -> None:
    assert await body({"type": "http.request"}).read(5) == b""


async def test_a_content_length_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(RequestTooLargeError, match="5 bytes"):
        await body(length=6).read(5)


@pytest.mark.parametrize(
    "messages",
    [[part(b"Hello!")], [part(b"Hel", more=True), part(b"lo!", more=True)]],
    ids=["in-one", "in-two"],
)
async def test_a_body_over_the_limit_is_refused(messages: list[dict[str, Any]]) -> None:
    with pytest.raises(RequestTooLargeError, match="5 bytes"):
        await body(*messages).read(5)


async def test_an_incomplete_body_is_a_disconnect() -> None:
    broken = body(part(b"Hel", more=True), DISCONNECT)
    with pytest.raises(ClientDisconnectedError):
        await broken.read(5)


async def test_a_refused_body_is_not_kept_in_memory() -> None:
    broken = body(part(b"Hel", more=True))
    signals = broken.signals
    signals.body_error = InvalidRequestError("these bytes are no HTTP")
    try:
        await broken.read(10)
    except InvalidRequestError as error:
        drop_traceback(error)  # as PipelineEndpoint does
    broken.release()
    kept = weakref.ref(broken)
    del broken
    assert kept() is None, "until the garbage collector runs"


class TestBudget:
    async def test_a_body_takes_the_budget_until_it_is_released(self) -> None:
        budget = BodyBudget(8)
        first = body(part(b"Hel", more=True), part(b"lo"), budget=budget)
        await first.read(10)
        assert budget.free_bytes == 3
        await first.read(10)
        assert budget.free_bytes == 3
        first.release()
        first.release()
        assert budget.free_bytes == 8

    @for_each(
        ("messages", "length"),
        [([], 4), ([part(b"abcd")], 0), ([part(b"ab", more=True), part(b"cd", more=True)], 0)],
        ids=["content-length", "in-one", "in-two"],
    )
    async def test_an_exhausted_budget_is_overloaded(
        self, messages: list[dict[str, Any]], length: int
    ) -> None:
        budget = BodyBudget(3)
        late = body(*messages, length=length, budget=budget)
        with pytest.raises(OverloadedError, match="try again") as caught:
            await late.read(10)
        assert caught.value.headers == {"retry-after": "5"}
        late.release()
        assert budget.free_bytes == 3

    async def test_a_body_that_just_fits_is_accepted(self) -> None:
        assert await body(part(b"abc"), length=3, budget=BodyBudget(3)).read(10) == b"abc"

    async def test_an_incomplete_body_releases_the_budget(self) -> None:
        budget = BodyBudget(5)
        broken = body(part(b"Hel", more=True), DISCONNECT, budget=budget)
        with pytest.raises(ClientDisconnectedError):
            await broken.read(5)
        broken.release()
        assert budget.free_bytes == 5
