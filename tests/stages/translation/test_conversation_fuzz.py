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
    Reply,
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
    lambda policy, **options: profile(fields={"system_message": policy}, **options),
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


def translated(turns: list[dict[str, Any]], settings: Profile) -> list[dict[str, Any]]:
    begun = [{"role": "user", "content": "Hello"}]
    return messages_of(request(messages=begun + turns), settings, FieldPolicies(settings.fields))


TURNS = st.lists(TURN, max_size=8).map(numbered)


@given(TURNS, PROFILES)
@quick
def test_results_follow_their_calls_and_turns_are_merged(
    turns: list[dict[str, Any]], settings: Profile
) -> None:
    result = translated(turns, settings)
    waiting: list[str] = []
    given_ids: list[str] = []
    for before, message in itertools.pairwise([{"role": ""}, *result]):
        if message["role"] == "tool":
            assert message["tool_call_id"] == waiting.pop(0)
            continue
        assert waiting == []
        assert message["role"] != before["role"]
        assert message.get("content") or message["tool_calls"]
        assert (before["role"], message["role"]) != (
            "tool",
            "user",
        ) or settings.allows_user_after_tool
        waiting = [call["id"] for call in message.get("tool_calls", ())]
        assert len(waiting) <= 1 or not settings.split_tool_results
        given_ids += waiting
    assert waiting == []
    assert len(set(given_ids)) == len(given_ids)


@given(TURNS, PROFILES)
@quick
def test_each_word_is_reported_once(turns: list[dict[str, Any]], settings: Profile) -> None:
    result = translated(turns, settings)
    assert sorted(words(result)) == sorted(words(turns))
    response = [turn for turn in turns if turn["role"] == "assistant"]
    reported = [message for message in result if message["role"] == "assistant"]
    texts = [[b for b in turn["content"] if b["type"] == "text"] for turn in response]
    assert words([message.get("content") for message in reported]) == words(texts)
    arguments = [[b for b in turn["content"] if b["type"] == "tool_use"] for turn in response]
    assert words([message.get("tool_calls") for message in reported]) == words(arguments)


SYSTEM: st.SearchStrategy[list[Any]] = st.just([]) | st.lists(TEXT, min_size=1, max_size=1).map(
    lambda response: [("system", response)]
)
AGENT = st.lists(
    st.builds(
        lambda asked, between, response: [("user", asked), *between, ("assistant", response)],
        USER,
        SYSTEM,
        st.lists(TEXT | USE, min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=4,
)


@given(AGENT, PROFILES)
@quick
def test_earlier_turns_keep_their_bytes(agent: list[Any], settings: Profile) -> None:
    """For the prefix caches of backends."""
    settings = evolve(settings, hoist_system=False)
    turns = numbered([turn for turns in agent for turn in turns])
    ends = [n for n, turn in enumerate(turns) if turn["role"] == "assistant"]
    sent = [encode(translated(turns[:end], settings)) for end in ends]
    for before, now in itertools.pairwise(sent):
        assert now.startswith(before.removesuffix(b"]"))


@given(st.lists(streams(), min_size=1, max_size=3))
@settings(quick, max_examples=40)
def test_a_response_goes_back_to_its_backend_unchanged(
    responses: list[tuple[Reply, list[dict[str, Any]]]],
) -> None:
    turns: list[dict[str, Any]] = []
    for response, deltas in responses:
        builder = MessageBuilder()
        for event in run(chunks_of(response, deltas), True, REQUESTS[False])[0]:
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
    result = translated(turns, profile())
    reported = [
        (
            message["content"] or "",
            [
                (call["function"]["name"], json.loads(call["function"]["arguments"]))
                for call in message.get("tool_calls", ())
            ],
        )
        for message in result
        if message["role"] == "assistant"
    ]
    expected = [
        (
            "".join(block[1] for block in response.content if block[0] == "text").rstrip(),
            list(response.calls),
        )
        for response, _ in responses
    ]
    assert reported == [item for item in expected if any(item)]
    results = [message["content"] for message in result if message["role"] == "tool"]
    assert results == [
        f"call_{n} says so" for response, _ in responses for n in range(len(response.calls))
    ]
