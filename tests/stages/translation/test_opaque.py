"""Opaque members go back to the backend that attached them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from attrs import evolve

from stages.tool_repair.repair import ResponseRepair
from stages.translation.envelope import owner_of, unseal
from tests.cases import for_each
from tests.stages.translation.opaque_support import (
    ADAPTIVE,
    ENCRYPTED,
    ID,
    OMITTED,
    PARIS,
    PLAIN,
    QUESTION,
    SIGNED,
    WISHES,
    Talk,
    one_call,
    returned,
)
from tests.stages.translation.support import (
    call,
    calls,
    delta,
    finish,
    pieces,
    text,
)
from tests.support import degradations, profile

ITEM: dict[str, Any] = {
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Hm.", "signature": "c2ln" * 40}],
}


# B12: members of calls


@WISHES
@for_each(
    "members",
    [
        SIGNED,
        {"extra_content": {"google": {"thought_signature": "é😀"}, "n": [1, None]}},
        {"extra_content": "text"},
    ],
)
def test_row_b12_what_a_call_came_with_goes_back_with_it(
    members: dict[str, Any], requested: dict[str, Any]
) -> None:
    talk = Talk(more=requested)
    response = talk.answer(one_call(**members))

    assert ID.fullmatch(response["content"][-1]["id"])
    assert talk.then(response).sent()["tool_calls"] == [returned(**members)]
    assert talk.then(response).sent(2)["tool_call_id"] == "call_1"


def test_row_b12_members_that_no_profile_names_do_not_go_back() -> None:
    talk = Talk(profile(returned_call_members=("mine",)))
    response = talk.answer(one_call(mine="a", extra_content={"b": 1}))
    assert talk.then(response).sent()["tool_calls"] == [returned(mine="a")]
    forged = evolve(talk, profile=profile(returned_call_members=())).then(response)
    assert forged.sent()["tool_calls"] == [returned()]


def test_row_b12_each_call_has_its_own() -> None:
    chunks = [
        calls({**call("f", PARIS, index=0, id="a"), **SIGNED}),
        calls(call("f", PARIS, index=1, id="b")),
        calls({**call("f", PARIS, index=2, id="c"), "extra_content": {"x": 1}}),
        finish("tool_calls"),
    ]
    talk = Talk()
    back = talk.then(talk.answer(chunks)).sent()["tool_calls"]
    assert back == [returned("a", **SIGNED), returned("b"), returned("c", extra_content={"x": 1})]


PLACEHOLDER: dict[str, Any] = {"extra_content": {"google": {"thought_signature": "skip"}}}


def test_row_b12_unknown_extras_go_to_the_first_call_only() -> None:
    talk = Talk(profile(default_call_members=PLACEHOLDER))
    two = [
        calls(call("f", PARIS, index=0, id="a"), call("f", PARIS, index=1, id="b")),
        finish("tool_calls"),
    ]
    foreign = talk.then(talk.answer(two)).sent()["tool_calls"]
    assert foreign == [returned("a", **PLACEHOLDER), returned("b")]
    own = talk.answer(one_call("a", **SIGNED))
    assert talk.then(own).sent()["tool_calls"] == [returned("a", **SIGNED)]
    later = [
        calls(call("f", PARIS, index=0, id="a")),
        calls({**call("f", PARIS, index=1, id="b"), **SIGNED}),
        finish("tool_calls"),
    ]
    assert talk.then(talk.answer(later)).sent()["tool_calls"] == [
        returned("a"),
        returned("b", **SIGNED),
    ]


# B11: members of messages


@WISHES
@for_each("late", [False, True])
@for_each(
    "members",
    [
        {"reasoning_details": [ENCRYPTED]},
        {"reasoning_opaque": "b3BhcXVl" * 30},
        {"reasoning_details": [ENCRYPTED, {**ENCRYPTED, "index": 1}], "reasoning_opaque": "x"},
    ],
)
def test_row_b11_what_a_message_came_with_goes_back_with_it(
    members: dict[str, Any], late: bool, requested: dict[str, Any]
) -> None:
    talk = Talk(more=requested)
    begun, *remaining = one_call()
    chunks = (
        [begun, delta(**members), *remaining] if late else [delta(**members), begun, *remaining]
    )
    back = talk.then(talk.answer(chunks)).sent()
    assert back == {"role": "assistant", "content": None, "tool_calls": [returned()], **members}


def test_row_b11_without_calls_there_are_no_extra_blocks() -> None:
    """Nothing is refused there without them, and its content may be read as one text."""
    response = Talk().answer([delta(reasoning_details=[ENCRYPTED]), text("Hello"), finish()])
    assert [block["type"] for block in response["content"]] == ["text"]


def test_row_b11_fragmented_details_go_back_whole() -> None:
    claude = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    fragments = [{**claude, "text": "h"}, {**claude, "text": "m"}, {**claude, "signature": "s"}]
    talk = Talk(profile(reasoning_history="reasoning_details", fields={"thinking_block": "map"}))
    chunks = [delta(reasoning_details=[fragment]) for fragment in fragments]
    back = talk.then(talk.answer([*chunks, *one_call()])).sent()
    assert back["reasoning_details"] == [{**claude, "text": "hm", "signature": "s"}]


# B15: reasoning that has to be there


DEEPSEEK = {
    "reasoning_history": "reasoning_content",
    "returned_message_members": ("reasoning_content",),
    "reasoning_placeholder": " ",
    **PLAIN,
}


@WISHES
@for_each("thought", ["Let me see.", "Long. " * 3_000])
def test_row_b15_known_reasoning_goes_back_without_a_request(
    thought: str, requested: dict[str, Any]
) -> None:
    talk = Talk(profile(**DEEPSEEK), more=requested)
    chunks = [delta(reasoning_content=piece) for piece in pieces(thought, 700)]
    back = talk.then(talk.answer([*chunks, *one_call()])).sent()
    assert back["reasoning_content"] == thought


def test_row_b15_unknown_reasoning_becomes_a_placeholder() -> None:
    use = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    results = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}]}
    turns = (QUESTION, {"role": "assistant", "content": [use]}, results)
    spoken = (QUESTION, {"role": "assistant", "content": "Hello"}, QUESTION)
    assert Talk(profile(**DEEPSEEK), turns=turns).sent()["reasoning_content"] == " "
    assert "reasoning_content" not in Talk(profile(**DEEPSEEK), turns=spoken).sent()
    without = {**DEEPSEEK, "reasoning_placeholder": ""}
    assert "reasoning_content" not in Talk(profile(**without), turns=turns).sent()


# B17: Claude on Databricks


DATABRICKS = {
    "reasoning_request": "thinking",
    "thinking_needs_history": True,
    "fields": {"thinking": "map"},
}


def in_fragments(item: dict[str, Any], size: int) -> list[dict[str, Any]]:
    [part] = item["summary"]
    result = [{**part, "text": element, "signature": ""} for element in pieces(part["text"], size)]
    result.append({**part, "text": ""})
    return [delta(content=[{**item, "summary": [element]}]) for element in result]


@WISHES
@for_each("split", [False, True])
@for_each("size", [1, 100])
def test_row_b17_the_item_goes_back_unchanged(
    requested: dict[str, Any], split: bool, size: int
) -> None:
    talk = Talk(profile(**DATABRICKS, split_tool_results=split), more=requested)
    two = calls(call("f", PARIS, index=0, id="a"), call("f", PARIS, index=1, id="b"))
    chunks = [*in_fragments(ITEM, size), delta(content=[{"type": "text", "text": "Look."}])]
    reply = talk.answer([*chunks, two, finish("tool_calls")])
    again = talk.then(reply).request()

    response = [message for message in again.messages if message["role"] == "assistant"]
    assert response[0]["content"] == [ITEM, {"type": "text", "text": "Look."}]
    assert all(message["content"][0] == ITEM for message in response)
    assert len(response) == (2 if split else 1)
    asked = bool(requested) and requested["thinking"] != {"type": "disabled"}
    assert (again.options.get("thinking", {}).get("type") == "enabled") is asked


def test_row_b17_two_items_stay_two() -> None:
    other = {**ITEM, "summary": [{**ITEM["summary"][0], "text": "Or?", "signature": "b"}]}
    talk = Talk(profile(**DATABRICKS), more={"thinking": ADAPTIVE})
    chunks = [*in_fragments(ITEM, 2), *in_fragments(other, 2), *one_call()]
    assert talk.then(talk.answer(chunks)).sent()["content"] == [ITEM, other]


def test_row_b17_without_the_item_no_thinking_follows_a_call() -> None:
    talk = Talk(profile(**DATABRICKS), more={"thinking": ADAPTIVE})
    sent = talk.then(talk.answer(one_call())).request()
    assert "thinking" not in sent.options
    assert "thinking:dropped" in degradations(sent)
    spoken = talk.then(talk.answer([text("Hello"), finish()])).request()
    assert spoken.options["thinking"]["type"] == "enabled"
    assert degradations(spoken) == ()


# B14, B23, B32


@for_each("names", [["f"], ["mcp__" + "x" * 80], ["f", "g"]], ids=["one", "shortened", "two"])
@for_each("split", [False, True])
def test_row_b14_a_result_has_its_tool_s_name_where_needed(names: list[str], split: bool) -> None:
    for options in ({}, {"tool_message_name": True}):
        talk = Talk(profile(**options, split_tool_results=split))
        uses = (call(name, "{}", index=n, id=f"c{n}") for n, name in enumerate(names))
        response = talk.answer([calls(*uses), finish("tool_calls")])
        messages = talk.then(response).request().messages
        sent = [use["function"]["name"] for m in messages for use in m.get("tool_calls", ())]
        results = [m.get("name") for m in messages if m["role"] == "tool"]
        assert results == (sent if options else [None] * len(names))


@pytest.mark.parametrize("requested", [{"thinking": ADAPTIVE}, {"thinking": OMITTED}])
def test_row_b23_thinking_goes_back_in_tags(requested: dict[str, Any]) -> None:
    talk = Talk(profile(reasoning_history="tags", **PLAIN), more=requested)
    response = talk.answer([text("<think>\nHm.\n</think>\n\nA coat."), finish()])
    assert talk.then(response).sent()["content"] == "<think>\nHm.\n</think>\n\nA coat."
    called = talk.answer([delta(reasoning="Hm."), *one_call()])
    assert talk.then(called).sent()["content"] == "<think>\nHm.\n</think>"


def test_row_b32_reasoning_text_goes_back_with_its_opaque_part() -> None:
    talk = Talk(profile(reasoning_history="reasoning_text", **PLAIN), more={"thinking": ADAPTIVE})
    chunks = [delta(reasoning_text="H"), delta(reasoning_text="m."), delta(reasoning_opaque="o")]
    response = talk.answer([*chunks, *one_call()])
    assert response["content"][0]["thinking"] == "Hm."
    back = talk.then(response).sent()
    assert (back["reasoning_text"], back["reasoning_opaque"]) == ("Hm.", "o")


# With `repair-tools`


@WISHES
def test_extras_of_a_repaired_call_go_back_with_it(requested: dict[str, Any]) -> None:
    talk = Talk(more=requested)
    repair = ResponseRepair(talk.request(), {"f": {"type": "object"}})
    chunks = [delta(reasoning_details=[ENCRYPTED]), *one_call("functions.f:0", **SIGNED)]
    result = [item for chunk in chunks for item in repair.repair_chunk(chunk)] + repair.finish(True)
    back = talk.then(talk.answer(result)).sent()
    assert back["tool_calls"] == [returned("functions.f:0", **SIGNED)]
    assert back["reasoning_details"] == [ENCRYPTED]


# A conversation is stable


def test_a_conversation_only_grows_and_keeps_its_bytes() -> None:
    """So that prefix caches hit."""
    talk, sent = Talk(), []
    for n in range(4):
        chunks = [delta(reasoning_opaque=f"o{n}"), *one_call(f"functions.f:{n}", **SIGNED)]
        talk = talk.then(talk.answer(chunks))
        sent.append(json.dumps(talk.request().messages)[:-1])
        assert sent[-1] == json.dumps(talk.request().messages)[:-1]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(sent))


def test_the_owner_of_an_envelope_is_in_the_id() -> None:
    response = Talk().answer(one_call(**SIGNED))
    envelope = unseal(response["content"][0]["id"])
    assert envelope is not None
    assert envelope.owner == owner_of("fake", "some-model")
