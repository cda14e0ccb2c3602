"""Turns without content for the backend."""

from __future__ import annotations

import time
from typing import Any

import pytest

from stages.translation.envelope import Envelope, seal
from stages.translation.field_policies import FieldPolicies
from tests.stages.translation.conversation_support import (
    IMAGE,
    IMAGE_PART,
    THOUGHT,
    assistant,
    noted,
    part,
    result,
    text,
    tool,
    translated,
    use,
    user,
)
from tests.stages.translation.support import messages_of
from tests.support import profile, request


@pytest.mark.parametrize(
    ("policy", "notes"),
    [("map", ("thinking_block:dropped",)), ("warn", ("thinking_block:dropped",)), ("drop", ())],
)
def test_a_thinking_turn_is_skipped_and_reported_if_it_matters(
    policy: str, notes: tuple[str, ...]
) -> None:
    turns = user("a"), assistant(THOUGHT), user("b")
    options: dict[str, Any] = {
        "fields": {"thinking_block": policy},
        "reasoning_history": "reasoning",
    }
    assert translated(*turns, **options) == [{"role": "user", "content": "a\n\nb"}]
    assert noted(*turns, **options) == notes


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([text("a")], [IMAGE], [part("a"), IMAGE_PART]),
        ([IMAGE], [text("b")], [IMAGE_PART, part("b")]),
        ([IMAGE], [IMAGE], [IMAGE_PART, IMAGE_PART]),
    ],
    ids=["text and image", "image and text", "two images"],
)
def test_user_turns_around_an_empty_turn_are_merged(
    first: list[Any], second: list[Any], expected: list[Any]
) -> None:
    turns = user(*first), assistant(THOUGHT), user(*second)
    assert translated(*turns) == [{"role": "user", "content": expected}]


def test_a_thinking_turn_does_not_split_results_from_calls() -> None:
    turns = (
        user("a"),
        assistant(use("1")),
        user(result("1", "x")),
        assistant(THOUGHT),
        user("b"),
    )
    assert translated(*turns)[2:] == [tool("1", "x"), {"role": "user", "content": "b"}]


def test_thinking_next_to_text_is_left_out() -> None:
    thought = {"type": "thinking", "thinking": "hm"}
    turns = user("a"), assistant(thought, text("b")), user("c")
    assert translated(*turns)[1] == {"role": "assistant", "content": "b"}


def test_unknown_assistant_blocks_are_dropped_and_reported_once() -> None:
    poem = {"type": "poem", "text": "a"}
    turns = user("a"), assistant(poem, text("b"), poem, {"type": "redacted_thinking", "data": "x"})
    assert translated(*turns)[1] == {"role": "assistant", "content": "b"}
    assert noted(*turns) == ("poem:dropped",)
    reported = noted(*turns, fields={"redacted_thinking": "warn"})
    assert reported == ("poem:dropped", "redacted_thinking:dropped")


def test_an_unmapped_block_of_the_user_is_dropped_and_reported() -> None:
    turns = (user({"type": "container_upload", "file_id": "f"}, text("b")),)
    assert translated(*turns) == [{"role": "user", "content": "b"}]
    assert noted(*turns) == ("container_upload:dropped",)


def test_a_turn_of_which_nothing_is_left_is_no_message() -> None:
    turns = user({"type": "container_upload", "file_id": "f"}), assistant(text("b")), user("c")
    assert [item["role"] for item in translated(*turns)] == ["assistant", "user"]


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
    result = request(system="Be brief", messages=list(turns))
    options = profile(fields={"system_message": "map"})
    reported = [
        message["content"]
        for message in messages_of(result, options, FieldPolicies(options.fields))
    ]
    assert reported == ["Be brief", "Note", "a\n\nb"]


@pytest.mark.untraced
def test_many_user_turns_take_linear_time() -> None:
    result = request(messages=[user("x" * 1_000), assistant({"type": "poem"})] * 10_000)
    options, began = profile(), time.process_time()
    [message] = messages_of(result, options, FieldPolicies(options.fields))
    assert len(message["content"]) == 1_002 * 10_000 - 2
    assert time.process_time() - began < 8  # 0.3 s; where all of it is copied each time, 20 s


@pytest.mark.untraced
def test_thoughts_of_one_turn_take_time_by_their_number() -> None:
    thought = {**THOUGHT, "thinking": "x" * 1_000, "signature": seal(Envelope("fake"))}
    result = request(messages=[user("a"), assistant(*[thought] * 30_000, text("b"))])
    options = profile(reasoning_history="reasoning", fields={"thinking_block": "map"})
    began = time.process_time()
    [_, message] = messages_of(result, options, FieldPolicies(options.fields))
    assert len(message["reasoning"]) == 30_000_000
    assert time.process_time() - began < 10
