"""The part of a response that is buffered because it cannot be sent yet has a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from stages.chat_completions.tool_calls import ToolCall
from stages.messages_api.errors import InternalError
from stages.tool_repair.repair import ResponseRepair
from stages.translation.response import ResponseTranslator
from tests.cases import for_each
from tests.stages.translation.support import THINKING, call, calls, delta, text
from tests.support import chat_request

OPEN = calls(call("read", '{"a": "', index=0, id="call_0"))
OMITTED = {**THINKING, "display": "omitted"}


def more(index: int, arguments: Any = "x" * 10) -> dict[str, Any]:
    """A fragment of a call, of ten characters."""
    return calls(call(arguments=arguments, index=index))


AFTER: dict[str, tuple[Iterable[Any], dict[str, Any]]] = {
    "a second call": ((OPEN, calls(call("read", "{", index=1, id="b"))), more(1)),
    "text": ((OPEN,), text("x" * 10)),
    "a call without a name": ((OPEN,), more(2)),
    "arguments that are no object": ((calls(call("read", "x", index=0, id="a")),), more(0)),
    "thinking": ((OPEN,), delta(reasoning_content="x" * 10)),
    "sealed thinking": ((OPEN,), delta(reasoning_details=[{"data": "x" * 10}])),
    "calls that are objects": ((OPEN, calls(call("read", index=1))), more(1, {"a": "xx"})),
}


@for_each(("before", "one"), AFTER.values(), ids=AFTER)
def test_row_a9_after_an_open_part_so_much_is_kept_and_no_more(
    before: Iterable[Any], one: dict[str, Any]
) -> None:
    translator = ResponseTranslator(chat_request(thinking=THINKING), max_buffered=1_000)
    for chunk in before:
        translator.translate(chunk)
    list(map(translator.translate, [one] * 90))
    with pytest.raises(InternalError, match="more than 1000 characters after a content block"):
        list(map(translator.translate, [one] * 20))


def test_row_a9_hidden_thinking_is_kept_up_to_the_same_limit() -> None:
    translator = ResponseTranslator(chat_request(thinking=OMITTED), max_buffered=1_000)
    one = delta(reasoning_content="x" * 10)
    list(map(translator.translate, [one] * 100))
    with pytest.raises(InternalError, match="more than 1000 characters"):
        translator.translate(one)


def endless(chunks: Callable[[int], Any], count: int = 1_000) -> int:
    """The characters of `count` chunks that were sent, with a limit of a hundredth of them."""
    translator = ResponseTranslator(chat_request(thinking=THINKING), max_buffered=count // 10)
    translator.translate(OPEN)
    return sum(
        len(str(event.payload())) for n in range(count) for event in translator.translate(chunks(n))
    )


def test_row_a9_what_is_sent_has_no_limit() -> None:
    assert endless(lambda n: more(0)) > 10_000
    assert endless(lambda n: text("x" * 10) if n else more(0, '"}')) > 10_000


def test_row_a9_what_was_sent_makes_way_for_more() -> None:
    translator = ResponseTranslator(chat_request(), max_buffered=1_000)
    for n in range(100):  # each call waits for the one before it to be whole
        translator.translate(calls(call("read", '{"a": "' + "x" * 400, index=2 * n, id=f"a{n}")))
        translator.translate(calls(call("read", '{"a": "' + "x" * 400 + '"}', index=2 * n + 1)))
        translator.translate(calls(call(arguments='"}', index=2 * n)))
    assert translator.end(done=True)


def test_row_a9_repair_tools_keeps_no_more_either() -> None:
    repair = ResponseRepair(chat_request(), {"read": {}}, max_buffered=1_000)
    repair.repair_chunk(OPEN)
    list(map(repair.repair_chunk, [more(0)] * 90))
    with pytest.raises(InternalError, match="tool calls of more than 1000 characters"):
        list(map(repair.repair_chunk, [more(0)] * 20))


def test_row_a2_closed_and_broken_arguments_are_read_once() -> None:
    broken = ToolCall(name="read")
    for fragment in ('{"a": ', "}", " "):
        broken.add("", fragment)
        assert not broken.complete
    assert broken._is_broken
    whole = ToolCall(name="read")
    for fragment in ("-", "1"):
        whole.add("", fragment)
    assert whole.complete
    begun = ToolCall(name="read")
    begun.add("", "{}")
    assert begun.complete
    begun.add("", '{"a"')
    assert not begun.complete
    begun.add("", ": 1}")
    assert begun.complete
