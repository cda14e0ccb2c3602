"""The order of messages, for chat templates and backends with rules."""

from __future__ import annotations

from typing import Any

import pytest

from stages.messages_api import validation
from stages.messages_api.errors import InvalidRequestError
from stages.translation.conversation import BETWEEN, NO_RESULT
from stages.translation.envelope import Envelope, seal
from stages.translation.field_policies import FieldPolicies
from tests.stages.translation.conversation_support import (
    IMAGE,
    THOUGHT,
    assistant,
    call,
    result,
    text,
    tool,
    translated,
    use,
    user,
)
from tests.stages.translation.support import messages_of
from tests.support import profile, request

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


def test_row_c5_the_system_prompt_and_a_user_turn_stay_first() -> None:
    for turns in ((user("a"), assistant(text("b")), user("c")), (user("a"),)):
        assert translated(*turns, assistant_first=False) == translated(*turns)
    event = request(messages=[assistant(text("a")), user("b")], system="Be brief.")
    options = profile(assistant_first=False)
    result = messages_of(event, options, FieldPolicies(options.fields))
    assert [message["role"] for message in result] == ["system", "user", "assistant", "user"]


def test_row_c5_a_prefill_alone_is_refused_if_unsupported() -> None:
    for policy in ("drop", "reject"):
        with pytest.raises(InvalidRequestError):
            translated(assistant(text("a")), fields={"prefill": policy})


def test_an_assistant_turn_separates_result_and_user() -> None:
    turns = user("a"), assistant(use("1")), user(result("1", "x"), text("b"))
    assert translated(*turns, allows_user_after_tool=False)[2:] == [
        tool("1", "x"),
        {"role": "assistant", "content": BETWEEN},
        {"role": "user", "content": "b"},
    ]
    assert translated(*turns)[2:] == [tool("1", "x"), {"role": "user", "content": "b"}]


def test_it_says_nothing_where_no_result_meets_the_user() -> None:
    turns = user("a"), assistant(use("1")), user(result("1", "x")), assistant(text("b")), user("c")
    assert translated(*turns, allows_user_after_tool=False) == translated(*turns)


def test_it_says_it_before_the_images_of_a_result_too() -> None:
    turns = user("a"), assistant(use("1")), user(result("1", [IMAGE]))
    roles = [message["role"] for message in translated(*turns, allows_user_after_tool=False)]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


# Results one by one


def test_databricks_gets_each_result_after_its_own_call() -> None:
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
    options: dict[str, Any] = {
        "split_tool_results": True,
        "reasoning_history": "reasoning",
        "fields": {"thinking_block": "map"},
    }
    assert translated(*turns, **options)[1:] == [
        {"role": "assistant", "tool_calls": [call("1")], "reasoning": "hm"},
        tool("1", ""),
        {"role": "assistant", "tool_calls": [call("2")]},
        tool("2", ""),
    ]


def test_a_single_call_is_not_split() -> None:
    turns = user("a"), assistant(use("1")), user(result("1", "x"))
    assert translated(*turns, split_tool_results=True) == translated(*turns)
