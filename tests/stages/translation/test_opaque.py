"""What a backend attaches to its answer goes back to it, and to nobody else."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable
from typing import Any

import pytest
from attrs import evolve, field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.events import ChatRequest, Resolved
from stages.exchange import Target
from stages.messages_api.accumulate import MessageBuilder
from stages.profiles.profile import Profile
from stages.tool_repair.repair import ResponseRepair
from stages.translation.envelope import Envelope, owner_of, seal, unseal
from stages.translation.request import chat_request
from stages.translation.response import ResponseTranslator
from tests.grammar import check_grammar
from tests.sdk_types import check_sent
from tests.stages.translation.support import (
    arguments,
    call,
    calls,
    completion,
    delta,
    finish,
    pieces,
    text,
)
from tests.support import profile, resolved

ADAPTIVE = {"type": "adaptive"}
OMITTED = {"type": "adaptive", "display": "omitted"}
QUESTION = {"role": "user", "content": "What do I wear?"}
PARIS = arguments(city="Paris")
SIGNED: dict[str, Any] = {"extra_content": {"google": {"thought_signature": "c2lnbmF0dXJl" * 50}}}
ENCRYPTED = {"type": "reasoning.encrypted", "data": "ZGF0YQ" * 50, "id": "x", "index": 0}
ITEM: dict[str, Any] = {
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Hm.", "signature": "c2ln" * 40}],
}
ID = re.compile(r"[a-zA-Z0-9_-]+")


@frozen
class Talk:
    """A conversation with one backend, by its profile."""

    profile: Profile = field(factory=profile)
    target: Target = Target("fake", "some-model")
    more: dict[str, Any] = field(factory=dict)
    turns: tuple[Any, ...] = (QUESTION,)

    def request(self) -> ChatRequest:
        event = resolved(messages=list(self.turns), max_tokens=5000, **self.more)
        return chat_request(Resolved(event.http, event.request, self.target), self.profile)

    def answer(self, chunks: Iterable[Any]) -> dict[str, Any]:
        """The message that the client gets."""
        translator, builder = ResponseTranslator(self.request()), MessageBuilder()
        events = [event for chunk in chunks for event in translator.chunk(chunk)]
        events += translator.end(True)
        check_grammar(event.payload() for event in events)
        for event in events:
            builder.add(event)
        check_sent(builder.message)
        return builder.message

    def then(self, answer: dict[str, Any], **changes: Any) -> Talk:
        """The next turn: all tools have run, and the client returns all blocks."""
        uses = [block["id"] for block in answer["content"] if block["type"] == "tool_use"]
        results = [{"type": "tool_result", "tool_use_id": each, "content": "18"} for each in uses]
        said = {"role": "assistant", "content": answer["content"]}
        turns = (*self.turns, said, {"role": "user", "content": results or "Sure?"})
        return evolve(self, turns=turns, **changes)

    def sent(self, message: int = 1) -> dict[str, Any]:
        """A message of the next request, or the last one of the assistant."""
        return self.request().messages[message]


def one_call(identity: str = "call_1", **members: Any) -> list[dict[str, Any]]:
    """A stream with one call, which has these members."""
    begun = {**call("f", PARIS[:5], index=0, id=identity), **members}
    return [calls(begun), calls(call(arguments=PARIS[5:], index=0)), finish("tool_calls")]


def returned(identity: str = "call_1", **members: Any) -> dict[str, Any]:
    """The call, as it goes back."""
    function = {"name": "f", "arguments": '{"city":"Paris"}'}
    return {"id": identity, "type": "function", "function": function, **members}


WISHES = pytest.mark.parametrize(
    "wish", [{}, {"thinking": ADAPTIVE}, {"thinking": OMITTED}, {"thinking": {"type": "disabled"}}]
)


# B12: members of calls


@WISHES
@pytest.mark.parametrize(
    "members",
    [
        SIGNED,
        {"extra_content": {"google": {"thought_signature": "é😀"}, "n": [1, None]}},
        {"extra_content": "text"},
    ],
)
def test_row_b12_what_a_call_came_with_goes_back_with_it(
    members: dict[str, Any], wish: dict[str, Any]
) -> None:
    talk = Talk(more=wish)
    answer = talk.answer(one_call(**members))

    assert ID.fullmatch(answer["content"][-1]["id"])
    assert talk.then(answer).sent()["tool_calls"] == [returned(**members)]
    assert talk.then(answer).sent(2)["tool_call_id"] == "call_1"


def test_row_b12_members_that_no_profile_names_do_not_go_back() -> None:
    talk = Talk(profile(returned_call_members=("mine",)))
    answer = talk.answer(one_call(mine="a", extra_content={"b": 1}))
    assert talk.then(answer).sent()["tool_calls"] == [returned(mine="a")]
    forged = evolve(talk, profile=profile(returned_call_members=())).then(answer)
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


def test_row_b12_only_the_first_call_of_a_message_gets_what_is_not_known() -> None:
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
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    "members",
    [
        {"reasoning_details": [ENCRYPTED]},
        {"reasoning_opaque": "b3BhcXVl" * 30},
        {"reasoning_details": [ENCRYPTED, {**ENCRYPTED, "index": 1}], "reasoning_opaque": "x"},
    ],
)
def test_row_b11_what_a_message_came_with_goes_back_with_it(
    members: dict[str, Any], late: bool, wish: dict[str, Any]
) -> None:
    talk = Talk(more=wish)
    begun, *rest = one_call()
    chunks = [begun, delta(**members), *rest] if late else [delta(**members), begun, *rest]
    back = talk.then(talk.answer(chunks)).sent()
    assert back == {"role": "assistant", "content": None, "tool_calls": [returned()], **members}


def test_row_b11_an_answer_without_calls_has_no_more_blocks_than_asked_for() -> None:
    """Nothing is refused there without them, and its content may be read as one text."""
    answer = Talk().answer([delta(reasoning_details=[ENCRYPTED]), text("Hello"), finish()])
    assert [block["type"] for block in answer["content"]] == ["text"]


def test_row_b11_details_in_fragments_go_back_whole_without_thinking() -> None:
    claude = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    fragments = [{**claude, "text": "h"}, {**claude, "text": "m"}, {**claude, "signature": "s"}]
    talk = Talk(profile(reasoning_history="reasoning_details", fields={"thinking_block": "map"}))
    chunks = [delta(reasoning_details=[each]) for each in fragments]
    back = talk.then(talk.answer([*chunks, *one_call()])).sent()
    assert back["reasoning_details"] == [{**claude, "text": "hm", "signature": "s"}]


# B13: the ids of calls


@pytest.mark.parametrize(
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
def test_row_b13_an_id_that_clients_cannot_have_comes_back_as_it_was(identity: str) -> None:
    talk = Talk()
    answer = talk.answer(one_call(identity))
    assert ID.fullmatch(answer["content"][0]["id"])
    again = talk.then(answer)
    assert again.sent()["tool_calls"] == [returned(identity)]
    assert again.sent(2)["tool_call_id"] == identity


def test_row_b13_an_id_that_needs_no_envelope_stays_as_it_is() -> None:
    assert Talk().answer(one_call("call_A-1"))["content"][0]["id"] == "call_A-1"


@pytest.mark.parametrize("identity", ["call_0", "", "functions.f:0"])
def test_row_b13_ids_are_unique_in_a_conversation_and_stable(identity: str) -> None:
    def talked() -> tuple[Talk, list[str]]:
        talk, made = Talk(), []
        for _ in range(4):
            chunk = calls(call("f", "{}", index=0, id=identity), call("f", "{}", index=1, id="b"))
            answer = talk.answer([chunk, finish("tool_calls")])
            made += [block["id"] for block in answer["content"]]
            talk = talk.then(answer)
        return talk, made

    (talk, made), (_, again) = talked(), talked()
    assert made == again
    assert len(set(made)) == len(made) == 8
    sent = [each["id"] for m in talk.request().messages for each in m.get("tool_calls", ())]
    assert len(set(sent)) == 8
    if identity:
        assert sent[0] == identity


def test_row_b13_two_calls_of_one_answer_with_the_same_id_differ() -> None:
    chunk = calls(call("f", "{}", index=0, id="a"), call("g", "{}", index=1, id="a"))
    talk = Talk()
    answer = talk.answer([chunk, finish("tool_calls")])
    one, two = (block["id"] for block in answer["content"])
    assert one != two
    first_id, second_id = (each["id"] for each in talk.then(answer).sent()["tool_calls"])
    assert first_id == "a" != second_id


# The bound, and what is longer


def test_what_is_longer_than_an_id_may_be_is_in_a_block_before_the_call() -> None:
    how = profile(tool_use_id_limit=64)
    talk = Talk(how)
    answer = talk.answer([text("Look."), delta(reasoning_details=[ENCRYPTED]), *one_call(**SIGNED)])
    assert [b["type"] for b in answer["content"]] == ["text", "redacted_thinking", "tool_use"]
    assert answer["content"][2]["id"] == "call_1"
    back = talk.then(answer).sent()
    assert back["tool_calls"] == [returned(**SIGNED)]
    assert back["reasoning_details"] == [ENCRYPTED]


def test_it_is_in_the_signature_where_thinking_is_shown_before_the_call() -> None:
    talk = Talk(profile(tool_use_id_limit=64), more={"thinking": ADAPTIVE})
    chunks = [delta(reasoning="Hm."), *one_call("functions.very.long.name:1" * 4, **SIGNED)]
    answer = talk.answer(chunks)
    assert [b["type"] for b in answer["content"]] == ["thinking", "tool_use"]
    assert len(answer["content"][1]["id"]) <= 64
    back = talk.then(answer).sent()
    assert back["tool_calls"] == [returned("functions.very.long.name:1" * 4, **SIGNED)]


def test_what_comes_when_a_call_is_open_is_in_a_block_after_it() -> None:
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
    answer = talk.answer(chunks)
    kinds = [block["type"] for block in answer["content"]]
    assert kinds == ["tool_use", "tool_use", "redacted_thinking"]
    back = talk.then(answer).sent()
    assert back["tool_calls"] == [returned(**SIGNED), returned("call_2")]
    assert back["reasoning_opaque"] == "late"


def test_what_each_fragment_says_again_is_not_late() -> None:
    chunks = one_call(**SIGNED)
    chunks[1]["choices"][0]["delta"]["tool_calls"][0] |= SIGNED
    opaque = {"reasoning_opaque": "b"}
    for chunk in chunks:
        chunk["choices"][0]["delta"] |= opaque
    talk = Talk()
    answer = talk.answer(chunks)
    assert [block["type"] for block in answer["content"]] == ["tool_use"]
    back = talk.then(answer).sent()
    assert back["tool_calls"] == [returned(**SIGNED)]


def test_white_space_that_is_no_thinking_takes_nothing_with_it() -> None:
    talk = Talk(profile(tool_use_id_limit=64), more={"thinking": ADAPTIVE})
    answer = talk.answer([delta(reasoning=" "), *one_call(**SIGNED)])
    assert [block["type"] for block in answer["content"]] == ["redacted_thinking", "tool_use"]
    assert talk.then(answer).sent()["tool_calls"] == [returned(**SIGNED)]


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
@settings(derandomize=True, deadline=None, max_examples=60)
def test_a_stream_in_any_pieces_leads_to_the_same_ids_as_a_whole_answer(
    members: dict[str, Any], extras: list[dict[str, Any]], size: int, short: bool
) -> None:
    limit = 64 if short else 4096
    talk = Talk(profile(tool_use_id_limit=limit))
    made = [{**call("f", PARIS, id=f"functions.f:{n}"), **each} for n, each in enumerate(extras)]
    whole = talk.answer([completion("tool_calls", **members, tool_calls=made)])
    chunks = [delta(**{name: value}) for name, value in members.items()]
    for n, each in enumerate(made):
        fragment = {**each, "index": n, "function": {"name": "f", "arguments": ""}}
        chunks += [calls(fragment)]
        chunks += [calls(call(arguments=more, index=n)) for more in pieces(PARIS, size)]
    streamed = talk.answer([*chunks, finish("tool_calls")])

    assert streamed["content"] == whole["content"]
    assert talk.answer(chunks)["content"] == whole["content"]
    ids = [block["id"] for block in whole["content"] if block["type"] == "tool_use"]
    assert len(set(ids)) == len(ids)
    assert all(ID.fullmatch(each) and len(each) <= limit for each in ids)
    back = talk.then(whole).sent()
    assert [each["id"] for each in back["tool_calls"]] == [each["id"] for each in made]
    for sent, each in zip(back["tool_calls"], extras, strict=True):
        assert sent.get("extra_content", {}) == each.get("extra_content", {})
    assert {name: back[name] for name in members if members[name]} == {
        name: value for name, value in members.items() if value
    }


# Somebody else


OTHERS = [Target("other", "some-model"), Target("fake", "another-model")]


@WISHES
@pytest.mark.parametrize("other", OTHERS, ids=lambda each: each.backend)
def test_another_target_gets_nothing_of_it(other: Target, wish: dict[str, Any]) -> None:
    talk = Talk(more=wish)
    chunks = [delta(reasoning_details=[ENCRYPTED]), *one_call("functions.f:0", **SIGNED)]
    answer = talk.answer(chunks)
    moved = talk.then(answer, target=other)
    sent = moved.request()

    fit = sent.messages[2]["tool_call_id"]
    assert re.fullmatch(r"call_[0-9a-f]{24}", fit)
    assert sent.messages[1]["tool_calls"] == [returned(fit)]
    assert "opaque_members:dropped" in sent.notes
    back = evolve(moved, target=talk.target)
    assert back.sent()["tool_calls"] == [returned("functions.f:0", **SIGNED)]
    assert back.sent()["reasoning_details"] == [ENCRYPTED]


def test_another_target_gets_ids_of_its_own_form() -> None:
    talk = Talk()
    answer = talk.answer(one_call("functions.f:0", **SIGNED))
    moved = talk.then(answer, target=OTHERS[0], profile=profile(tool_id_length=9))
    assert re.fullmatch(r"[a-z0-9]{9}", moved.sent(2)["tool_call_id"])


def test_an_id_alone_is_nothing_that_another_target_misses() -> None:
    talk = Talk()
    moved = talk.then(talk.answer(one_call("functions.f:0")), target=OTHERS[0])
    assert moved.request().notes == ()


@pytest.mark.parametrize(
    "alter", [lambda sealed: sealed[:64], lambda sealed: sealed + "_1", lambda sealed: sealed[:-1]]
)
def test_an_id_that_a_client_has_altered_is_reported_and_made_fit(alter: Any) -> None:
    talk = Talk()
    answer = talk.answer(one_call(**SIGNED))
    answer["content"][0]["id"] = alter(answer["content"][0]["id"])
    sent = talk.then(answer).request()
    assert sent.notes == ("opaque_members:unreadable",)
    fit = sent.messages[2]["tool_call_id"]
    assert sent.messages[1]["tool_calls"] == [returned(fit)]
    assert "llmp" not in json.dumps(sent.messages)


def test_blocks_that_a_client_has_altered_are_reported() -> None:
    talk = Talk(profile(tool_use_id_limit=64))
    answer = talk.answer(one_call(**SIGNED))
    answer["content"][0]["data"] = answer["content"][0]["data"][:-9]
    assert talk.then(answer).request().notes == ("opaque_members:unreadable",)


def test_a_forged_envelope_sets_no_other_members() -> None:
    owner = owner_of("fake", "some-model")
    forged = seal(Envelope(owner, message={"role": "system", "name": "x", "content": ["a", {}]}))
    turn = {"role": "assistant", "content": [{"type": "redacted_thinking", "data": forged}]}
    turn["content"] += [{"type": "text", "text": "b"}]  # type: ignore[operator]
    sent = Talk(turns=(QUESTION, turn, QUESTION)).sent()
    assert sent == {"role": "assistant", "content": "b"}


def test_a_result_without_its_call_does_not_show_the_envelope() -> None:
    talk = Talk()
    answer = talk.answer(one_call(**SIGNED))
    orphan = evolve(talk, turns=(QUESTION, talk.then(answer).turns[-1]))
    assert "llmp" not in json.dumps(orphan.request().messages)


# C18: text of another


PLAIN = {"fields": {"thinking_block": "map"}}


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content", "reasoning_text"])
@pytest.mark.parametrize(
    "signature", ["", "EqQBCkgIAxABGAI=", seal(Envelope("other!")), "llmp2_cut"], ids=len
)
def test_row_c18_thinking_text_of_another_goes_back_where_text_is_taken(
    name: str, signature: str
) -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": signature}
    turn = {"role": "assistant", "content": [thought, {"type": "text", "text": "A coat."}]}
    sent = Talk(profile(reasoning_history=name, **PLAIN), turns=(QUESTION, turn, QUESTION)).sent()
    assert sent == {"role": "assistant", "content": "A coat.", name: "Hm."}


def test_row_c18_hidden_text_of_another_backend_goes_back_too() -> None:
    talk = Talk(profile(reasoning_history="reasoning", **PLAIN), more={"thinking": OMITTED})
    answer = talk.answer([delta(reasoning="Hm."), text("A coat."), finish()])
    assert answer["content"][0]["thinking"] == ""
    assert talk.then(answer, target=OTHERS[0]).sent()["reasoning"] == "Hm."


# B15: reasoning that has to be there


DEEPSEEK = {
    "reasoning_history": "reasoning_content",
    "returned_message_members": ("reasoning_content",),
    "reasoning_placeholder": " ",
    **PLAIN,
}


@WISHES
@pytest.mark.parametrize("thought", ["Let me see.", "Long. " * 3_000])
def test_row_b15_known_reasoning_goes_back_though_nobody_asked(
    thought: str, wish: dict[str, Any]
) -> None:
    talk = Talk(profile(**DEEPSEEK), more=wish)
    chunks = [delta(reasoning_content=each) for each in pieces(thought, 700)]
    back = talk.then(talk.answer([*chunks, *one_call()])).sent()
    assert back["reasoning_content"] == thought


def test_row_b15_unknown_reasoning_is_a_placeholder_on_messages_with_calls() -> None:
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
    made = [{**part, "text": each, "signature": ""} for each in pieces(part["text"], size)]
    made.append({**part, "text": ""})
    return [delta(content=[{**item, "summary": [each]}]) for each in made]


@WISHES
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("size", [1, 100])
def test_row_b17_the_item_goes_back_as_it_came(
    wish: dict[str, Any], split: bool, size: int
) -> None:
    talk = Talk(profile(**DATABRICKS, split_tool_results=split), more=wish)
    two = calls(call("f", PARIS, index=0, id="a"), call("f", PARIS, index=1, id="b"))
    chunks = [*in_fragments(ITEM, size), delta(content=[{"type": "text", "text": "Look."}])]
    answer = talk.answer([*chunks, two, finish("tool_calls")])
    again = talk.then(answer).request()

    said = [message for message in again.messages if message["role"] == "assistant"]
    assert said[0]["content"] == [ITEM, {"type": "text", "text": "Look."}]
    assert all(message["content"][0] == ITEM for message in said)
    assert len(said) == (2 if split else 1)
    asked = bool(wish) and wish["thinking"] != {"type": "disabled"}
    assert (again.options.get("thinking", {}).get("type") == "enabled") is asked


def test_row_b17_two_items_stay_two() -> None:
    other = {**ITEM, "summary": [{**ITEM["summary"][0], "text": "Or?", "signature": "b"}]}
    talk = Talk(profile(**DATABRICKS), more={"thinking": ADAPTIVE})
    chunks = [*in_fragments(ITEM, 2), *in_fragments(other, 2), *one_call()]
    assert talk.then(talk.answer(chunks)).sent()["content"] == [ITEM, other]


def test_row_b17_without_the_item_there_is_no_thinking_after_a_call() -> None:
    talk = Talk(profile(**DATABRICKS), more={"thinking": ADAPTIVE})
    sent = talk.then(talk.answer(one_call())).request()
    assert "thinking" not in sent.options
    assert "thinking:dropped" in sent.notes
    spoken = talk.then(talk.answer([text("Hello"), finish()])).request()
    assert spoken.options["thinking"]["type"] == "enabled"
    assert spoken.notes == ()


# B14, B23, B32


def test_row_b14_the_name_of_the_tool_is_in_its_result_where_that_is_wanted() -> None:
    long = "mcp__" + "x" * 80
    for how, name in [({}, None), ({"tool_message_name": True}, None)]:
        talk = Talk(profile(**how))
        answer = talk.answer([calls(call(long, "{}", index=0, id="a")), finish("tool_calls")])
        made = talk.then(answer).request().messages
        name = made[1]["tool_calls"][0]["function"]["name"]
        assert made[2].get("name") == (name if how else None)


@pytest.mark.parametrize("wish", [{"thinking": ADAPTIVE}, {"thinking": OMITTED}])
def test_row_b23_thinking_goes_back_in_tags(wish: dict[str, Any]) -> None:
    talk = Talk(profile(reasoning_history="tags", **PLAIN), more=wish)
    answer = talk.answer([text("<think>\nHm.\n</think>\n\nA coat."), finish()])
    assert talk.then(answer).sent()["content"] == "<think>\nHm.\n</think>\n\nA coat."
    called = talk.answer([delta(reasoning="Hm."), *one_call()])
    assert talk.then(called).sent()["content"] == "<think>\nHm.\n</think>"


def test_row_b32_reasoning_text_is_thinking_and_goes_back_with_what_is_opaque() -> None:
    talk = Talk(profile(reasoning_history="reasoning_text", **PLAIN), more={"thinking": ADAPTIVE})
    chunks = [delta(reasoning_text="H"), delta(reasoning_text="m."), delta(reasoning_opaque="o")]
    answer = talk.answer([*chunks, *one_call()])
    assert answer["content"][0]["thinking"] == "Hm."
    back = talk.then(answer).sent()
    assert (back["reasoning_text"], back["reasoning_opaque"]) == ("Hm.", "o")


# With `repair-tools`


@WISHES
def test_what_a_repaired_call_came_with_goes_back_with_it(wish: dict[str, Any]) -> None:
    talk = Talk(more=wish)
    repair = ResponseRepair(talk.request(), {"f": {"type": "object"}})
    chunks = [delta(reasoning_details=[ENCRYPTED]), *one_call("functions.f:0", **SIGNED)]
    made = [each for chunk in chunks for each in repair.repair_chunk(chunk)] + repair.finish(True)
    back = talk.then(talk.answer(made)).sent()
    assert back["tool_calls"] == [returned("functions.f:0", **SIGNED)]
    assert back["reasoning_details"] == [ENCRYPTED]


# A conversation is stable


def test_a_conversation_has_the_same_bytes_each_time_and_only_grows() -> None:
    """So that prefix caches hit."""
    talk, sent = Talk(), []
    for n in range(4):
        chunks = [delta(reasoning_opaque=f"o{n}"), *one_call(f"functions.f:{n}", **SIGNED)]
        talk = talk.then(talk.answer(chunks))
        sent.append(json.dumps(talk.request().messages)[:-1])
        assert sent[-1] == json.dumps(talk.request().messages)[:-1]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(sent))


def test_the_owner_of_an_envelope_is_in_the_id() -> None:
    answer = Talk().answer(one_call(**SIGNED))
    envelope = unseal(answer["content"][0]["id"])
    assert envelope is not None
    assert envelope.owner == owner_of("fake", "some-model")
