"""A body is read with the cache of its parts as it is without it."""

from __future__ import annotations

import json
import random
import sys
import tracemalloc
from collections.abc import Iterator, Mapping
from operator import is_
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.messages_api.errors import InvalidRequestError
from stages.messages_api.part_cache import PARTS, PartCache
from stages.messages_api.structuring import Part, structure
from stages.validate import Validate
from tests.cases import for_each

LONG = "word " * 4000  # a shorter body is not split
COMPACT, SPACED = (",", ":"), (", ", ": ")
SEPARATORS = st.sampled_from([COMPACT, SPACED])

quick = settings(derandomize=True, deadline=None, max_examples=150)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
BLOCKS = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, TEXT),
    st.builds(
        lambda name, value: {"type": "tool_use", "id": "t1", "name": name, "input": {"v": value}},
        TEXT,
        st.one_of(st.integers(), st.floats(allow_nan=False), TEXT, st.none()),
    ),
    st.builds(
        lambda text, more: {"type": "tool_result", "tool_use_id": "t1", "content": text, more: 1},
        TEXT,
        st.sampled_from(["unknown", "is_error", "cache_control"]),
    ),
    st.builds(lambda kind: {"type": kind, "cache_control": {"type": "ephemeral"}}, TEXT),
    st.sampled_from([{"type": 1}, None, "text", {"type": "text", "text": "x", "citations": [1]}]),
)
MESSAGES = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "assistant", "system", "nobody"]),
    TEXT | st.lists(BLOCKS, max_size=3),
)


@pytest.fixture(autouse=True)
def _cache() -> Iterator[None]:
    PARTS.resize(10_000_000)
    yield
    PARTS.resize(0)


def body(
    *messages: Any,
    separators: tuple[str, str] = COMPACT,
    after: Mapping[str, Any] | None = None,
    **more: Any,
) -> bytes:
    """A body with further members before and `after` its messages."""
    first = {"role": "user", "content": LONG}
    value = {"model": "m", "max_tokens": 9, **more, "messages": [first, *messages], **(after or {})}
    return json.dumps(value, separators=separators, ensure_ascii=False).encode()


def decode(data: bytes, cache: PartCache = PARTS) -> Any:
    split = cache.split(data)
    return cache.decode(split) if split else None


def outcome(data: bytes) -> Any:
    try:
        return Validate().parse(data)
    except InvalidRequestError as error:
        return error.message


def with_and_without(data: bytes) -> tuple[Any, Any]:
    limit = PARTS.max_bytes
    cached = outcome(data)
    PARTS.max_bytes = 0
    try:
        return cached, outcome(data)
    finally:
        PARTS.max_bytes = limit


@given(st.lists(MESSAGES, min_size=1, max_size=5), SEPARATORS)
@quick
def test_a_growing_conversation_is_read_as_without_the_cache(
    messages: list[Any], separators: tuple[str, str]
) -> None:
    tools = [{"name": "a", "input_schema": {"type": "object"}, "unknown": 1}]
    for end in range(1, len(messages) + 1):
        data = body(*messages[:end], separators=separators, system="Be brief.", tools=tools)
        cached, plain = with_and_without(data)
        assert cached == plain


@given(st.lists(MESSAGES, min_size=1, max_size=3), SEPARATORS, st.booleans(), st.data())
@quick
def test_a_changed_byte_is_never_missed(
    messages: list[Any], separators: tuple[str, str], joined: bool, data: st.DataObject
) -> None:
    turns = [{"role": "user", "content": f"number {n}"} for n in range(18 * joined)]
    original = body(*turns, *messages, separators=separators, after={"system": "Be brief."})
    for _ in range(3):
        outcome(original)  # now the parts and the envelope are cached, and messages are joined
    long = original.index(LONG.encode())
    end = st.integers(long + len(LONG) - 9, len(original) - 1)
    place = data.draw(st.integers(0, long + 9) | end)
    kind = data.draw(st.sampled_from(["replace", "insert", "remove", "cut"]))
    byte = b"" if kind == "remove" else bytes([data.draw(st.integers(0, 255))])
    after = {"cut": b"", "insert": original[place:]}.get(kind, original[place + 1 :])
    cached, plain = with_and_without(original[:place] + byte + after)
    assert cached == plain


def test_a_part_that_comes_again_is_the_same_object() -> None:
    turns = [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
    old = Validate().parse(body(*turns[:1], system="Be brief."))
    new = Validate().parse(body(*turns, system="Be brief."))
    assert all(a is b for a, b in zip(old.messages, new.messages, strict=False))
    assert old.system is new.system


#: Its JSON ends as a body does.
BLOCK = {"role": "user", "content": [{"type": "text", "text": "a"}]}
BODIES = {
    "a key twice": body().replace(b'"max_tokens":9', b'"max_tokens":8,"max_tokens":9'),
    "a key twice, at the end": body()[:-1] + b',"model":"other"}',
    "a key twice in a message": body({"role": "user", "content": "a"}).replace(
        b'"content":"a"', b'"content":"b","content":"a"'
    ),
    "an escaped key": body().replace(b'"model"', b'"\\u006dodel"'),
    "white space at the end": body() + b"\n",
    "several lines": json.dumps(json.loads(body()), indent=1).encode(),
    "messages that are no list": body().replace(b'"messages":[', b'"messages":{"a":[') + b"}",
    "no comma between messages": body({"role": "user", "content": "a"}).replace(b"},{", b"}{"),
    "a comma after the last message": body()[:-2] + b",]}",
    "another value after the last message": body()[:-2] + b",1]}",
    "the same member in a tool": body(tools=[{"name": "a", "x": {"messages": [{}]}}]),
    "messages within another member": body()[:-1].replace(b'"messages"', b'"x":{"messages"', 1)
    + b"}}",
    "infinity in a call": body(
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": 1}]}
    ).replace(b'"input":1', b'"input":{"a":[1e999]}'),
    "not UTF-8": body({"role": "user", "content": "ab"}).replace(b'"ab"', b'"\xff"'),
    "NaN": body(temperature=float("nan")),
    "a number out of range": body({"role": "user", "content": 1}).replace(b":1}", b":1e999}"),
    "half a pair": body({"role": "user", "content": "ab"}).replace(b'"ab"', b'"\\ud800"'),
    "too deep": body({"role": "user", "content": 1}).replace(b":1}", b":" + b"[" * 999 + b"}"),
    "as deep as may be": body(metadata=1, system=1).replace(
        b'"system":1', b'"system":' + b"[" * 199 + b"]" * 199
    ),
    "one too deep": body(system=1).replace(b'"system":1', b'"system":' + b"[" * 200 + b"]" * 200),
    "another member as deep as may be": body(x=1).replace(
        b'"x":1', b'"x":' + b"[" * 200 + b"]" * 200
    ),
    "another member that is one too deep": body(x=1).replace(
        b'"x":1', b'"x":' + b"[" * 201 + b"]" * 201
    ),
    "a tool whose type is an object": body(tools=[{"name": "a", "type": {"a": 1}, "x": 1}]),
    "cut": body()[:-1],
    "a null": body(system=None, tools=None),
    "a tool twice": body(tools=[{"name": "a", "input_schema": {"type": "object"}}] * 2),
    "a tool that is not there": body(tool_choice={"type": "tool", "name": "b"}),
    "another member after the messages": body({"role": "user", "content": "b"}, after={"x": [1]}),
    "cut like the end of the body": body(BLOCK)[:-2],
    "a member that ends like the body": body(BLOCK)[:-2] + b'],"system":[{"type":"text"}]}',
    "no object": b"[" + body() + b"]",
}


@for_each("data", BODIES.values(), BODIES)
def test_it_is_read_as_without_the_cache(data: bytes) -> None:
    outcome(body({"role": "user", "content": "a"}))  # its first messages are cached
    outcome(body(BLOCK))
    cached, plain = with_and_without(data)
    assert cached == plain


def test_what_is_decoded_again_is_only_what_is_new() -> None:
    cache = PartCache(max_bytes=10_000_000)
    turns = [{"role": "user", "content": f"number {n}"} for n in range(50)]
    decode(body(*turns[:-1], system="Be brief."), cache)
    used = cache.used_bytes
    value = decode(body(*turns, system="Be brief."), cache)
    assert value is not None
    assert type(value["system"]) is type(value["messages"]) is Part
    assert 0 < cache.used_bytes - used < 4000  # the new message, and the envelope


def test_a_body_is_split_once() -> None:
    assert Validate().parse(body(), is_split=True) == Validate().parse(body(), is_split=False)
    PARTS.resize(0)
    PARTS.resize(10_000_000)
    Validate().parse(body(), split=None, is_split=True)
    assert PARTS.used_bytes == 0


def test_the_memory_is_bounded_and_the_oldest_parts_go_first() -> None:
    cache = PartCache(max_bytes=200_000)
    first = decode(body(), cache)
    for n in range(200):
        decode(body({"role": "user", "content": f"{n} " * 500}), cache)
        assert cache.used_bytes <= cache.max_bytes
    again = decode(body(), cache)
    assert first is not None
    assert again is not None
    assert first["messages"].value[0] is again["messages"].value[0]  # used all the time
    cache.resize(0)
    assert cache.used_bytes == 0
    assert decode(body(), cache) is None


def test_cached_messages_are_found_without_the_parser() -> None:
    cache = PartCache(max_bytes=10_000_000)
    turns = [{"role": "user", "content": f"number {n}"} for n in range(50)]
    decode(body(*turns[:20]), cache)
    decode(body(*turns[:10], *turns[30:]), cache)  # two conversations with the same begin
    for data in (body(*turns[:20]), body(*turns[:10], *turns[30:])):
        split = cache.split(data + b" ")  # not valid, but found
        assert split is None
        split = cache.split(data)
        assert split is not None
        assert split.new_bytes == len(b'"m",9,[]')


def test_a_body_with_more_new_bytes_than_allowed_is_not_split() -> None:
    first = {"role": "user", "content": LONG}
    assert PARTS.split(body(first), 1000) is None
    decode(body(first))
    assert PARTS.split(body(first, {"role": "user", "content": "short"}), 1000)


@pytest.mark.parametrize("many", [10_000 * ",1", 10_000 * ",{}", 200_000 * ',{"role":"user"}'])
def test_items_that_would_take_seconds_are_not_split(many: str) -> None:
    messages = '{"role":"user","content":"x"}' + many
    assert PARTS.split(f'{{"messages":[{messages}]}}'.encode()) is None


def test_a_large_conversation_is_cached_when_it_comes_again() -> None:
    first, second = ({"role": "user", "content": LONG * 3 + name} for name in ("a", "b"))
    decode(body(first, second))
    assert PARTS.used_bytes < len(LONG)
    cached = decode(body(first, second))["messages"].value
    assert PARTS.used_bytes > len(LONG)
    grown = decode(body(first, second, {"role": "user", "content": "new"}))["messages"].value
    assert all(map(is_, cached, grown))


def numbered(begin: str, count: int) -> list[Any]:
    return [{"role": "user", "content": f"{begin} {n}"} for n in range(count)]


def test_messages_that_come_again_are_joined() -> None:
    cache = PartCache(max_bytes=10_000_000)
    for data in (body(*numbered("old", 40)), body(*numbered("old", 41))):
        for _ in range(3):
            decode(data, cache)
            used = cache.used_bytes
    split = cache.split(data)
    assert split is not None
    assert [isinstance(part, bytes) for part in split.messages] == [False] * 12  # 2 * 16 + 10
    assert decode(data, cache)["messages"].value == Validate().parse(data).messages
    assert cache.used_bytes == used


def test_joined_messages_are_found_after_another_message() -> None:
    cache = PartCache(max_bytes=10_000_000)
    same = numbered("same", 70)
    for begin in ("one", "two"):
        data = body(*numbered(begin, 15), *same)
        for _ in range(3):
            decode(data, cache)
        split = cache.split(data)
        assert split is not None
        assert split.followed == len(split.messages) < 20


def test_a_conversation_that_goes_back_is_read_again() -> None:
    cache = PartCache(max_bytes=10_000_000)
    for count in (40, 40, 40, 7, 30):
        data = body(*numbered("old", count), *numbered("new", 2))
        assert decode(data, cache)["messages"].value == Validate().parse(data).messages


@pytest.mark.parametrize("limit", [60_000, 1_000_000])
def test_growing_and_branching_talks_are_read_as_without_the_cache(limit: int) -> None:
    """They share messages, and the cache counts the memory of its parts."""
    choice = random.Random(1)
    cache = PartCache(max_bytes=limit)
    talks: list[list[Any]] = [[]]
    for step in range(400):
        talk = list(choice.choice(talks[-5:]))
        if choice.random() < 0.2:
            talk = talk[: choice.randrange(len(talk) + 1)]
        talk += choice.choice([numbered("same", 20), numbered(f"{step}", 2), numbered("ok", 1)])
        talks.append(talk)
        members = choice.choice([{}, {"system": "Be brief."}, {"system": "Be long."}])
        data = body(*talk, after=members, separators=choice.choice([COMPACT, SPACED]))
        value = decode(data, cache)
        assert structure(value) == structure(json.loads(data))
        assert cache.used_bytes == sum(part.memory for part in cache._parts.values()) <= limit


def test_the_envelope_is_found_by_one_comparison() -> None:
    cache = PartCache(max_bytes=10_000_000)
    members = {"system": "Be brief.", "tools": [{"name": "a", "input_schema": {"type": "object"}}]}
    bodies = [body(BLOCK, after=after) for after in ({}, {"system": "Be long."}, members)]
    for _ in range(3):
        values = [decode(data, cache) for data in bodies]
    for data, value in zip(bodies, values, strict=True):
        split = cache.split(data)
        assert split is not None
        assert not split.members
        again = decode(data, cache)
        assert again["messages"].value == value["messages"].value
        assert all(again.get(name) is value.get(name) for name in members)


def test_an_envelope_is_dropped_before_its_parts() -> None:
    cache = PartCache(max_bytes=10_000_000)
    data = body(system="Be brief." * 1000)
    for _ in range(3):
        decode(data, cache)
    cache.resize(cache.used_bytes - 1)
    split = cache.split(data)
    assert split is not None
    assert split.members
    assert not isinstance(split.members["system"], bytes)


def test_a_dropped_message_is_not_found() -> None:
    cache = PartCache(max_bytes=10_000_000)
    decode(body(), cache)
    split = cache.split(body())
    assert split is not None
    cache.resize(100)
    cache.resize(10_000_000)
    again = cache.split(body())  # `split` still refers to the dropped message
    assert again is not None
    assert again.new_bytes > 0
    assert cache.decode(split) is not None


TEXTS = ["word " * 1000, "é" * 3000, "\U0001f600" * 2000, "a — b " * 1000]


@for_each("text", TEXTS, ["ASCII", "Latin", "emoji", "a dash"])
@pytest.mark.parametrize("ascii_only", [True, False], ids=["escaped", "UTF-8"])
def test_the_memory_is_not_underestimated(text: str, ascii_only: bool) -> None:
    cache = PartCache(max_bytes=10_000_000)
    messages = [{"role": "user", "content": LONG}, {"role": "user", "content": text}]
    value = {"model": "m", "messages": messages}
    data = json.dumps(value, separators=COMPACT, ensure_ascii=ascii_only).encode()
    assert decode(data, cache) is not None
    assert cache.used_bytes >= len(data) + sys.getsizeof(LONG) + sys.getsizeof(text)


INPUTS = {"objects": [{"a": 1}] * 5000, "lists": [[]] * 5000, "numbers": [1.5] * 5000}


@for_each("value", INPUTS.values(), INPUTS)
def test_the_memory_of_many_values_is_not_underestimated(value: Any) -> None:
    call = {"type": "tool_use", "id": "t", "name": "n", "input": {"a": value}}
    data = body({"role": "assistant", "content": [call]})
    cache = PartCache(max_bytes=10_000_000)
    tracemalloc.start()
    try:
        decode(data, cache)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert cache.used_bytes >= 0.9 * used


def test_new_bytes_has_the_members_that_are_no_parts() -> None:
    cache = PartCache(max_bytes=10_000_000)
    member = {"user_id": LONG * 5}
    for _ in range(2):
        split = cache.split(body(metadata=member))
        assert split is not None
        assert split.new_bytes > len(LONG) * 5
        cache.decode(split)


def test_many_values_are_counted_over_all_parts() -> None:
    cache = PartCache(max_bytes=10_000_000, max_values=100)
    turns = [{"role": "user", "content": "a"}] * 50
    assert decode(body(*turns[:20]), cache) is not None
    for _ in range(2):  # also of cached parts
        assert decode(body(*turns), cache) is None
