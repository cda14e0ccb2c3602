"""Rows of the list of pitfalls about thinking: asking for it, showing it, giving it back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.support import MODES, THINKING, Talk, call, kinds, result, said, use


@pytest.mark.parametrize("thinking", [THINKING, {"type": "enabled", "budget_tokens": 2000}])
def test_row_17_every_request_fails_since_clients_send_thinking(thinking: Any, talk: Talk) -> None:
    talk.history("Hi", thinking=thinking, max_tokens=4000)
    assert not {"thinking", "reasoning_effort", "budget_tokens"} & talk.asked.keys()
    talk.history("Hi", model="vllm", thinking=thinking, max_tokens=4000)
    assert "thinking" not in talk.asked
    assert talk.asked["reasoning_effort"] in ("low", "medium", "high")


@MODES
def test_row_23_reasoning_content_must_be_passed_back(stream: bool, talk: Talk) -> None:
    talk.answers(stream, "tool_calls", reasoning_content="Look.", tool_calls=[call("{}", id="a")])
    required: dict[str, Any] = {"model": "llamacpp", "thinking": THINKING, "max_tokens": 4000}
    made = talk.ask(stream, **required)
    sent = talk.history(
        "Hi", [block.to_dict() for block in made.content], [result("a")], **required
    )
    assert sent[1]["reasoning_content"] == "Look."


@MODES
@pytest.mark.parametrize(
    "members",
    [
        {"reasoning_content": "Hm."},
        {"reasoning": "Hm."},
        {"reasoning": "Hm.", "reasoning_content": "Hm."},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
        {"reasoning_text": "Hm."},
        {"reasoning_text": "Hm.", "reasoning_opaque": "o"},
    ],
    ids=[
        "reasoning_content",
        "reasoning",
        "both",
        "reasoning_details",
        "row B32",
        "row B32, with its opaque part",
    ],
)
def test_row_24_reasoning_never_appears(members: Any, stream: bool, talk: Talk) -> None:
    talk.answers(stream, content="Yes.", **members)
    message = talk.ask(stream, thinking=THINKING)
    assert kinds(message) == ["thinking", "text"]
    assert message.content[0].to_dict()["thinking"] == "Hm."


def test_row_25_thinking_without_a_signature(talk: Talk) -> None:
    thought = {"type": "thinking", "thinking": "Hm."}
    sent = talk.history("Hi", [thought, said("Yes.")], "Why?")
    assert sent[1] == {"role": "assistant", "content": "Yes."}


@MODES
def test_row_26_invalid_signature_when_the_session_changes_its_model(
    stream: bool, talk: Talk
) -> None:
    talk.answers(stream, content="Yes.", reasoning="Hm.")
    mine, _ = (block.to_dict() for block in talk.ask(stream, thinking=THINKING).content)
    assert str(mine["signature"]).startswith("llmp2_")
    foreign = {"type": "thinking", "thinking": "Hm.", "signature": "EqQBCkgIAxABGAI="}
    for thought in (mine, foreign):
        sent = talk.history("Hi", [thought, use("a")], [result("a")], model="openrouter")
        assert "Hm." not in str(sent)
        assert str(thought["signature"]) not in str(sent)


def test_row_27_content_block_is_not_a_thinking_block(talk: Talk) -> None:
    talk.plays({"reasoning": "Hm."}, {"content": "So."}, {"reasoning": "Or?", "content": " No."})
    message = talk.ask(stream=True, thinking=THINKING)
    assert kinds(message) == ["thinking", "text", "thinking", "text"]


@MODES
def test_row_24_reasoning_that_the_prompt_has_opened(stream: bool, talk: Talk) -> None:
    """After a template that ends with `<think>`, the text has only the other tag."""
    talk.answers(stream, content="Hm.</think>\n\nYes.")
    message = talk.ask(stream, "/weak", model="vllm", thinking=THINKING)
    assert kinds(message) == ["thinking", "text"]
    assert message.content[0].to_dict()["thinking"] == "Hm."
    assert message.content[1].to_dict()["text"] == "Yes."
