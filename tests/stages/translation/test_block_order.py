"""Text, thinking and tool calls in one response."""

from __future__ import annotations

from typing import Any

import pytest

from stages.translation.envelope import Envelope, owner_of, seal
from stages.translation.request import chat_request as translated
from tests.cases import for_each
from tests.stages.translation.response_support import PARIS, TWO
from tests.stages.translation.support import (
    THINKING,
    arguments,
    call,
    calls,
    content,
    delta,
    finish,
    message,
    text,
    usage,
)
from tests.support import chat_request, profile, resolved


def test_text_after_a_tool_call_is_a_block_of_its_own() -> None:
    chunks = [text("Let me"), calls(call("f", PARIS, id="a", index=0)), text("Done"), finish()]
    assert content(chunks) == [("text", "Let me"), *TWO[:1], ("text", "Done")]


def test_text_within_a_tool_call_waits_for_its_end() -> None:
    chunks = [
        calls(call("f", PARIS[:5], id="a", index=0)),
        text("and "),
        calls(call(arguments=PARIS[5:], index=0)),
        text("so on"),
        finish(),
    ]
    assert content(chunks) == [*TWO[:1], ("text", "and so on")]


def test_one_chunk_gives_content_thinking_and_call_in_order() -> None:
    chunk = delta(
        tool_calls=[call("f", PARIS, id="a", index=0)], content="Hello", reasoning_content="Hm"
    )
    assert content([chunk, finish()], request=chat_request(thinking=THINKING)) == [
        ("thinking", "Hm"),
        ("text", "Hello"),
        *TWO[:1],
    ]


def test_many_calls_keep_their_order() -> None:
    fragments = [call("f", arguments(n=n), id=f"c{n}", index=n) for n in range(20)]
    expected = [("tool_use", "f", {"n": n}) for n in range(20)]
    assert content([calls(*fragments), finish()]) == expected
    assert content([*(calls(fragment) for fragment in fragments), finish()]) == expected


# White space


@pytest.mark.parametrize("blank", ["", "\n\n", " ", "\t"], ids=repr)
def test_white_space_before_a_tool_call_opens_no_block(blank: str) -> None:
    assert content([text(blank), calls(call("f", PARIS, id="a", index=0)), finish()]) == TWO[:1]


def test_white_space_alone_is_an_empty_response() -> None:
    assert content([text(" "), text("\n"), finish()]) == []


def test_white_space_around_text_is_kept() -> None:
    chunks = [text("\n"), text("\n a"), text(" "), text("\n"), text("b "), finish()]
    assert content(chunks) == [("text", "\n\n a \nb ")]


def test_line_separators_in_text_are_kept() -> None:
    assert content([text("a\u2028\u2029\u0085b"), finish()]) == [("text", "a\u2028\u2029\u0085b")]


# Thinking


@pytest.mark.parametrize("member", ["reasoning_content", "reasoning"])
def test_thinking_comes_signed_and_before_the_text(member: str) -> None:
    chunks = [delta(**{member: "H"}), delta(**{member: "m"}), text("Hello"), finish()]
    result = message(chunks, request=chat_request(thinking=THINKING))
    [thought, response] = result["content"]
    signature = seal(Envelope(owner_of("fake", "some-model")))
    assert thought == {"type": "thinking", "thinking": "Hm", "signature": signature}
    assert response == {"type": "text", "text": "Hello"}


@pytest.mark.parametrize("thinking", [None, {"type": "disabled"}], ids=["not given", "disabled"])
def test_thinking_that_was_not_requested_is_not_sent(thinking: Any) -> None:
    chunks = [delta(reasoning_content="Hm", content=None), text("Hello"), finish()]
    assert content(chunks, request=chat_request(thinking=thinking)) == [("text", "Hello")]


TAGGED = [text("\n<th"), text("ink>Hm</thi"), text("nk>\n\nHello"), finish()]


def test_thinking_between_tags_is_thinking() -> None:
    asked = chat_request(thinking=THINKING)
    assert content(TAGGED, request=asked) == [("thinking", "Hm"), ("text", "Hello")]
    assert content(TAGGED) == [("text", "Hello")]


def test_tags_are_text_where_the_profile_says_so() -> None:
    plain = translated(resolved(thinking=THINKING), profile(think_tags=False))
    assert content(TAGGED, request=plain) == [("text", "\n<think>Hm</think>\n\nHello")]


@for_each("buffered", ["<", "\n<think", "  <t"])
@for_each(
    ("follows", "expected"),
    [
        (calls(call("f", "{}", index=0)), ("tool_use", "f", {})),
        (delta(reasoning="Hm"), ("thinking", "Hm")),
    ],
    ids=["a call", "thinking"],
)
def test_a_possible_tag_stays_before_what_follows(
    buffered: str, follows: Any, expected: Any
) -> None:
    result = content([text(buffered), follows, finish()], request=chat_request(thinking=THINKING))
    assert result == [("text", buffered), expected]


@pytest.mark.parametrize("follows", [delta(refusal="No."), delta(content=[{"text": "No."}])])
def test_a_possible_tag_stays_before_other_text(follows: Any) -> None:
    assert content([text("<"), follows, finish()]) == [("text", "<No.")]


def test_white_space_before_a_call_is_not_put_after_it() -> None:
    chunks = [text("\n\n"), calls(call("f", "{}", index=0)), text("x"), finish()]
    assert content(chunks) == [("tool_use", "f", {}), ("text", "x")]


def test_the_tokens_of_thinking_are_reported() -> None:
    reported = usage(prompt_tokens=3, completion_tokens_details={"reasoning_tokens": 5})
    result = message([text("Hello"), finish(), reported])
    assert result["usage"]["output_tokens_details"] == {"thinking_tokens": 5}


def test_a_shortened_name_comes_back_as_the_client_knows_it() -> None:
    name = "n" * 70
    tools = [{"name": name, "input_schema": {"type": "object"}}]
    asked = translated(resolved(tools=tools), profile(tool_name_limit=40))
    short = asked.options["tools"][0]["function"]["name"]
    assert short != name
    chunks = [calls(call(short, "{}", index=0)), finish()]
    assert content(chunks, request=asked) == [("tool_use", name, {})]


def test_repeated_thinking_is_sent_once() -> None:
    chunk = delta(reasoning="Hm", reasoning_content="Hm")
    assert content([chunk, finish()], request=chat_request(thinking=THINKING)) == [
        ("thinking", "Hm")
    ]


def test_pitfall_27_text_and_thinking_do_not_share_a_block() -> None:
    chunks = [delta(reasoning="a"), text("b"), delta(reasoning="c"), text("d"), finish()]
    assert content(chunks, request=chat_request(thinking=THINKING)) == [
        ("thinking", "a"),
        ("text", "b"),
        ("thinking", "c"),
        ("text", "d"),
    ]


def test_pitfall_27_text_and_thinking_get_blocks_of_their_own() -> None:
    chunks = [delta(reasoning="a", content="b"), delta(reasoning="c", content="d"), finish()]
    assert content(chunks, request=chat_request(thinking=THINKING)) == [
        ("thinking", "a"),
        ("text", "b"),
        ("thinking", "c"),
        ("text", "d"),
    ]


def test_white_space_between_thoughts_opens_no_block() -> None:
    chunks = [delta(reasoning="a"), text("\n\n"), calls(call("f", PARIS, id="a")), finish()]
    assert content(chunks, request=chat_request(thinking=THINKING)) == [
        ("thinking", "a"),
        *TWO[:1],
    ]
