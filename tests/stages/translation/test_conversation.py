"""The turns of a conversation, and who speaks when."""

from __future__ import annotations

import pytest

from stages.messages_api.errors import InvalidRequestError
from stages.translation.conversation import NO_RESULT
from tests.stages.translation.conversation_support import (
    IMAGE,
    IMAGE_PART,
    assistant,
    noted,
    system,
    text,
    tool,
    translated,
    use,
    user,
)

# Texts


def test_a_turn_of_text_is_a_message_with_a_string() -> None:
    assert translated(user("Hello")) == [{"role": "user", "content": "Hello"}]


def test_texts_of_the_user_are_joined_with_an_empty_line() -> None:
    assert translated(user(text("a"), text("b"))) == [{"role": "user", "content": "a\n\nb"}]


def test_texts_of_the_assistant_are_one_text() -> None:
    turns = user("Hi"), assistant(text("Hel"), text("lo")), user("Bye")
    assert translated(*turns)[1] == {"role": "assistant", "content": "Hello"}


def test_trailing_white_space_of_the_assistant_is_removed() -> None:
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


def test_an_empty_document_gives_no_empty_text() -> None:
    empty = {"type": "document", "source": {"type": "text", "data": ""}}
    assert translated(user(empty, IMAGE)) == [{"role": "user", "content": [IMAGE_PART]}]


@pytest.mark.parametrize(("policy", "notes"), [("warn", ("prefill:dropped",)), ("drop", ())])
def test_an_assistant_prefill_is_dropped_if_unsupported(
    policy: str, notes: tuple[str, ...]
) -> None:
    turns = user("a"), assistant(text("So"))
    assert translated(*turns, fields={"prefill": policy}) == [{"role": "user", "content": "a"}]
    assert noted(*turns, fields={"prefill": policy}) == notes


def test_a_call_at_the_end_is_no_begun_response() -> None:
    turns = user("a"), assistant(use("1"))
    assert translated(*turns, fields={"prefill": "reject"})[-1] == tool("1", NO_RESULT)


def test_a_system_message_that_is_left_out_parts_no_turns() -> None:
    turns = user("a"), system("Be brief."), user("b")
    fields = {"system_message": "warn"}
    assert translated(*turns, fields=fields) == [{"role": "user", "content": "a\n\nb"}]
    assert noted(*turns, fields=fields) == ("system_message:dropped",)


def test_a_conversation_of_which_nothing_is_left_is_refused() -> None:
    upload = {"type": "container_upload", "file_id": "f"}
    with pytest.raises(InvalidRequestError, match="nothing in them"):
        translated(user(upload), prompt="Be brief.")
