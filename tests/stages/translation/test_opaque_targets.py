"""Opaque members of another target, or altered by a client."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from attrs import evolve

from stages.exchange import Target
from stages.translation.envelope import Envelope, owner_of, seal
from tests.cases import for_each
from tests.stages.translation.opaque_support import (
    ENCRYPTED,
    OMITTED,
    PLAIN,
    QUESTION,
    SIGNED,
    WISHES,
    Talk,
    one_call,
    returned,
)
from tests.stages.translation.support import (
    delta,
    finish,
    text,
)
from tests.support import degradations, profile

# Somebody else


OTHER_TARGETS = [Target("other", "some-model"), Target("fake", "another-model")]


@WISHES
@for_each("other", OTHER_TARGETS, ids=lambda each: each.backend)
def test_another_target_gets_nothing_of_it(other: Target, requested: dict[str, Any]) -> None:
    talk = Talk(more=requested)
    chunks = [delta(reasoning_details=[ENCRYPTED]), *one_call("functions.f:0", **SIGNED)]
    response = talk.answer(chunks)
    moved = talk.then(response, target=other)
    sent = moved.request()

    fit = sent.messages[2]["tool_call_id"]
    assert re.fullmatch(r"call_[0-9a-f]{24}", fit)
    assert sent.messages[1]["tool_calls"] == [returned(fit)]
    assert "opaque_members:dropped" in degradations(sent)
    back = evolve(moved, target=talk.target)
    assert back.sent()["tool_calls"] == [returned("functions.f:0", **SIGNED)]
    assert back.sent()["reasoning_details"] == [ENCRYPTED]


def test_another_target_gets_ids_of_its_own_form() -> None:
    talk = Talk()
    response = talk.answer(one_call("functions.f:0", **SIGNED))
    moved = talk.then(response, target=OTHER_TARGETS[0], profile=profile(tool_id_length=9))
    assert re.fullmatch(r"[a-z0-9]{9}", moved.sent(2)["tool_call_id"])


def test_an_id_alone_is_nothing_that_another_target_misses() -> None:
    talk = Talk()
    moved = talk.then(talk.answer(one_call("functions.f:0")), target=OTHER_TARGETS[0])
    assert degradations(moved.request()) == ()


@pytest.mark.parametrize(
    "alter", [lambda sealed: sealed[:64], lambda sealed: sealed + "_1", lambda sealed: sealed[:-1]]
)
def test_an_id_that_a_client_altered_is_reported_and_adapted(alter: Any) -> None:
    talk = Talk()
    response = talk.answer(one_call(**SIGNED))
    response["content"][0]["id"] = alter(response["content"][0]["id"])
    sent = talk.then(response).request()
    assert degradations(sent) == ("opaque_members:unreadable",)
    fit = sent.messages[2]["tool_call_id"]
    assert sent.messages[1]["tool_calls"] == [returned(fit)]
    assert "llmp" not in json.dumps(sent.messages)


def test_blocks_that_a_client_has_altered_are_reported() -> None:
    talk = Talk(profile(tool_use_id_limit=64))
    response = talk.answer(one_call(**SIGNED))
    response["content"][0]["data"] = response["content"][0]["data"][:-9]
    assert degradations(talk.then(response).request()) == ("opaque_members:unreadable",)


def test_a_forged_envelope_sets_no_other_members() -> None:
    owner = owner_of("fake", "some-model")
    forged = seal(Envelope(owner, message={"role": "system", "name": "x", "content": ["a", {}]}))
    turn = {"role": "assistant", "content": [{"type": "redacted_thinking", "data": forged}]}
    turn["content"] += [{"type": "text", "text": "b"}]  # type: ignore[operator]
    sent = Talk(turns=(QUESTION, turn, QUESTION)).sent()
    assert sent == {"role": "assistant", "content": "b"}


def test_a_result_without_its_call_does_not_show_the_envelope() -> None:
    talk = Talk()
    response = talk.answer(one_call(**SIGNED))
    orphan = evolve(talk, turns=(QUESTION, talk.then(response).turns[-1]))
    assert "llmp" not in json.dumps(orphan.request().messages)


@for_each("name", ["reasoning", "reasoning_content", "reasoning_text"])
@for_each("signature", ["", "EqQBCkgIAxABGAI=", seal(Envelope("other!")), "llmp2_cut"], ids=len)
def test_row_c18_thinking_of_another_target_goes_back_as_text(name: str, signature: str) -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": signature}
    turn = {"role": "assistant", "content": [thought, {"type": "text", "text": "A coat."}]}
    sent = Talk(profile(reasoning_history=name, **PLAIN), turns=(QUESTION, turn, QUESTION)).sent()
    assert sent == {"role": "assistant", "content": "A coat.", name: "Hm."}


def test_row_c18_hidden_text_of_another_backend_goes_back_too() -> None:
    talk = Talk(profile(reasoning_history="reasoning", **PLAIN), more={"thinking": OMITTED})
    response = talk.answer([delta(reasoning="Hm."), text("A coat."), finish()])
    assert response["content"][0]["thinking"] == ""
    assert talk.then(response, target=OTHER_TARGETS[0]).sent()["reasoning"] == "Hm."
