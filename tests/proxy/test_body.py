"""A body as it is read, and the room that all of them have."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Any

import pytest

from proxy.body import Body, ClientGoneError, Room
from proxy.departure import Departure
from stages.wire.errors import InvalidRequestError, OverloadedError, RequestTooLargeError
from tests.proxy.support import GONE, Server, part


def body(*messages: dict[str, Any], declared: int = 0, room: Room | None = None) -> Body:
    """A body of which a server has these messages."""
    return Body(Server(list(messages)).receive, Departure(), room or Room(1000), declared)


async def test_it_is_put_together() -> None:
    whole = body(part(b"Hel", more=True), part(b"", more=True), part(b"lo"))
    assert await whole.read(5) == b"Hello"


async def test_it_can_be_read_again_by_another_stage() -> None:
    whole = body(part(b"Hello"))
    assert await whole.read(10) == await whole.read(5) == b"Hello"
    with pytest.raises(RequestTooLargeError):
        await whole.read(4)


async def test_a_message_may_leave_out_what_is_empty() -> None:
    assert await body({"type": "http.request"}).read(5) == b""


async def test_one_declared_too_large_is_refused_unread() -> None:
    with pytest.raises(RequestTooLargeError, match="5 bytes"):
        await body(declared=6).read(5)


@pytest.mark.parametrize(
    "messages",
    [[part(b"Hello!")], [part(b"Hel", more=True), part(b"lo!", more=True)]],
    ids=["in-one", "in-two"],
)
async def test_one_that_turns_out_too_large_is_refused(messages: list[dict[str, Any]]) -> None:
    with pytest.raises(RequestTooLargeError, match="5 bytes"):
        await body(*messages).read(5)


async def test_one_that_breaks_off_has_no_client_any_more() -> None:
    broken = body(part(b"Hel", more=True), GONE)
    with pytest.raises(ClientGoneError):
        await broken.read(5)


async def test_one_that_is_refused_is_not_kept_in_memory() -> None:
    broken = body(part(b"Hel", more=True))
    departure = broken.departure
    departure.error = InvalidRequestError("these bytes are no HTTP")
    with suppress(InvalidRequestError):
        await broken.read(10)
    broken.forget()
    kept = weakref.ref(broken)
    del broken
    assert kept() is None, "until the garbage collector runs"


class TestRoom:
    async def test_a_body_has_its_place_until_it_is_forgotten(self) -> None:
        room = Room(8)
        first = body(part(b"Hel", more=True), part(b"lo"), room=room)
        await first.read(10)
        assert room.free == 3
        await first.read(10)
        assert room.free == 3
        first.forget()
        first.forget()
        assert room.free == 8

    @pytest.mark.parametrize(
        ("messages", "declared"),
        [([], 4), ([part(b"abcd")], 0), ([part(b"ab", more=True), part(b"cd", more=True)], 0)],
        ids=["declared", "in-one", "in-two"],
    )
    async def test_who_finds_none_is_told_to_come_again_and_keeps_none(
        self, messages: list[dict[str, Any]], declared: int
    ) -> None:
        room = Room(3)
        late = body(*messages, declared=declared, room=room)
        with pytest.raises(OverloadedError, match="try again") as caught:
            await late.read(10)
        assert caught.value.headers == {"retry-after": "5"}
        late.forget()
        assert room.free == 3

    async def test_a_body_that_just_fits_is_taken(self) -> None:
        assert await body(part(b"abc"), declared=3, room=Room(3)).read(10) == b"abc"

    async def test_one_that_breaks_off_gives_its_place_back(self) -> None:
        room = Room(5)
        broken = body(part(b"Hel", more=True), GONE, room=room)
        with pytest.raises(ClientGoneError):
            await broken.read(5)
        broken.forget()
        assert room.free == 5
