"""A summary in place of the turns before it, and system blocks within a turn."""

from __future__ import annotations

from typing import Any

import pytest

from stages.messages_api import validation
from tests.stages.translation.conversation_support import (
    IMAGE,
    IMAGE_PART,
    assistant,
    both,
    noted,
    result,
    text,
    translated,
    use,
    user,
)
from tests.support import request

# Compaction, and system messages inside of a turn


SUMMARY = "Summary of the conversation until here:\n\nWe met."


def compaction(**members: Any) -> dict[str, Any]:
    return {"type": "compaction", **members}


def test_a_summary_is_for_all_that_was_before_it() -> None:
    turns = [
        user("Hi"),
        assistant(use("a")),
        user(result("a", "R")),
        assistant(text("gone"), compaction(content="We met.", signature="s"), text("So:")),
        user("Go on"),
    ]
    actual, notes = both(turns, {})
    assert actual == [
        {"role": "user", "content": SUMMARY},
        {"role": "assistant", "content": "So:"},
        {"role": "user", "content": "Go on"},
    ]
    assert notes == ()


def test_the_last_summary_counts_and_joins_the_user_s_text() -> None:
    turns = [
        user("Hi"),
        assistant(compaction(content="Not this")),
        user("b"),
        assistant(compaction(content="We met.", tool_changes=[{"type": "tool_addition"}])),
        user("Go on"),
    ]
    result, notes = both(turns, {})
    assert result == [{"role": "user", "content": f"{SUMMARY}\n\nGo on"}]
    assert notes == ("compaction.tool_changes:dropped",)


@pytest.mark.parametrize("buffered", [{"encrypted_content": "x"}, {"content": None}])
def test_an_unreadable_compaction_is_reported_and_has_no_effect(
    buffered: dict[str, Any],
) -> None:
    result, notes = both(
        [user("Hi"), assistant(compaction(**buffered), text("So:")), user("b")], {}
    )
    assert [message["content"] for message in result] == ["Hi", "So:", "b"]
    assert notes == ("compaction:dropped",)


@pytest.mark.parametrize(("policy", "expected"), [("drop", ()), ("warn", ("compaction:dropped",))])
def test_a_summary_is_left_out_where_the_policy_says_so(
    policy: str, expected: tuple[str, ...]
) -> None:
    options = {"fields": {"compaction": policy}}
    turns = [user("Hi"), assistant(compaction(content="We met."), text("So:")), user("b")]
    result, notes = both(turns, options)
    assert [message["content"] for message in result] == ["Hi", "So:", "b"]
    assert notes == expected


def mid_conv(content: Any) -> dict[str, Any]:
    return {"type": "mid_conv_system", "content": content}


def test_a_system_block_inside_a_turn_becomes_a_system_message() -> None:
    turns = [
        user("Hi"),
        assistant(use("a")),
        user(result("a", "R"), mid_conv([text("Be brief.")]), text("b"), text("c")),
    ]
    options = {"fields": {"system_message": "map"}}
    actual, notes = both(turns, options)
    assert actual[2:] == [
        {"role": "tool", "tool_call_id": "a", "content": "R"},
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "b\n\nc"},
    ]
    assert notes == ()
    emulated, _ = both(turns, {})
    assert emulated[3]["content"].startswith("<system-reminder>\nBe brief.")


def test_a_system_block_holds_text_only() -> None:
    body = request(messages=[user(mid_conv([IMAGE]), text("a"))])
    assert list(validation.problems(body)) == [
        "messages.0.content.0.content.0: only text blocks are allowed here"
    ]


@pytest.mark.parametrize("blank", [" ", "\n\n"])
def test_white_space_is_left_out_unless_it_is_alone(blank: str) -> None:
    assert translated(user(text(blank), text("a"))) == [{"role": "user", "content": "a"}]
    [with_image] = translated(user(text(blank), IMAGE))
    assert with_image["content"] == [IMAGE_PART]
    assert translated(user(text(blank))) == [{"role": "user", "content": blank}]
    assert translated(user("a"), prompt=[text(blank)]) == [{"role": "user", "content": "a"}]
    assert noted(user(text(blank), text("a"))) == ()
