"""Turns of a Messages request as Chat Completions messages."""

from __future__ import annotations

import itertools
import json
import re
import time
from typing import Any

import pytest

from stages.messages_api import validation
from stages.messages_api.errors import InvalidRequestError
from stages.profiles.profile import Profile
from stages.translation.conversation import BETWEEN, NO_RESULT
from stages.translation.envelope import Envelope, seal
from stages.translation.field_policies import FieldPolicies
from stages.wire.json_codec import encode
from tests.stages.translation.support import messages_of
from tests.support import profile, request

PNG = {"type": "base64", "media_type": "image/png", "data": "QUJD"}
IMAGE = {"type": "image", "source": PNG}
IMAGE_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def part(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def use(identity: str, name: str = "f", **value: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": identity, "name": name, "input": value}


def result(identity: str, content: Any = None, **members: Any) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": identity, **members}
    return block if content is None else {**block, "content": content}


def user(*content: Any) -> dict[str, Any]:
    """A turn of blocks; a lone string is the whole content."""
    whole: Any = list(content)
    if len(whole) == 1 and isinstance(whole[0], str):
        [whole] = whole
    return {"role": "user", "content": whole}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def system(words: str) -> dict[str, Any]:
    return {"role": "system", "content": words}


def call(identity: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: dict[str, Any], content: Any = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def tool(identity: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identity, "content": content}


def both(turns: Any, how: dict[str, Any]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    made = request(messages=list(turns), system=how.pop("prompt", None))
    changed: Profile = profile(**how)
    fields = FieldPolicies(changed.fields)
    return messages_of(made, changed, fields), tuple(map(str, fields.degradations()))


def translated(*turns: Any, **how: Any) -> list[dict[str, Any]]:
    """The messages of a conversation, for the generic profile with the changes in `how`."""
    return both(turns, how)[0]


def noted(*turns: Any, **how: Any) -> tuple[str, ...]:
    """What the client is told of a conversation."""
    return both(turns, how)[1]


# A system message in the middle stays one.
KEPT = {"system_message": "map"}


# Texts


def test_a_turn_of_text_is_a_message_with_a_string() -> None:
    assert translated(user("Hello")) == [{"role": "user", "content": "Hello"}]


def test_texts_of_the_user_are_joined_with_an_empty_line() -> None:
    assert translated(user(text("a"), text("b"))) == [{"role": "user", "content": "a\n\nb"}]


def test_texts_of_the_assistant_are_one_text() -> None:
    turns = user("Hi"), assistant(text("Hel"), text("lo")), user("Bye")
    assert translated(*turns)[1] == {"role": "assistant", "content": "Hello"}


def test_white_space_at_the_end_of_the_assistants_text_is_left_out() -> None:
    turns = user("Hi"), assistant(text(" Hello \n"))
    assert translated(*turns)[1] == {"role": "assistant", "content": " Hello"}


def test_neighbours_of_one_role_are_one_turn() -> None:
    turns = user("a"), user("b"), assistant(text("c")), assistant(text("d")), user("e")
    assert translated(*turns) == [
        {"role": "user", "content": "a\n\nb"},
        {"role": "assistant", "content": "cd"},
        {"role": "user", "content": "e"},
    ]


def test_an_empty_last_turn_of_the_assistant_is_left_out() -> None:
    assert translated(user("a"), assistant()) == [{"role": "user", "content": "a"}]


def test_an_empty_document_leaves_no_empty_text() -> None:
    empty = {"type": "document", "source": {"type": "text", "data": ""}}
    assert translated(user(empty, IMAGE)) == [{"role": "user", "content": [IMAGE_PART]}]


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
def test_pitfall_19_the_attribution_line_is_left_out_and_told(prompt: Any) -> None:
    turns = (user("a"),)
    assert translated(*turns, prompt=prompt)[0] == {"role": "system", "content": "Be brief."}
    assert noted(*turns, prompt=prompt) == ("system.attribution:dropped",)


def test_what_an_agent_has_sent_before_stays_the_same_bytes() -> None:
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
def test_pitfall_19_the_attribution_line_is_kept_or_left_out_in_silence_by_its_policy(
    policy: str, kept: bool
) -> None:
    fields = {"system.attribution": policy}
    prompt = f"{ATTRIBUTION}\nBe brief."
    expected = prompt if kept else "Be brief."
    assert translated(user("a"), prompt=prompt, fields=fields)[0]["content"] == expected
    assert noted(user("a"), prompt=prompt, fields=fields) == ()


def test_pitfall_19_an_attribution_line_alone_is_no_system_prompt() -> None:
    assert translated(user("a"), prompt=ATTRIBUTION) == [{"role": "user", "content": "a"}]


def test_pitfall_19_the_words_elsewhere_are_kept() -> None:
    prompt = f"Never send {ATTRIBUTION}"
    assert translated(user("a"), prompt=prompt)[0]["content"] == prompt


def test_pitfall_18_a_system_message_in_the_middle_is_tagged_text_of_the_user() -> None:
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


def test_a_kept_system_message_behind_calls_comes_after_their_results() -> None:
    turns = user("a"), assistant(use("1")), user(result("1", "x")), system("Be brief.")
    assert translated(*turns, fields=KEPT)[2:] == [tool("1", "x"), system("Be brief.")]


def test_a_kept_system_message_does_not_part_calls_from_their_results() -> None:
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
    made = translated(*turns, prompt="One.", hoist_system=True, fields={"system_message": policy})
    assert made[0]["content"] == "One."


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
def test_a_tool_that_comes_or_goes_is_told_to_the_model(
    block: dict[str, Any], words: str, hoist: bool
) -> None:
    turns = user("a"), {"role": "system", "content": [block]}, assistant(text("b")), user("c")
    made = translated(*turns, hoist_system=hoist)
    assert words in made[0]["content"]
    assert noted(*turns) == ()
    assert list(validation.problems(request(messages=list(turns)))) == []


@pytest.mark.parametrize(
    "block",
    [
        {"type": "brand_new"},
        {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {}}},
        {"type": "tool_addition", "tool": "f"},
    ],
    ids=["unknown", "a definition", "of another type"],
)
@pytest.mark.parametrize("policy", ["map", "emulate"])
def test_another_block_of_a_system_message_is_told_and_the_rest_stays(
    block: dict[str, Any], policy: str
) -> None:
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


@pytest.mark.parametrize("how", [{}, {"hoist_system": True}, {"fields": KEPT}], ids=str)
def test_a_system_message_for_one_turn_is_gone_with_the_next(how: dict[str, Any]) -> None:
    now = user("a"), ONCE, assistant(text("b"))
    later = *now, user("c")
    always = user("a"), {**ONCE, "clear_at": "never"}, assistant(text("b")), user("c")
    assert "Be brief." in str(translated(*now, **how))
    assert translated(*later, **how) == translated(user("a"), assistant(text("b")), user("c"))
    assert "Be brief." in str(translated(*always, **how))


# Templates that are strict about whose turn it is

OPENED = {
    "text": ((assistant(text("How can I help?")), user("b")), ["assistant", "user"]),
    "a call": ((assistant(use("1")), user(result("1", "x"))), ["assistant", "tool"]),
    "a begun answer alone": ((assistant(text("a")),), ["assistant"]),
}


@pytest.mark.parametrize(("turns", "roles"), OPENED.values(), ids=OPENED)
def test_row_c5_the_assistant_may_begin(turns: Any, roles: list[str]) -> None:
    assert list(validation.problems(request(messages=list(turns)))) == []
    assert [message["role"] for message in translated(*turns)] == roles
    opened = translated(*turns, assistant_first=False)
    assert [message["role"] for message in opened] == ["user", *roles]
    assert opened[1:] == translated(*turns)


def test_row_c5_nothing_goes_before_a_user_and_the_system_prompt_stays_first() -> None:
    for turns in ((user("a"), assistant(text("b")), user("c")), (user("a"),)):
        assert translated(*turns, assistant_first=False) == translated(*turns)
    event = request(messages=[assistant(text("a")), user("b")], system="Be brief.")
    how = profile(assistant_first=False)
    made = messages_of(event, how, FieldPolicies(how.fields))
    assert [message["role"] for message in made] == ["system", "user", "assistant", "user"]


def test_row_c5_a_begun_answer_alone_is_refused_where_none_can_be_given() -> None:
    for policy in ("drop", "reject"):
        with pytest.raises(InvalidRequestError):
            translated(assistant(text("a")), fields={"prefill": policy})


def test_the_assistant_says_a_word_between_result_and_user_where_the_template_wants_it() -> None:
    turns = user("a"), assistant(use("1")), user(result("1", "x"), text("b"))
    assert translated(*turns, user_after_tool=False)[2:] == [
        tool("1", "x"),
        {"role": "assistant", "content": BETWEEN},
        {"role": "user", "content": "b"},
    ]
    assert translated(*turns)[2:] == [tool("1", "x"), {"role": "user", "content": "b"}]


def test_it_says_nothing_where_no_result_meets_the_user() -> None:
    turns = user("a"), assistant(use("1")), user(result("1", "x")), assistant(text("b")), user("c")
    assert translated(*turns, user_after_tool=False) == translated(*turns)


def test_it_says_it_before_the_images_of_a_result_too() -> None:
    turns = user("a"), assistant(use("1")), user(result("1", [IMAGE]))
    roles = [message["role"] for message in translated(*turns, user_after_tool=False)]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


@pytest.mark.parametrize("split", [False, True])
def test_pitfall_37_call_and_result_share_an_id_of_the_wanted_length(split: bool) -> None:
    turns = [user("a")]
    for _ in range(3):
        turns += [assistant(use("call_0"), use("b")), user(result("call_0", "x"), result("b", "y"))]
    made = translated(*turns, tool_id_length=9, split_tool_results=split)
    given = [each["id"] for message in made for each in message.get("tool_calls", ())]
    answered = [message["tool_call_id"] for message in made if message["role"] == "tool"]
    assert given == answered
    assert len(set(given)) == 6
    assert all(re.fullmatch("[A-Za-z0-9]{9}", identity) for identity in given)


# Tools


def test_calls_have_their_arguments_as_compact_json() -> None:
    turns = user("a"), assistant(text("Let me. "), use("1", "read", path="é", n=[1, None]))
    assert translated(*turns)[1] == calling(
        call("1", "read", '{"path":"é","n":[1,null]}'), content="Let me."
    )


def test_the_arguments_of_a_call_are_the_same_after_a_round_trip() -> None:
    value: dict[str, Any] = {"a": {"b": [1.5, True, "\u2028", 2**70]}, "c": ""}
    [_, made, _] = translated(user("a"), assistant(use("1", **value)))
    assert json.loads(made["tool_calls"][0]["function"]["arguments"]) == value


def test_calls_without_text_have_null_content() -> None:
    assert translated(user("a"), assistant(use("1")), user(result("1", "x")))[1] == calling(
        call("1")
    )


def test_pitfall_08_results_come_first_in_the_order_of_the_calls() -> None:
    turns = (
        user("a"),
        assistant(use("1"), use("2"), use("3")),
        user(text("and"), result("3", "three"), result("1", "one"), text("so"), result("2", "two")),
    )
    assert translated(*turns)[2:] == [
        tool("1", "one"),
        tool("2", "two"),
        tool("3", "three"),
        {"role": "user", "content": "and\n\nso"},
    ]


def test_pitfall_09_what_the_user_typed_beside_a_result_is_kept() -> None:
    turns = user("a"), assistant(use("1")), user(result("1", "x"), text("stop"), IMAGE)
    assert translated(*turns)[2:] == [
        tool("1", "x"),
        {"role": "user", "content": [part("stop"), IMAGE_PART]},
    ]


@pytest.mark.parametrize(
    "rest",
    [(), (user("b"),), (assistant(text("b")),), (system("b"), user("c"))],
    ids=["the end", "text", "the assistant", "the system"],
)
@pytest.mark.parametrize("middle", ["emulate", "map"])
def test_pitfall_10_a_call_without_a_result_gets_a_neutral_one(rest: Any, middle: str) -> None:
    made = translated(user("a"), assistant(use("1")), *rest, fields={"system_message": middle})
    if rest[:1] == (assistant(text("b")),):  # neighbours are one turn
        assert made[1] == calling(call("1"), content="b")
    assert made[2] == tool("1", NO_RESULT)
    assert [each["role"] for each in made].count("tool") == 1


def test_pitfall_10_only_the_missing_result_is_neutral() -> None:
    turns = user("a"), assistant(use("1"), use("2")), user(result("2", "x"), text("b"))
    assert translated(*turns)[2:] == [
        tool("1", NO_RESULT),
        tool("2", "x"),
        {"role": "user", "content": "b"},
    ]


def test_pitfall_10_a_result_without_a_call_is_text_and_told() -> None:
    turns = user("a"), assistant(text("b")), user(result("9", "x"), text("c"))
    expected = "Result of an earlier tool call (9):\nx\n\nc"
    assert translated(*turns)[2:] == [{"role": "user", "content": expected}]
    assert noted(*turns) == ("tool_result:orphan",)


def test_pitfall_10_a_result_in_the_first_turn_is_text() -> None:
    [made] = translated(user(result("9", "x")))
    assert made == {"role": "user", "content": "Result of an earlier tool call (9):\nx"}


def test_a_result_that_comes_a_turn_late_is_text() -> None:
    turns = user("a"), assistant(use("1")), user("b"), assistant(text("c")), user(result("1", "x"))
    made = translated(*turns)
    assert made[2] == tool("1", NO_RESULT)
    assert made[-1]["content"] == "Result of an earlier tool call (1):\nx"


@pytest.mark.parametrize("second", ["second", "first"], ids=["another", "the same"])
def test_the_first_of_two_results_of_a_call_counts_and_the_second_is_text(second: str) -> None:
    turns = user("a"), assistant(use("1")), user(result("1", "first"), result("1", second))
    assert translated(*turns)[2:] == [
        tool("1", "first"),
        {"role": "user", "content": f"Result of an earlier tool call (1):\n{second}"},
    ]
    assert noted(*turns) == ("tool_result:orphan",)


def test_an_image_of_a_result_without_a_call_is_kept() -> None:
    turns = user("a"), assistant(text("b")), user(result("9", [text("x"), IMAGE]))
    assert translated(*turns)[2]["content"] == [
        part("Result of an earlier tool call (9):\nx\n[image 1 attached below]"),
        IMAGE_PART,
    ]


def test_pitfall_28_images_from_tools_come_after_the_last_result() -> None:
    turns = (
        user("a"),
        assistant(use("1"), use("2"), use("3")),
        user(
            result("2", [IMAGE, text("mid"), IMAGE]),
            result("1", [text("shot"), IMAGE]),
            result("3", "none"),
            text("typed"),
        ),
    )
    assert translated(*turns)[2:] == [
        tool("1", "shot\n[image 1 attached below]"),
        tool("2", "[image 1 attached below]\nmid\n[image 2 attached below]"),
        tool("3", "none"),
        {
            "role": "user",
            "content": [
                part("Attachments of tool result 1:"),
                IMAGE_PART,
                part("Attachments of tool result 2:"),
                IMAGE_PART,
                IMAGE_PART,
                part("typed"),
            ],
        },
    ]


def test_pitfall_28_an_image_in_a_document_from_a_tool_is_kept() -> None:
    document = {
        "type": "document",
        "title": "Report",
        "source": {"type": "content", "content": [text("page 1"), IMAGE]},
    }
    turns = user("a"), assistant(use("1")), user(result("1", [document]))
    assert translated(*turns)[2:] == [
        tool("1", "Report\npage 1\n[image 1 attached below]"),
        {"role": "user", "content": [part("Attachments of tool result 1:"), IMAGE_PART]},
    ]


@pytest.mark.parametrize("content", [None, "", [], [text("")]], ids=str)
def test_an_empty_result_is_an_empty_text(content: Any) -> None:
    turns = user("a"), assistant(use("1")), user(result("1", content))
    assert translated(*turns)[2] == tool("1", "")


@pytest.mark.parametrize("content", [None, "", [], [text("")]], ids=str)
def test_an_empty_result_is_a_placeholder_where_the_profile_has_one(content: Any) -> None:
    turns = user("a"), assistant(use("1")), user(result("1", content))
    assert translated(*turns, empty_tool_result="(no output)")[2] == tool("1", "(no output)")


@pytest.mark.parametrize(
    ("content", "expected"),
    [("no such file", "Error: no such file"), ("Error: 2", "Error: 2"), ("", "Error: ")],
)
def test_a_failed_result_says_so_once(content: str, expected: str) -> None:
    turns = user("a"), assistant(use("1")), user(result("1", content, is_error=True))
    assert translated(*turns)[2] == tool("1", expected)


def test_a_result_of_several_blocks_is_one_text() -> None:
    search = {"type": "search_result", "source": "s", "title": "t", "content": [text("body")]}
    document = {"type": "document", "source": {"type": "text", "data": "d"}, "context": "c"}
    blocks = [
        text("a"),
        search,
        document,
        {"type": "tool_reference", "tool_name": "f"},
        {"type": "browser_state", "tabs": [{"id": "1", "active": True}], "note": None},
    ]
    turns = user("a"), assistant(use("1")), user(result("1", blocks))
    state = '{"type":"browser_state","tabs":[{"id":"1","active":true}],"note":null}'
    assert translated(*turns)[2] == tool(
        "1", f"a\nt\ns\n\nbody\nc\n\nd\nTool f is now available.\n{state}"
    )


def test_two_rounds_of_tools_stay_apart() -> None:
    turns = (
        user("a"),
        assistant(use("1")),
        user(result("1", "x")),
        assistant(use("1")),
        user(result("1", "y")),
    )
    assert translated(*turns)[1:] == [
        calling(call("1")),
        tool("1", "x"),
        calling(call("1-2")),
        tool("1-2", "y"),
    ]


def test_pitfall_37_a_result_goes_to_the_call_of_its_own_turn() -> None:
    turns = (
        user("a"),
        assistant(use("call_0", "f"), use("call_1", "g")),
        user(result("call_1", "g1"), result("call_0", "f1")),
        assistant(use("call_0", "g"), use("call_1", "f")),
        user(result("call_1", [text("f2"), IMAGE])),
    )
    made = translated(*turns)
    assert made[2:4] == [tool("call_0", "f1"), tool("call_1", "g1")]
    assert made[4:] == [
        calling(call("call_0-2", "g"), call("call_1-2")),
        tool("call_0-2", NO_RESULT),
        tool("call_1-2", "f2\n[image 1 attached below]"),
        {"role": "user", "content": [part("Attachments of tool result call_1-2:"), IMAGE_PART]},
    ]
    assert noted(*turns) == ()


def test_pitfall_37_calls_of_one_turn_with_one_id_get_a_result_each() -> None:
    turns = user("a"), assistant(use("0", "f"), use("0", "g"), use("0", "h"))
    given = user(result("0", "same"), result("0", "same"))
    assert translated(*turns, given)[1:] == [
        calling(call("0", "f"), call("0-2", "g"), call("0-3", "h")),
        tool("0", "same"),
        tool("0-2", "same"),
        tool("0-3", NO_RESULT),
    ]
    assert noted(*turns, given) == ()


def test_an_id_over_the_limit_is_the_same_in_call_and_result() -> None:
    long = "x" * 41
    turns = user("a"), assistant(use(long)), user(result(long, "y"))
    [_, made, answer] = translated(*turns, tool_id_limit=40)
    assert len(answer["tool_call_id"]) <= 40
    assert answer["tool_call_id"] == made["tool_calls"][0]["id"]
    assert answer["content"] == "y"


# What cannot be said


THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}


@pytest.mark.parametrize(
    ("policy", "notes"),
    [("map", ("thinking_block:dropped",)), ("warn", ("thinking_block:dropped",)), ("drop", ())],
)
def test_a_turn_with_only_thinking_is_skipped_and_told_where_it_matters(
    policy: str, notes: tuple[str, ...]
) -> None:
    turns = user("a"), assistant(THOUGHT), user("b")
    how: dict[str, Any] = {"fields": {"thinking_block": policy}, "reasoning_history": "reasoning"}
    assert translated(*turns, **how) == [{"role": "user", "content": "a\n\nb"}]
    assert noted(*turns, **how) == notes


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([text("a")], [IMAGE], [part("a"), IMAGE_PART]),
        ([IMAGE], [text("b")], [IMAGE_PART, part("b")]),
        ([IMAGE], [IMAGE], [IMAGE_PART, IMAGE_PART]),
    ],
    ids=["text and image", "image and text", "two images"],
)
def test_an_empty_turn_between_leaves_one_message_of_the_user(
    first: list[Any], second: list[Any], expected: list[Any]
) -> None:
    turns = user(*first), assistant(THOUGHT), user(*second)
    assert translated(*turns) == [{"role": "user", "content": expected}]


def test_a_turn_with_only_thinking_behind_results_parts_no_results_from_their_calls() -> None:
    turns = (
        user("a"),
        assistant(use("1")),
        user(result("1", "x")),
        assistant(THOUGHT),
        user("b"),
    )
    assert translated(*turns)[2:] == [tool("1", "x"), {"role": "user", "content": "b"}]


def test_thinking_beside_text_is_left_out() -> None:
    thought = {"type": "thinking", "thinking": "hm"}
    turns = user("a"), assistant(thought, text("b")), user("c")
    assert translated(*turns)[1] == {"role": "assistant", "content": "b"}


def test_unknown_blocks_of_the_assistant_are_left_out_and_told_once() -> None:
    poem = {"type": "poem", "text": "a"}
    turns = user("a"), assistant(poem, text("b"), poem, {"type": "redacted_thinking", "data": "x"})
    assert translated(*turns)[1] == {"role": "assistant", "content": "b"}
    assert noted(*turns) == ("poem:dropped",)
    told = noted(*turns, fields={"redacted_thinking": "warn"})
    assert told == ("poem:dropped", "redacted_thinking:dropped")


def test_a_block_of_the_user_without_a_mapping_is_left_out_and_told() -> None:
    turns = (user({"type": "container_upload", "file_id": "f"}, text("b")),)
    assert translated(*turns) == [{"role": "user", "content": "b"}]
    assert noted(*turns) == ("container_upload:dropped",)


def test_a_turn_of_which_nothing_is_left_is_no_message() -> None:
    turns = user({"type": "container_upload", "file_id": "f"}), assistant(text("b")), user("c")
    assert [each["role"] for each in translated(*turns)] == ["assistant", "user"]


def test_turns_of_the_user_parted_by_nothing_are_one_message() -> None:
    poem = assistant({"type": "poem"})
    assert translated(user("a"), poem, user("b"), poem, user("c")) == [
        {"role": "user", "content": "a\n\nb\n\nc"}
    ]
    assert translated(user("a"), poem, user(IMAGE), poem, user("c"), assistant(text("d"))) == [
        {"role": "user", "content": [part("a"), IMAGE_PART, part("c")]},
        {"role": "assistant", "content": "d"},
    ]


def test_only_what_such_a_turn_parts_is_joined() -> None:
    note = {"type": "mid_conv_system", "content": [text("Note")]}
    turns = user(note, text("a")), assistant({"type": "poem"}), user("b")
    made = request(system="Be brief", messages=list(turns))
    how = profile(fields={"system_message": "map"})
    told = [message["content"] for message in messages_of(made, how, FieldPolicies(how.fields))]
    assert told == ["Be brief", "Note", "a\n\nb"]


@pytest.mark.untraced
def test_turns_of_the_user_parted_by_nothing_take_time_by_their_number() -> None:
    made = request(messages=[user("x" * 1_000), assistant({"type": "poem"})] * 10_000)
    how, began = profile(), time.process_time()
    [message] = messages_of(made, how, FieldPolicies(how.fields))
    assert len(message["content"]) == 1_002 * 10_000 - 2
    assert time.process_time() - began < 8  # 0.3 s; where all of it is copied each time, 20 s


@pytest.mark.untraced
def test_thoughts_of_one_turn_take_time_by_their_number() -> None:
    thought = {**THOUGHT, "thinking": "x" * 1_000, "signature": seal(Envelope("fake"))}
    made = request(messages=[user("a"), assistant(*[thought] * 30_000, text("b"))])
    how = profile(reasoning_history="reasoning", fields={"thinking_block": "map"})
    began = time.process_time()
    [_, message] = messages_of(made, how, FieldPolicies(how.fields))
    assert len(message["reasoning"]) == 30_000_000
    assert time.process_time() - began < 10


# Pictures and documents


def test_pictures_and_texts_keep_their_order() -> None:
    url = {"type": "image", "source": {"type": "url", "url": "https://x.invalid/a.png"}}
    assert translated(user(IMAGE, text("and"), url)) == [
        {
            "role": "user",
            "content": [
                IMAGE_PART,
                part("and"),
                {"type": "image_url", "image_url": {"url": "https://x.invalid/a.png"}},
            ],
        }
    ]


def test_a_document_of_text_has_its_header() -> None:
    document = {
        "type": "document",
        "title": "T",
        "context": "C",
        "source": {"type": "text", "data": "body"},
    }
    assert translated(user(document, text("Sum up"))) == [
        {"role": "user", "content": "T\nC\n\nbody\n\nSum up"}
    ]


def test_a_document_of_blocks_is_its_header_and_its_blocks() -> None:
    document = {
        "type": "document",
        "title": "T",
        "source": {"type": "content", "content": [text("one"), IMAGE]},
    }
    assert translated(user(document)) == [
        {"role": "user", "content": [part("T"), part("one"), IMAGE_PART]}
    ]


def test_a_document_of_one_string_is_text() -> None:
    document = {"type": "document", "source": {"type": "content", "content": "body"}}
    assert translated(user(document)) == [{"role": "user", "content": "body"}]


def test_a_search_result_is_text() -> None:
    found = {
        "type": "search_result",
        "source": "https://x.invalid",
        "title": "T",
        "content": [text("one"), text("two")],
    }
    assert translated(user(found)) == [
        {"role": "user", "content": "T\nhttps://x.invalid\n\none\ntwo"}
    ]


def test_a_document_of_the_assistant_is_text() -> None:
    for source in ({"type": "text", "data": "body"}, {"type": "content", "content": "body"}):
        document = {"type": "document", "title": "T", "source": source}
        turns = user("a"), assistant(document)
        assert translated(*turns)[1] == {"role": "assistant", "content": "T\n\nbody"}


PDF = {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}


@pytest.mark.parametrize(
    ("block", "fields", "words"),
    [
        (
            {"type": "document", "source": PDF},
            {"document.pdf": "reject"},
            "send the document as text",
        ),
        (
            {"type": "document", "source": {"type": "url", "url": "https://x.invalid"}},
            {},
            "fetches no documents: send the document itself",
        ),
        (
            {"type": "document", "source": {"type": "file", "file_id": "f"}},
            {},
            "no Files API here: send the document itself",
        ),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, {}, "no Files API here"),
        (IMAGE, {"image.base64": "reject"}, "this model takes no images"),
        (
            {"type": "image", "source": {"type": "url", "url": "https://x.invalid"}},
            {"image.url": "reject"},
            "fetches no URLs: send the image as base64",
        ),
    ],
    ids=["PDF", "PDF at a URL", "PDF as a file", "image as a file", "no vision", "no URLs"],
)
@pytest.mark.parametrize("place", ["typed", "in a result"])
def test_pitfall_29_what_a_backend_cannot_take_is_refused_with_what_to_do(
    block: dict[str, Any], fields: dict[str, str], words: str, place: str
) -> None:
    last = user(block) if place == "typed" else user(result("1", [block]))
    with pytest.raises(InvalidRequestError, match=words):
        translated(user("a"), assistant(use("1")), last, fields=fields)


def test_inline_images_are_taken_where_urls_are_not() -> None:
    [made] = translated(user(IMAGE), fields={"image.url": "reject"})
    assert made["content"] == [IMAGE_PART]


@pytest.mark.parametrize(("policy", "told"), [("warn", ("image.base64:dropped",)), ("drop", ())])
def test_an_image_that_is_left_out_leaves_a_word_in_its_place(
    policy: str, told: tuple[str, ...]
) -> None:
    fields = {"image.base64": policy}
    unseen = "[an image that this model cannot see]"
    [made] = translated(user(text("a"), IMAGE), fields=fields)
    assert made["content"] == f"a\n\n{unseen}"
    assert noted(user(text("a"), IMAGE), fields=fields) == told


@pytest.mark.parametrize(
    ("policy", "told"), [("warn", ("tool_result.image:dropped",)), ("drop", ())]
)
def test_an_image_of_a_result_that_is_left_out_is_not_said_to_be_attached(
    policy: str, told: tuple[str, ...]
) -> None:
    turns = user("a"), assistant(use("1")), user(result("1", [text("x"), IMAGE]))
    fields = {"tool_result.image": policy}
    assert translated(*turns, fields=fields)[2:] == [
        tool("1", "x\n[an image that this model cannot see]")
    ]
    assert noted(*turns, fields=fields) == told


LEFT_OUT: dict[str, tuple[dict[str, Any], str]] = {
    "search_result": (
        {"type": "search_result", "source": "s", "title": "t", "content": [text("gone")]},
        "search_result",
    ),
    "a document of text": (
        {"type": "document", "source": {"type": "text", "data": "gone"}},
        "document.text",
    ),
    "a document of blocks": (
        {"type": "document", "title": "gone", "source": {"type": "content", "content": "gone"}},
        "document.content",
    ),
}


@pytest.mark.parametrize(("block", "name"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_block_whose_policy_is_to_warn_is_left_out_and_told(
    block: dict[str, Any], name: str
) -> None:
    turns = user("a"), assistant(use("1")), user(result("1", [block, text("x")]), block, text("b"))
    fields = {name: "warn"}
    assert translated(*turns, fields=fields)[2:] == [
        tool("1", "x"),
        {"role": "user", "content": "b"},
    ]
    assert noted(*turns, fields=fields) == (f"{name}:dropped",)


def test_citations_that_cannot_be_had_are_told_for_a_pdf_that_is_sent_as_it_is_too() -> None:
    document = {"type": "document", "source": PDF, "citations": {"enabled": True}}
    assert noted(user(document), fields={"document.pdf": "map"}) == ("document.citations:dropped",)
    assert noted(user({**document, "citations": None}), fields={"document.pdf": "map"}) == ()


@pytest.mark.parametrize(("policy", "told"), [("warn", ("prefill:dropped",)), ("drop", ())])
def test_a_begun_answer_is_left_out_where_the_backend_takes_none(
    policy: str, told: tuple[str, ...]
) -> None:
    turns = user("a"), assistant(text("So"))
    assert translated(*turns, fields={"prefill": policy}) == [{"role": "user", "content": "a"}]
    assert noted(*turns, fields={"prefill": policy}) == told


def test_a_call_at_the_end_is_no_begun_answer() -> None:
    turns = user("a"), assistant(use("1"))
    assert translated(*turns, fields={"prefill": "reject"})[-1] == tool("1", NO_RESULT)


def test_a_system_message_that_is_left_out_parts_no_turns() -> None:
    turns = user("a"), system("Be brief."), user("b")
    fields = {"system_message": "warn"}
    assert translated(*turns, fields=fields) == [{"role": "user", "content": "a\n\nb"}]
    assert noted(*turns, fields=fields) == ("system_message:dropped",)


# Results one by one


def test_databricks_gets_each_result_behind_its_own_call() -> None:
    turns = (
        user("a"),
        assistant(text("Let me."), use("1"), use("2", "g"), use("3")),
        user(result("3", "three"), result("1", "one"), text("go on")),
    )
    assert translated(*turns, split_tool_results=True) == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "Let me.", "tool_calls": [call("1")]},
        tool("1", "one"),
        {"role": "assistant", "tool_calls": [call("2", "g")]},
        tool("2", NO_RESULT),
        {"role": "assistant", "tool_calls": [call("3")]},
        tool("3", "three"),
        {"role": "user", "content": "go on"},
    ]


def test_calls_that_are_split_keep_the_reasoning_before_them() -> None:
    thought = {**THOUGHT, "signature": seal(Envelope("fake"))}
    turns = user("a"), assistant(thought, use("1"), use("2")), user(result("1"), result("2"))
    how: dict[str, Any] = {
        "split_tool_results": True,
        "reasoning_history": "reasoning",
        "fields": {"thinking_block": "map"},
    }
    assert translated(*turns, **how)[1:] == [
        {"role": "assistant", "tool_calls": [call("1")], "reasoning": "hm"},
        tool("1", ""),
        {"role": "assistant", "tool_calls": [call("2")]},
        tool("2", ""),
    ]


def test_a_single_call_is_not_split() -> None:
    turns = user("a"), assistant(use("1")), user(result("1", "x"))
    assert translated(*turns, split_tool_results=True) == translated(*turns)


def test_every_call_is_answered_at_once_in_any_order_of_events() -> None:
    turns = [
        user("a"),
        assistant(use("1"), use("2")),
        user(text("b"), result("2", [IMAGE])),
        assistant(use("3")),
        assistant(use("4")),
        system("c"),
        user(result("4", "x"), result("3", "y"), result("1", "late")),
        assistant(use("1"), use("1"), use("4")),
        user(result("1", "z")),
    ]
    for split in (False, True):
        waiting: list[str] = []
        for each in translated(*turns, split_tool_results=split):
            if each["role"] == "tool":
                assert each["tool_call_id"] == waiting.pop(0)
            else:
                assert waiting == []
                waiting = [made["id"] for made in each.get("tool_calls", ())]
        assert waiting == []


def test_a_model_without_vision_is_told_as_such_whatever_the_source() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "http://a.invalid/b.png"}}
    with pytest.raises(InvalidRequestError, match="takes no images"):
        translated(user(image), fields={"image.base64": "reject", "image.url": "reject"})


def test_a_conversation_of_which_nothing_is_left_is_refused() -> None:
    upload = {"type": "container_upload", "file_id": "f"}
    with pytest.raises(InvalidRequestError, match="nothing in them"):
        translated(user(upload), prompt="Be brief.")


# Compaction, and system messages inside of a turn


SUMMARY = "Summary of the conversation until here:\n\nWe met."


def compaction(**members: Any) -> dict[str, Any]:
    return {"type": "compaction", **members}


def test_a_summary_stands_for_all_that_was_before_it() -> None:
    turns = [
        user("Hi"),
        assistant(use("a")),
        user(result("a", "R")),
        assistant(text("gone"), compaction(content="We met.", signature="s"), text("So:")),
        user("Go on"),
    ]
    made, notes = both(turns, {})
    assert made == [
        {"role": "user", "content": SUMMARY},
        {"role": "assistant", "content": "So:"},
        {"role": "user", "content": "Go on"},
    ]
    assert notes == ()


def test_of_two_summaries_the_last_one_counts_and_joins_what_the_user_says() -> None:
    turns = [
        user("Hi"),
        assistant(compaction(content="Not this")),
        user("b"),
        assistant(compaction(content="We met.", tool_changes=[{"type": "tool_addition"}])),
        user("Go on"),
    ]
    made, notes = both(turns, {})
    assert made == [{"role": "user", "content": f"{SUMMARY}\n\nGo on"}]
    assert notes == ("compaction.tool_changes:dropped",)


@pytest.mark.parametrize("held", [{"encrypted_content": "x"}, {"content": None}])
def test_a_compaction_that_cannot_be_read_is_told_and_the_history_stays(
    held: dict[str, Any],
) -> None:
    made, notes = both([user("Hi"), assistant(compaction(**held), text("So:")), user("b")], {})
    assert [message["content"] for message in made] == ["Hi", "So:", "b"]
    assert notes == ("compaction:dropped",)


@pytest.mark.parametrize(("policy", "told"), [("drop", ()), ("warn", ("compaction:dropped",))])
def test_a_summary_is_left_out_where_the_policy_says_so(policy: str, told: tuple[str, ...]) -> None:
    how = {"fields": {"compaction": policy}}
    turns = [user("Hi"), assistant(compaction(content="We met."), text("So:")), user("b")]
    made, notes = both(turns, how)
    assert [message["content"] for message in made] == ["Hi", "So:", "b"]
    assert notes == told


def mid_conv(content: Any) -> dict[str, Any]:
    return {"type": "mid_conv_system", "content": content}


def test_a_system_block_inside_of_a_turn_is_a_system_message_in_its_place() -> None:
    turns = [
        user("Hi"),
        assistant(use("a")),
        user(result("a", "R"), mid_conv([text("Be brief.")]), text("b"), text("c")),
    ]
    how = {"fields": {"system_message": "map"}}
    made, notes = both(turns, how)
    assert made[2:] == [
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
def test_white_space_alone_is_left_out_unless_there_is_nothing_else(blank: str) -> None:
    assert translated(user(text(blank), text("a"))) == [{"role": "user", "content": "a"}]
    [with_image] = translated(user(text(blank), IMAGE))
    assert with_image["content"] == [IMAGE_PART]
    assert translated(user(text(blank))) == [{"role": "user", "content": blank}]
    assert translated(user("a"), prompt=[text(blank)]) == [{"role": "user", "content": "a"}]
    assert noted(user(text(blank), text("a"))) == ()
