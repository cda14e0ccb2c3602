"""The limits of the cache: long conversations, many of them, and hostile bodies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.messages_api.body_layout import divide_messages
from stages.messages_api.part_cache import PARTS
from tests.cases import for_each
from tests.stages.messages_api.test_part_cache import (
    LONG,
    MESSAGES,
    SEPARATORS,
    body,
    decode,
    outcome,
    quick,
)

_MAX_NEW = 100_000


@pytest.fixture(autouse=True)
def _cache() -> Iterator[None]:
    PARTS.resize(30_000_000)
    yield
    PARTS.resize(0)


def turns(name: str, count: int) -> list[Any]:
    return [{"role": "user", "content": LONG[:3000] + name}] + [
        {"role": "assistant" if n % 2 else "user", "content": f"{name} {n}"} for n in range(count)
    ]


def new_bytes(*messages: Any) -> int:
    split = PARTS.split(body(*messages))
    assert split is not None
    return split.new_bytes


def test_a_long_conversation_is_not_split_on_the_event_loop() -> None:
    short, long = turns("short", 900), turns("long", 1200)
    for _ in range(3):
        decode(body(*short))
        decode(body(*long))
    assert PARTS.split(body(*short), _MAX_NEW) is not None
    assert PARTS.split(body(*long), _MAX_NEW) is None


def test_messages_in_a_circle_are_not_followed_without_end() -> None:
    user, assistant = {"role": "user", "content": LONG}, {"role": "assistant", "content": "a"}
    decode(body(user, assistant, user, assistant))
    assert PARTS.split(body(*[user, assistant] * 1500), _MAX_NEW) is None


def test_many_conversations_keep_their_parts() -> None:
    talks = [turns(f"talk {n}", 40) for n in range(40)]
    for _ in range(3):
        for talk in talks:
            decode(body(*talk))
    assert max(new_bytes(*talk) for talk in talks) < 100


def test_a_conversation_in_use_outlives_many_new_ones() -> None:
    used = turns("used", 40)
    for n in range(300):
        decode(body(*turns(f"other {n}", 1)))
        if n % 100 == 0:
            decode(body(*used))
    assert new_bytes(*used) < 100


def test_a_comma_without_a_message_is_not_valid() -> None:
    message = {"role": "user", "content": LONG}
    data = body(message, message)
    decode(data)
    for text in (b"", b" "):
        broken = data.replace(b"}]", b"}," + text + b"]")
        assert outcome(broken) == outcome_without_cache(broken)


def outcome_without_cache(data: bytes) -> Any:
    limit = PARTS.max_bytes
    PARTS.max_bytes = 0
    try:
        return outcome(data)
    finally:
        PARTS.max_bytes = limit


def test_a_body_with_many_members_is_not_split() -> None:
    members = {f"m{n}": n for n in range(5000)}
    assert PARTS.split(body({"role": "user", "content": LONG}, after=members)) is None


LARGE = {"role": "user", "content": LONG * 6}


def test_new_messages_that_are_large_are_decoded_in_groups() -> None:
    """They are not cached when they come first."""
    data = body(*turns("a", 3), LARGE, *turns("b", 3), LARGE, *turns("c", 3))
    joined = data[data.index(b"[") + 1 : -2]
    groups = [bytes(group) for group in divide_messages(joined, b",")]
    assert len(groups) == 3
    assert b",".join(groups) == joined
    split = PARTS.split(data)
    assert split is not None
    assert not split.is_cached
    value = PARTS.decode(split)
    assert value is not None
    assert value["messages"].value == outcome_without_cache(data).messages


@given(st.lists(MESSAGES | st.just(LARGE), max_size=4), SEPARATORS, st.data())
@quick
def test_large_new_messages_are_read_as_without_the_cache(
    messages: list[Any], separators: tuple[str, str], data: st.DataObject
) -> None:
    """Also with a changed byte, in the body or at the end of a group."""
    original = body(*messages, LARGE, *messages, separators=separators)
    place = data.draw(st.integers(len(original) - 200 * len(messages) - 9, len(original) - 1))
    byte = data.draw(st.sampled_from([b"", b" ", b",", b"]", b"[", b"}", b'"', b"\xff"]))
    for broken in (original, original[:place] + byte + original[place + 1 :]):
        PARTS.resize(0)
        PARTS.resize(30_000_000)
        assert outcome(broken) == outcome_without_cache(broken)


def nested(*items: Any) -> dict[str, Any]:
    """A call whose input has items that begin as a message does."""
    call = {"type": "tool_use", "id": "t", "name": "n", "input": {"a": list(items)}}
    return {"role": "assistant", "content": [call]}


ITEM = {"role": 1}
NESTED = {
    "in a list": [nested(LARGE, ITEM)],
    "in each of two": [nested(LARGE, ITEM), nested(ITEM, LARGE, ITEM)],
    "in lists of lists": [nested([LARGE], [ITEM, LARGE], [ITEM])],
    "before a wrong message": [nested(LARGE, ITEM), {"role": "nobody", "content": "a"}],
}


@for_each("messages", NESTED.values(), NESTED)
def test_a_group_that_ends_inside_a_message_is_noticed(messages: list[Any]) -> None:
    data = body(*messages, {"role": "user", "content": "a"})
    assert outcome(data) == outcome_without_cache(data)


WRONG = {
    "two lists": b'{"role":"user","content":"%b"}],[{"role":"user","content":"a"}',
    "a comma at the end": b'{"role":"user","content":"%b"},',
    "two commas": b'{"role":"user","content":"%b"},,{"role":"user","content":"a"}',
    "no message": b'{"role":"user","content":"%b"},1',
    "a key twice": b'{"role":"user","content":"%b"},{"role":"user","role":"user","content":"a"}',
    "white space": b" " * 120_000 + b"%.0b",
    "infinity": b'{"role":"user","content":"%b"},{"role":"user","content":[1e999]}',
}


@for_each("items", WRONG.values(), WRONG)
def test_wrong_items_after_much_text_are_noticed(items: bytes) -> None:
    data = b'{"model":"m","max_tokens":9,"messages":[%b]}' % (items % (LONG * 6).encode())
    assert outcome(data) == outcome_without_cache(data)
