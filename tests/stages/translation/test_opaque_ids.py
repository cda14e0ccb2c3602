"""Call ids and blocks that hold opaque members."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import for_each
from tests.stages.translation.opaque_support import (
    ADAPTIVE,
    ENCRYPTED,
    ID,
    PARIS,
    SIGNED,
    Talk,
    one_call,
    returned,
)
from tests.stages.translation.support import (
    call,
    calls,
    completion,
    delta,
    finish,
    pieces,
    text,
)
from tests.support import profile

# B13: the ids of calls


@for_each(
    "identity",
    [
        "functions.Bash:0",
        "call_1__thought__" + "EqQ+CkY/" * 40 + "==",
        "x" * 65,
        "é",
        "a b",
        "toolu_llmp2_abc",
    ],
)
def test_row_b13_an_id_that_clients_reject_comes_back_unchanged(identity: str) -> None:
    talk = Talk()
    response = talk.answer(one_call(identity))
    assert ID.fullmatch(response["content"][0]["id"])
    again = talk.then(response)
    assert again.sent()["tool_calls"] == [returned(identity)]
    assert again.sent(2)["tool_call_id"] == identity


def test_row_b13_an_id_that_needs_no_envelope_stays_as_it_is() -> None:
    assert Talk().answer(one_call("call_A-1"))["content"][0]["id"] == "call_A-1"


@pytest.mark.parametrize("identity", ["call_0", "", "functions.f:0"])
def test_row_b13_ids_are_unique_in_a_conversation_and_stable(identity: str) -> None:
    def talked() -> tuple[Talk, list[str]]:
        talk, result = Talk(), []
        for _ in range(4):
            chunk = calls(call("f", "{}", index=0, id=identity), call("f", "{}", index=1, id="b"))
            response = talk.answer([chunk, finish("tool_calls")])
            result += [block["id"] for block in response["content"]]
            talk = talk.then(response)
        return talk, result

    (talk, result), (_, again) = talked(), talked()
    assert result == again
    assert len(set(result)) == len(result) == 8
    sent = [item["id"] for m in talk.request().messages for item in m.get("tool_calls", ())]
    assert len(set(sent)) == 8
    if identity:
        assert sent[0] == identity


def test_row_b13_two_calls_of_one_response_have_different_ids() -> None:
    chunk = calls(call("f", "{}", index=0, id="a"), call("g", "{}", index=1, id="a"))
    talk = Talk()
    response = talk.answer([chunk, finish("tool_calls")])
    one, two = (block["id"] for block in response["content"])
    assert one != two
    first_id, second_id = (
        tool_call["id"] for tool_call in talk.then(response).sent()["tool_calls"]
    )
    assert first_id == "a" != second_id


# The bound, and what is longer


def test_extras_that_no_id_can_hold_precede_the_call_in_a_block() -> None:
    options = profile(tool_use_id_limit=64)
    talk = Talk(options)
    response = talk.answer(
        [text("Look."), delta(reasoning_details=[ENCRYPTED]), *one_call(**SIGNED)]
    )
    assert [b["type"] for b in response["content"]] == ["text", "redacted_thinking", "tool_use"]
    assert response["content"][2]["id"] == "call_1"
    back = talk.then(response).sent()
    assert back["tool_calls"] == [returned(**SIGNED)]
    assert back["reasoning_details"] == [ENCRYPTED]


def test_it_is_in_the_signature_where_thinking_is_shown() -> None:
    talk = Talk(profile(tool_use_id_limit=64), more={"thinking": ADAPTIVE})
    chunks = [delta(reasoning="Hm."), *one_call("functions.very.long.name:1" * 4, **SIGNED)]
    response = talk.answer(chunks)
    assert [b["type"] for b in response["content"]] == ["thinking", "tool_use"]
    assert len(response["content"][1]["id"]) <= 64
    back = talk.then(response).sent()
    assert back["tool_calls"] == [returned("functions.very.long.name:1" * 4, **SIGNED)]


def test_extras_during_a_call_follow_it_in_a_block() -> None:
    first_half, second_half, end = one_call()
    chunks = [
        first_half,
        delta(reasoning_opaque="late"),
        calls({"index": 0, **SIGNED}),
        second_half,
        calls(call("f", PARIS, index=1, id="call_2")),
        end,
    ]
    talk = Talk()
    response = talk.answer(chunks)
    kinds = [block["type"] for block in response["content"]]
    assert kinds == ["tool_use", "tool_use", "redacted_thinking"]
    back = talk.then(response).sent()
    assert back["tool_calls"] == [returned(**SIGNED), returned("call_2")]
    assert back["reasoning_opaque"] == "late"


def test_extras_repeated_in_each_fragment_are_not_late() -> None:
    chunks = one_call(**SIGNED)
    chunks[1]["choices"][0]["delta"]["tool_calls"][0] |= SIGNED
    opaque = {"reasoning_opaque": "b"}
    for chunk in chunks:
        chunk["choices"][0]["delta"] |= opaque
    talk = Talk()
    response = talk.answer(chunks)
    assert [block["type"] for block in response["content"]] == ["tool_use"]
    back = talk.then(response).sent()
    assert back["tool_calls"] == [returned(**SIGNED)]


def test_white_space_that_is_no_thinking_takes_nothing_with_it() -> None:
    talk = Talk(profile(tool_use_id_limit=64), more={"thinking": ADAPTIVE})
    response = talk.answer([delta(reasoning=" "), *one_call(**SIGNED)])
    assert [block["type"] for block in response["content"]] == ["redacted_thinking", "tool_use"]
    assert talk.then(response).sent()["tool_calls"] == [returned(**SIGNED)]


MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "reasoning_opaque": st.text("abc", max_size=9),
        "reasoning_details": st.lists(st.just(ENCRYPTED), max_size=2),
    },
)
EXTRA = st.fixed_dictionaries(
    {}, optional={"extra_content": st.dictionaries(st.sampled_from("ab"), st.text(max_size=9))}
)


@given(MEMBERS, st.lists(EXTRA, min_size=1, max_size=3), st.integers(1, 40), st.booleans())
@settings(derandomize=True, deadline=None, max_examples=40)
def test_a_stream_in_any_parts_gives_the_ids_of_a_whole_response(
    members: dict[str, Any], extras: list[dict[str, Any]], size: int, short: bool
) -> None:
    limit = 64 if short else 4096
    talk = Talk(profile(tool_use_id_limit=limit))
    result = [{**call("f", PARIS, id=f"functions.f:{n}"), **item} for n, item in enumerate(extras)]
    whole = talk.answer([completion("tool_calls", **members, tool_calls=result)])
    chunks = [delta(**{name: value}) for name, value in members.items()]
    for n, item in enumerate(result):
        fragment = {**item, "index": n, "function": {"name": "f", "arguments": ""}}
        chunks += [calls(fragment)]
        chunks += [calls(call(arguments=more, index=n)) for more in pieces(PARIS, size)]
    streamed = talk.answer([*chunks, finish("tool_calls")])

    assert streamed["content"] == whole["content"]
    assert talk.answer(chunks)["content"] == whole["content"]
    ids = [block["id"] for block in whole["content"] if block["type"] == "tool_use"]
    assert len(set(ids)) == len(ids)
    assert all(ID.fullmatch(item) and len(item) <= limit for item in ids)
    back = talk.then(whole).sent()
    assert [item["id"] for item in back["tool_calls"]] == [item["id"] for item in result]
    for sent, item in zip(back["tool_calls"], extras, strict=True):
        assert sent.get("extra_content", {}) == item.get("extra_content", {})
    assert {name: back[name] for name in members if members[name]} == {
        name: value for name, value in members.items() if value
    }
