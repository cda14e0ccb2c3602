"""Tool calls and their results."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from stages.translation.conversation import NO_RESULT
from tests.cases import for_each
from tests.stages.translation.conversation_support import (
    IMAGE,
    IMAGE_PART,
    assistant,
    call,
    noted,
    part,
    result,
    system,
    text,
    tool,
    translated,
    use,
    user,
)


def calling(*calls: dict[str, Any], content: Any = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


@pytest.mark.parametrize("split", [False, True])
def test_pitfall_37_call_and_result_share_an_id_that_fits(split: bool) -> None:
    turns = [user("a")]
    for _ in range(3):
        turns += [assistant(use("call_0"), use("b")), user(result("call_0", "x"), result("b", "y"))]
    actual = translated(*turns, tool_id_length=9, split_tool_results=split)
    value = [item["id"] for message in actual for item in message.get("tool_calls", ())]
    answered = [message["tool_call_id"] for message in actual if message["role"] == "tool"]
    assert value == answered
    assert len(set(value)) == 6
    assert all(re.fullmatch("[A-Za-z0-9]{9}", identity) for identity in value)


# Tools


def test_calls_have_their_arguments_as_compact_json() -> None:
    turns = user("a"), assistant(text("Let me. "), use("1", "read", path="é", n=[1, None]))
    assert translated(*turns)[1] == calling(
        call("1", "read", '{"path":"é","n":[1,null]}'), content="Let me."
    )


def test_the_arguments_of_a_call_are_the_same_after_a_round_trip() -> None:
    value: dict[str, Any] = {"a": {"b": [1.5, True, "\u2028", 2**70]}, "c": ""}
    [_, result, _] = translated(user("a"), assistant(use("1", **value)))
    assert json.loads(result["tool_calls"][0]["function"]["arguments"]) == value


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


def test_pitfall_09_what_the_user_typed_next_to_a_result_is_kept() -> None:
    turns = user("a"), assistant(use("1")), user(result("1", "x"), text("stop"), IMAGE)
    assert translated(*turns)[2:] == [
        tool("1", "x"),
        {"role": "user", "content": [part("stop"), IMAGE_PART]},
    ]


@for_each(
    "remaining",
    [(), (user("b"),), (assistant(text("b")),), (system("b"), user("c"))],
    ids=["the end", "text", "the assistant", "the system"],
)
@for_each("middle", ["emulate", "map"])
def test_pitfall_10_a_call_without_a_result_gets_a_neutral_one(remaining: Any, middle: str) -> None:
    result = translated(
        user("a"), assistant(use("1")), *remaining, fields={"system_message": middle}
    )
    if remaining[:1] == (assistant(text("b")),):  # neighbours are one turn
        assert result[1] == calling(call("1"), content="b")
    assert result[2] == tool("1", NO_RESULT)
    assert [item["role"] for item in result].count("tool") == 1


def test_pitfall_10_only_the_missing_result_is_neutral() -> None:
    turns = user("a"), assistant(use("1"), use("2")), user(result("2", "x"), text("b"))
    assert translated(*turns)[2:] == [
        tool("1", NO_RESULT),
        tool("2", "x"),
        {"role": "user", "content": "b"},
    ]


def test_pitfall_10_a_result_without_a_call_is_text_and_reported() -> None:
    turns = user("a"), assistant(text("b")), user(result("9", "x"), text("c"))
    expected = "Result of an earlier tool call (9):\nx\n\nc"
    assert translated(*turns)[2:] == [{"role": "user", "content": expected}]
    assert noted(*turns) == ("tool_result:orphan",)


def test_pitfall_10_a_result_in_the_first_turn_is_text() -> None:
    [actual] = translated(user(result("9", "x")))
    assert actual == {"role": "user", "content": "Result of an earlier tool call (9):\nx"}


def test_a_result_that_comes_a_turn_late_is_text() -> None:
    turns = user("a"), assistant(use("1")), user("b"), assistant(text("c")), user(result("1", "x"))
    actual = translated(*turns)
    assert actual[2] == tool("1", NO_RESULT)
    assert actual[-1]["content"] == "Result of an earlier tool call (1):\nx"


@pytest.mark.parametrize("second", ["second", "first"], ids=["another", "the same"])
def test_the_second_result_of_a_call_becomes_text(second: str) -> None:
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
def test_an_empty_result_is_the_placeholder_of_the_profile(content: Any) -> None:
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
    actual = translated(*turns)
    assert actual[2:4] == [tool("call_0", "f1"), tool("call_1", "g1")]
    assert actual[4:] == [
        calling(call("call_0-2", "g"), call("call_1-2")),
        tool("call_0-2", NO_RESULT),
        tool("call_1-2", "f2\n[image 1 attached below]"),
        {"role": "user", "content": [part("Attachments of tool result call_1-2:"), IMAGE_PART]},
    ]
    assert noted(*turns) == ()


def test_pitfall_37_calls_with_one_id_get_a_result_each() -> None:
    turns = user("a"), assistant(use("0", "f"), use("0", "g"), use("0", "h"))
    value = user(result("0", "same"), result("0", "same"))
    assert translated(*turns, value)[1:] == [
        calling(call("0", "f"), call("0-2", "g"), call("0-3", "h")),
        tool("0", "same"),
        tool("0-2", "same"),
        tool("0-3", NO_RESULT),
    ]
    assert noted(*turns, value) == ()


def test_an_id_over_the_limit_is_the_same_in_call_and_result() -> None:
    long = "x" * 41
    turns = user("a"), assistant(use(long)), user(result(long, "y"))
    [_, actual, response] = translated(*turns, tool_id_limit=40)
    assert len(response["tool_call_id"]) <= 40
    assert response["tool_call_id"] == actual["tool_calls"][0]["id"]
    assert response["content"] == "y"


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
        for item in translated(*turns, split_tool_results=split):
            if item["role"] == "tool":
                assert item["tool_call_id"] == waiting.pop(0)
            else:
                assert waiting == []
                waiting = [actual["id"] for actual in item.get("tool_calls", ())]
        assert waiting == []
