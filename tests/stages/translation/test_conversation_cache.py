"""With the caches of bodies and conversations, a backend gets the same bytes as without them."""

from __future__ import annotations

import gc
import json
import random
import tracemalloc
from collections.abc import Iterator
from typing import Any
from weakref import ref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.events import ChatRequest, Resolved
from stages.exchange import Target
from stages.messages_api.errors import ApiError
from stages.messages_api.part_cache import PARTS
from stages.profiles.describe import profile_named
from stages.profiles.profile import Profile, profiles
from stages.translation.conversation_cache import CONVERSATIONS, ConversationCache
from stages.translation.request import chat_request
from stages.validate import Validate
from stages.wire.encoded_parts import NOT_ENCODED, encode_body
from tests.bench.counting import Calls
from tests.stages.translation.fuzz_support import quick
from tests.stages.translation.test_conversation_fuzz import PROFILES, TURNS
from tests.support import http, profile

LONG = "word " * 4000  # a shorter body is not cached
Turns = list[dict[str, Any]]


def resize(max_bytes: int) -> None:
    PARTS.resize(max_bytes)
    CONVERSATIONS.resize(max_bytes)


@pytest.fixture(autouse=True)
def _caches() -> Iterator[None]:
    resize(0)
    yield
    resize(0)


TOOLS: Turns = [{"name": "f", "input_schema": {"type": "object"}}]


def body(turns: Turns, system: str = "Be brief.", tools: Turns = TOOLS) -> bytes:
    first = {"role": "user", "content": LONG}
    value = {"model": "m", "max_tokens": 9, "system": system, "tools": tools}
    return json.dumps({**value, "messages": [first, *turns]}, separators=(",", ":")).encode()


def translate(
    data: bytes, settings: Profile, strict: bool = False, size: int | None = None
) -> ChatRequest:
    request = Validate().parse(data)
    size = len(data) if size is None else size
    resolved = Resolved(http(), request, Target("b", "m"), size=size, is_cached=True)
    return chat_request(resolved, settings, strict)


def sent(data: bytes, settings: Profile, strict: bool = False, size: int | None = None) -> Any:
    """The bytes that the backend gets, and all else that is known of the request."""
    try:
        result = translate(data, settings, strict, size)
    except ApiError as error:
        return error.message
    whole = encode_body({**result.options, "messages": result.messages}, result.encoded)
    plain = encode_body({**result.options, "messages": result.messages}, NOT_ENCODED)
    assert whole == plain
    return whole, result.degradations, result.raw_estimate, result.tool_use_members


def check(bodies: list[bytes], settings: Profile, strict: bool = False) -> None:
    """Check that each of `bodies`, one after the other, is sent as without the caches."""
    resize(0)
    expected = [sent(data, settings, strict, size=0) for data in bodies]  # nothing is encoded early
    resize(10_000_000)
    assert [sent(data, settings, strict) for data in bodies] == expected


@given(TURNS, PROFILES, st.booleans())
@quick
def test_a_growing_conversation_is_sent_as_without_the_caches(
    turns: Turns, settings: Profile, strict: bool
) -> None:
    check([body(turns[:end]) for end in range(len(turns) + 1)], settings, strict)


@given(TURNS, TURNS, st.randoms(use_true_random=False))
@quick
def test_changes_of_old_turns_are_not_missed(
    turns: Turns, others: Turns, choice: random.Random
) -> None:
    """Turns are dropped, swapped, replaced, and come back; so does the system prompt."""
    bodies, now = [body(turns)], list(turns)
    for other in others:
        now = choice.choice(
            [
                [*now, other],
                now[:-2],
                now[1:],
                now[::-1],
                [other if n % 3 == 1 else turn for n, turn in enumerate(now)],
                list(turns),
            ]
        )
        bodies.append(body(now, system=choice.choice(["Be brief.", "Be long."])))
    check(bodies, profile())


@given(TURNS, TURNS, TURNS, PROFILES)
@quick
def test_branches_of_a_conversation_are_sent_as_without_the_caches(
    begin: Turns, one: Turns, other: Turns, settings: Profile
) -> None:
    branches = [[body([*begin, *end[:n]]) for n in range(3)] for end in (one, other, begin)]
    check([data for step in zip(*branches, strict=True) for data in step], settings)


@pytest.mark.parametrize("name", sorted(profiles().keys() - {"embedded"}))
def test_an_agents_conversation_is_sent_as_without_the_caches_to(name: str) -> None:
    settings = profile_named(name)
    turns: Turns = []
    bodies = []
    for n in range(6):
        thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
        call = {"type": "tool_use", "id": f"t{n % 3}", "name": "f", "input": {"n": n}}
        result = {"type": "tool_result", "tool_use_id": f"t{n % 3}", "content": f"result {n}"}
        reminder = {"role": "system", "content": f"reminder {n}", "clear_at": "next_user_message"}
        turns.append({"role": "assistant", "content": [thinking, call]})
        turns.append({"role": "user", "content": [result, {"type": "text", "text": "go on"}]})
        turns += [reminder] * (n % 2)
        bodies.append(body(turns))
    check(bodies, settings)


def test_a_long_conversation_is_sent_as_without_the_caches() -> None:
    """Its messages are joined, and so is their JSON, more than once."""
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    turns: Turns = []
    bodies = []
    for n in range(60):
        call = {"type": "tool_use", "id": f"t{n}", "name": "f", "input": {"n": n}}
        result = {"type": "tool_result", "tool_use_id": f"t{n}", "content": [image] * (n % 2)}
        turns.append({"role": "assistant", "content": [call]})
        turns.append({"role": "user", "content": [result, {"type": "text", "text": "go on"}]})
        bodies.append(body(turns))
    bodies += [body(turns[:41]), body(turns[:43]), body([*turns[:43], *turns[:2]])]
    check(bodies, profile())


def test_numbers_of_more_than_64_bits_are_sent_as_without_the_caches() -> None:
    turns: Turns = [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 2**70}}}
    tools = [{"name": "f", "input_schema": {**schema, "title": 1e-7}}]
    check([body(turns[:end], tools=tools) for end in (0, 1, 2)], profile())


def test_a_pdf_is_translated_each_time() -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}
    turns = [{"role": "user", "content": [{"type": "document", "source": source}]}]
    check([body(turns), body([*turns, *turns]), body(turns)], profile())


def test_two_profiles_do_not_get_each_others_messages() -> None:
    call = {"type": "tool_use", "id": "x" * 70, "name": "f", "input": {}}
    turns = [
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x" * 70}]},
    ]
    settings = [profile(tool_id_length=9), profile(), profile(hoist_system=True)]
    expected = [sent(body(turns), each) for each in settings]
    resize(10_000_000)
    for _ in range(2):
        assert [sent(body(turns), each) for each in settings] == expected


def calls(data: bytes) -> int:
    with Calls() as cost:
        result = translate(data, SETTINGS)
        encode_body({**result.options, "messages": result.messages}, result.encoded)
    return cost.total


def numbered(count: int, name: str = "number") -> Turns:
    return [
        {"role": "user" if n % 2 else "assistant", "content": f"{name} {n}"} for n in range(count)
    ]


SETTINGS = profile()


@pytest.mark.untraced
def test_a_turn_costs_what_is_new_in_it() -> None:
    turns = numbered(600)
    whole = calls(body(turns[:-2]))
    resize(10_000_000)
    for _ in range(4):  # each joins some messages
        sent(body(turns[:-2]), SETTINGS)
    assert calls(body(turns)) < 0.2 * whole


@pytest.mark.untraced
def test_a_conversation_that_goes_back_costs_what_is_new_in_it() -> None:
    """It finds the place where it left an earlier one, when it comes there the second time."""
    turns = numbered(400)
    whole = calls(body(turns[:200]))
    resize(10_000_000)
    for end in range(200, 400, 2):
        sent(body(turns[:end]), SETTINGS)
    for n in range(4):
        cost = calls(body([*turns[:200], *numbered(4, f"other {n}")]))
    assert cost < 0.3 * whole


@pytest.mark.untraced
def test_each_branch_of_a_conversation_costs_what_is_new_in_it() -> None:
    begin = numbered(200)
    branches = [numbered(200, f"branch {n}") for n in range(2)]
    whole = calls(body([*begin, *branches[0]]))
    resize(10_000_000)
    for end in range(100, 200, 2):
        costs = [calls(body([*begin, *branch[:end]])) for branch in branches]
    assert max(costs) < 0.3 * whole


def test_the_memory_is_bounded() -> None:
    cache = ConversationCache(max_bytes=0)
    resize(10_000_000)
    CONVERSATIONS.resize(100_000)
    for n in range(30):
        translate(body([{"role": "assistant", "content": f"{n} " * 500}] * 2), SETTINGS)
        assert CONVERSATIONS.used_bytes <= 100_000
    assert CONVERSATIONS.used_bytes > 0
    CONVERSATIONS.resize(0)
    assert CONVERSATIONS.used_bytes == cache.used_bytes == 0


@pytest.mark.untraced
def test_checkpoints_that_do_not_fit_are_dropped_without_the_others() -> None:
    begin = numbered(200)
    branches = [numbered(60, f"branch {n}") for n in range(2)]
    whole = calls(body([*begin, *branches[0]]))
    resize(10_000_000)
    sent(body([*begin, *branches[0]]), SETTINGS)
    CONVERSATIONS.resize(int(2.5 * CONVERSATIONS.used_bytes))  # without the fork
    for end in range(40, 60, 2):
        costs = [calls(body([*begin, *branch[:end]])) for branch in branches]
    assert max(costs) < 0.3 * whole


def test_the_objects_of_a_checkpoint_count() -> None:
    resize(100_000_000)
    uses = [{"type": "tool_use", "id": f"t{n}", "name": "f", "input": {}} for n in range(3000)]
    data = body([{"role": "assistant", "content": uses}, {"role": "user", "content": "b"}])
    request = Validate().parse(data)
    tracemalloc.start()
    try:
        resolved = Resolved(http(), request, Target("b", "m"), size=len(data), is_cached=True)
        chat_request(resolved, SETTINGS)
        gc.collect()
        memory = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert memory < 1.2 * CONVERSATIONS.used_bytes


def test_a_checkpoint_does_not_keep_a_pdf_that_comes_after_it() -> None:
    resize(10_000_000)
    source = {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}
    pdf = {"role": "user", "content": [{"type": "document", "source": source}]}
    settings = profile(fields={"document.pdf": "emulate"})
    translate(body([{"role": "assistant", "content": "a"}, pdf]), settings)
    ((checkpoint,),) = CONVERSATIONS._checkpoints.values()
    assert checkpoint.state.fields.pdfs == {}


def test_a_conversation_of_one_turn_takes_no_memory() -> None:
    resize(10_000_000)
    for _ in range(3):
        translate(body([]), SETTINGS)
    assert not CONVERSATIONS._checkpoints


def test_a_checkpoint_does_not_keep_blocks_that_are_not_cached() -> None:
    resize(10_000_000)
    data = body([{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}])
    request = Validate().parse(data)
    blocks = [ref(message.content[0]) for message in request.messages]
    resolved = Resolved(http(), request, Target("b", "m"), size=len(data), is_cached=True)
    chat_request(resolved, SETTINGS)
    assert CONVERSATIONS._checkpoints
    PARTS.resize(0)
    del request, resolved
    assert [block() for block in blocks] == [None] * 3


def test_a_result_that_comes_twice_is_not_lost() -> None:
    """With the cache both are the same object."""
    use = {"type": "tool_use", "id": "t0", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t0", "content": LONG}
    turn = {"role": "user", "content": [result]}
    data = body(
        [{"role": "user", "content": "go"}, {"role": "assistant", "content": [use]}, turn, turn]
    )
    expected = sent(data, SETTINGS)
    resize(10_000_000)
    for _ in range(2):
        assert sent(data, SETTINGS) == expected


def test_messages_that_are_not_cached_make_no_checkpoint() -> None:
    """No later request could have the same objects. They are encoded once."""
    resize(10_000_000)
    data = body([{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}])
    resolved = Resolved(http(), Validate().parse(data), Target("b", "m"), size=len(data))
    result = chat_request(resolved, SETTINGS)
    assert not CONVERSATIONS._checkpoints
    assert result.encoded.has_messages_of(result.messages)
