"""Whatever a conversation consists of, backends get it in the order they want, and all of it."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.messages_api.accumulate import MessageBuilder
from stages.profiles.profile import Profile
from stages.translation.field_policies import FieldPolicies
from stages.wire.json_codec import encode
from tests.stages.translation.fuzz_support import (
    REQUESTS,
    Said,
    chunks_of,
    quick,
    run,
    streams,
)
from tests.stages.translation.support import messages_of
from tests.support import profile, request

IDS = st.sampled_from(["a", "b", "call_0", "odd id", "x" * 70])
IMAGE = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"},
}
#: Each becomes another word, so that it can be found again.
WORD = st.just("WORD")
TEXT = st.fixed_dictionaries({"type": st.just("text"), "text": WORD})
DOCUMENT = st.builds(
    lambda source: {"type": "document", "source": source},
    st.sampled_from(
        [
            {"type": "text", "media_type": "text/plain", "data": "WORD"},
            {"type": "content", "content": [{"type": "text", "text": "WORD"}, IMAGE]},
        ]
    ),
)
RESULT = st.fixed_dictionaries(
    {
        "type": st.just("tool_result"),
        "tool_use_id": IDS,
        "content": st.just("WORD") | st.lists(TEXT | DOCUMENT | st.just(IMAGE), max_size=3),
        "is_error": st.booleans(),
    }
)
USE = st.fixed_dictionaries(
    {
        "type": st.just("tool_use"),
        "id": IDS,
        "name": st.just("f"),
        "input": st.fixed_dictionaries({"a": WORD}),
    }
)
NOTHING: st.SearchStrategy[Any] = st.sampled_from(
    [{"type": "poem"}, {"type": "thinking", "thinking": "hm", "signature": ""}]
)
USER = st.lists(TEXT | RESULT | DOCUMENT | st.just(IMAGE), min_size=1, max_size=4)
ASSISTANT = st.lists(TEXT | USE | NOTHING, min_size=1, max_size=4)
TURN = (
    st.tuples(st.just("user"), USER)
    | st.tuples(st.just("assistant"), ASSISTANT)
    | st.tuples(st.just("system"), st.lists(TEXT, min_size=1, max_size=2))
)
PROFILES = st.builds(
    lambda policy, **how: profile(fields={"system_message": policy}, **how),
    st.sampled_from(["map", "emulate"]),
    hoist_system=st.booleans(),
    split_tool_results=st.booleans(),
    tool_id_length=st.sampled_from([None, 9]),
    allows_user_after_tool=st.booleans(),
)


def numbered(turns: list[tuple[str, list[Any]]]) -> list[dict[str, Any]]:
    """The turns as JSON, each WORD with a number of its own."""
    parts = json.dumps(turns).split("WORD")
    words = "".join(f"w{n}w{part}" if n else part for n, part in enumerate(parts))
    return [{"role": role, "content": content} for role, content in json.loads(words)]


def words(value: Any) -> list[str]:
    return re.findall(r"w\d+w", json.dumps(value))


def translated(turns: list[dict[str, Any]], how: Profile) -> list[dict[str, Any]]:
    begun = [{"role": "user", "content": "Hello"}]
    return messages_of(request(messages=begun + turns), how, FieldPolicies(how.fields))


TURNS = st.lists(TURN, max_size=8).map(numbered)


@given(TURNS, PROFILES)
@quick
def test_results_follow_their_calls_and_turns_are_merged(
    turns: list[dict[str, Any]], how: Profile
) -> None:
    made = translated(turns, how)
    waiting: list[str] = []
    given_ids: list[str] = []
    for before, message in itertools.pairwise([{"role": ""}, *made]):
        if message["role"] == "tool":
            assert message["tool_call_id"] == waiting.pop(0)
            continue
        assert waiting == []
        assert message["role"] != before["role"]
        assert message.get("content") or message["tool_calls"]
        assert (before["role"], message["role"]) != ("tool", "user") or how.allows_user_after_tool
        waiting = [call["id"] for call in message.get("tool_calls", ())]
        assert len(waiting) <= 1 or not how.split_tool_results
        given_ids += waiting
    assert waiting == []
    assert len(set(given_ids)) == len(given_ids)


@given(TURNS, PROFILES)
@quick
def test_each_word_is_reported_once(turns: list[dict[str, Any]], how: Profile) -> None:
    made = translated(turns, how)
    assert sorted(words(made)) == sorted(words(turns))
    said = [turn for turn in turns if turn["role"] == "assistant"]
    told = [message for message in made if message["role"] == "assistant"]
    texts = [[b for b in turn["content"] if b["type"] == "text"] for turn in said]
    assert words([message.get("content") for message in told]) == words(texts)
    arguments = [[b for b in turn["content"] if b["type"] == "tool_use"] for turn in said]
    assert words([message.get("tool_calls") for message in told]) == words(arguments)


SYSTEM: st.SearchStrategy[list[Any]] = st.just([]) | st.lists(TEXT, min_size=1, max_size=1).map(
    lambda said: [("system", said)]
)
AGENT = st.lists(
    st.builds(
        lambda asked, between, said: [("user", asked), *between, ("assistant", said)],
        USER,
        SYSTEM,
        st.lists(TEXT | USE, min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=4,
)


@given(AGENT, PROFILES)
@quick
def test_what_was_sent_before_stays_the_same_bytes(agent: list[Any], how: Profile) -> None:
    """For the prefix caches of backends."""
    how = evolve(how, hoist_system=False)
    turns = numbered([turn for turns in agent for turn in turns])
    ends = [n for n, turn in enumerate(turns) if turn["role"] == "assistant"]
    sent = [encode(translated(turns[:end], how)) for end in ends]
    for before, now in itertools.pairwise(sent):
        assert now.startswith(before.removesuffix(b"]"))


@given(st.lists(streams(), min_size=1, max_size=3))
@settings(quick, max_examples=60)
def test_what_a_backend_has_said_goes_back_to_it_as_it_was(
    answers: list[tuple[Said, list[dict[str, Any]]]],
) -> None:
    turns: list[dict[str, Any]] = []
    for said, deltas in answers:
        builder = MessageBuilder()
        for event in run(chunks_of(said, deltas), True, REQUESTS[False])[0]:
            builder.add(event)
        content = builder.message["content"]
        called = [block["id"] for block in content if block["type"] == "tool_use"]
        answered = [
            {"type": "tool_result", "tool_use_id": identity, "content": f"{identity} says so"}
            for identity in called
        ]
        turns += [
            {"role": "assistant", "content": content},
            {"role": "user", "content": [*answered, {"type": "text", "text": "Go on"}]},
        ]
    made = translated(turns, profile())
    told = [
        (
            message["content"] or "",
            [
                (call["function"]["name"], json.loads(call["function"]["arguments"]))
                for call in message.get("tool_calls", ())
            ],
        )
        for message in made
        if message["role"] == "assistant"
    ]
    expected = [
        (
            "".join(block[1] for block in said.content if block[0] == "text").rstrip(),
            list(said.calls),
        )
        for said, _ in answers
    ]
    assert told == [each for each in expected if any(each)]
    results = [message["content"] for message in made if message["role"] == "tool"]
    assert results == [f"call_{n} says so" for said, _ in answers for n in range(len(said.calls))]
