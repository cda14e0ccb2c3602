"""The system prompt and system messages."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from stages.messages_api import validation
from stages.wire.json_codec import encode
from tests.cases import for_each
from tests.stages.translation.conversation_support import (
    assistant,
    noted,
    result,
    system,
    text,
    tool,
    translated,
    use,
    user,
)
from tests.support import request

# A system message in the middle stays one.
KEPT = {"system_message": "map"}


# The system prompt


def test_the_system_prompt_comes_first_with_its_blocks_joined() -> None:
    assert translated(user("a"), prompt=[text("One."), text("Two.")]) == [
        {"role": "system", "content": "One.\n\nTwo."},
        {"role": "user", "content": "a"},
    ]


@pytest.mark.parametrize("prompt", ["", [], [text("")]], ids=["text", "no block", "empty block"])
def test_an_empty_system_prompt_is_left_out(prompt: Any) -> None:
    assert translated(user("a"), prompt=prompt) == [{"role": "user", "content": "a"}]


ATTRIBUTION = "x-anthropic-billing-header: cc_version=2.1.1; cc_entrypoint=cli; cch=abcde;"


@pytest.mark.parametrize(
    "prompt",
    [
        f"{ATTRIBUTION}\nBe brief.",
        [text(ATTRIBUTION), text("Be brief.")],
        [text(f"{ATTRIBUTION}\n"), text("Be brief.")],
        [text(f"{ATTRIBUTION}\nBe brief.")],
    ],
    ids=["a line", "a block", "a block with a line break", "the first line of a block"],
)
def test_pitfall_19_the_attribution_line_is_dropped_and_reported(prompt: Any) -> None:
    turns = (user("a"),)
    assert translated(*turns, prompt=prompt)[0] == {"role": "system", "content": "Be brief."}
    assert noted(*turns, prompt=prompt) == ("system.attribution:dropped",)


def test_earlier_turns_of_an_agent_keep_their_bytes() -> None:
    turns = [
        user(text("Hi"), {**text("there"), "cache_control": {"type": "ephemeral"}}),
        assistant(text("a"), use("1", n=1), use("2")),
        user(result("2", "b"), result("1", [text("c")]), text("<system-reminder>")),
        assistant({"type": "thinking", "thinking": "d", "signature": ""}, use("3")),
        user(result("3", "e")),
        assistant(text("f")),
        user("g"),
    ]
    sent = [
        encode(translated(*turns[:n], prompt=f"{ATTRIBUTION}{n}\nBe brief."))
        for n in range(1, len(turns) + 1, 2)
    ]
    for before, now in itertools.pairwise(sent):
        assert now.startswith(before.removesuffix(b"]"))


@pytest.mark.parametrize(("policy", "kept"), [("map", True), ("drop", False)])
def test_pitfall_19_the_policy_may_keep_or_hide_attribution(policy: str, kept: bool) -> None:
    fields = {"system.attribution": policy}
    prompt = f"{ATTRIBUTION}\nBe brief."
    expected = prompt if kept else "Be brief."
    assert translated(user("a"), prompt=prompt, fields=fields)[0]["content"] == expected
    assert noted(user("a"), prompt=prompt, fields=fields) == ()


def test_pitfall_19_an_attribution_line_is_no_system_prompt() -> None:
    assert translated(user("a"), prompt=ATTRIBUTION) == [{"role": "user", "content": "a"}]


def test_pitfall_19_the_words_elsewhere_are_kept() -> None:
    prompt = f"Never send {ATTRIBUTION}"
    assert translated(user("a"), prompt=prompt)[0]["content"] == prompt


def test_pitfall_18_a_late_system_message_becomes_user_text() -> None:
    turns = user("a"), assistant(text("b")), system("Be brief."), user("c")
    assert translated(*turns) == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {
            "role": "user",
            "content": "<system-reminder>\nBe brief.\n</system-reminder>\n\nc",
        },
    ]


def test_pitfall_18_it_comes_after_the_tool_results() -> None:
    turns = user("a"), assistant(use("1")), system("Be brief."), user(result("1", "x"))
    assert translated(*turns)[2:] == [
        tool("1", "x"),
        {"role": "user", "content": "<system-reminder>\nBe brief.\n</system-reminder>"},
    ]


def test_pitfall_18_it_can_be_kept_in_its_place() -> None:
    turns = user("a"), system("Be brief."), user("b"), assistant(text("c")), user("d")
    assert translated(*turns, fields=KEPT) == [
        {"role": "user", "content": "a"},
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    ]


def test_two_system_messages_that_are_kept_are_one() -> None:
    turns = user("a"), system("One."), system("Two.")
    assert translated(*turns, fields=KEPT)[1:] == [{"role": "system", "content": "One.\n\nTwo."}]


def test_a_kept_system_message_comes_after_results() -> None:
    turns = user("a"), assistant(use("1")), user(result("1", "x")), system("Be brief.")
    assert translated(*turns, fields=KEPT)[2:] == [tool("1", "x"), system("Be brief.")]


def test_a_kept_system_message_does_not_split_calls_from_results() -> None:
    turns = (
        *(user("a"), assistant(use("1"), use("2")), system("One."), user(result("1", "x"))),
        *(system("Two."), user(result("2", "y"), text("b")), system("Three."), user("c")),
    )
    assert translated(*turns, fields=KEPT)[2:] == [
        tool("1", "x"),
        tool("2", "y"),
        {"role": "user", "content": "b"},
        system("One.\n\nTwo.\n\nThree."),
        {"role": "user", "content": "c"},
    ]
    assert noted(*turns, fields=KEPT) == ()


def test_pitfall_18_it_can_join_the_system_prompt() -> None:
    turns = user("a"), system("Be brief."), assistant(text("b")), system("Be kind."), user("c")
    assert translated(*turns, prompt="One.", hoist_system=True) == [
        {"role": "system", "content": "One.\n\nBe brief.\n\nBe kind."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]


@pytest.mark.parametrize("policy", ["map", "warn"])
def test_only_an_emulated_system_message_joins_the_system_prompt(policy: str) -> None:
    turns = user("a"), system("Be brief.")
    result = translated(*turns, prompt="One.", hoist_system=True, fields={"system_message": policy})
    assert result[0]["content"] == "One."


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "added": (
        {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "f"}},
        "Tool f is now available.",
    ),
    "removed": (
        {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "f"}},
        "Tool f is no longer available.",
    ),
}


@pytest.mark.parametrize(("block", "words"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("hoist", [False, True])
def test_a_tool_that_comes_or_goes_is_reported_to_the_model(
    block: dict[str, Any], words: str, hoist: bool
) -> None:
    turns = user("a"), {"role": "system", "content": [block]}, assistant(text("b")), user("c")
    result = translated(*turns, hoist_system=hoist)
    assert words in result[0]["content"]
    assert noted(*turns) == ()
    assert list(validation.problems(request(messages=list(turns)))) == []


@for_each(
    "block",
    [
        {"type": "brand_new"},
        {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {}}},
        {"type": "tool_addition", "tool": "f"},
    ],
    ids=["unknown", "a definition", "of another type"],
)
@for_each("policy", ["map", "emulate"])
def test_other_blocks_of_a_system_message_are_reported(block: dict[str, Any], policy: str) -> None:
    fields = {"system_message": policy}
    kind = f"{block['type']}:dropped"
    both = user("a"), {"role": "system", "content": [block, text("Be brief.")]}
    alone = user("a"), {"role": "system", "content": [block]}, user("b")
    assert "Be brief." in str(translated(*both, fields=fields))
    assert noted(*both, fields=fields) == (kind,)
    assert translated(*alone, fields=fields) == translated(user("a"), user("b"))
    assert noted(*alone, fields=fields) == (kind,)
    assert list(validation.problems(request(messages=list(alone)))) == []


ONCE = {"role": "system", "content": "Be brief.", "clear_at": "next_user_message"}


@pytest.mark.parametrize("options", [{}, {"hoist_system": True}, {"fields": KEPT}], ids=str)
def test_a_system_message_for_one_turn_is_gone_with_the_next(options: dict[str, Any]) -> None:
    now = user("a"), ONCE, assistant(text("b"))
    later = *now, user("c")
    always = user("a"), {**ONCE, "clear_at": "never"}, assistant(text("b")), user("c")
    assert "Be brief." in str(translated(*now, **options))
    assert translated(*later, **options) == translated(user("a"), assistant(text("b")), user("c"))
    assert "Be brief." in str(translated(*always, **options))
