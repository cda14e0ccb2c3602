"""Whether JSON in fragments can be whole."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.chat_completions.json_nesting import JsonNesting
from stages.chat_completions.tool_calls import ToolCall
from tests.stages.translation.support import pieces

VALUES = st.recursive(
    st.none() | st.text('ab"\\\\{}[]', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def nested(text: str, size: int = 1) -> bool:
    result = JsonNesting()
    for piece in pieces(text, size):
        result.feed(piece)
        result.feed("")
    return result.closed


@given(VALUES, st.integers(1, 5))
def test_a_whole_document_is_closed_however_it_is_cut(value: object, size: int) -> None:
    assert nested(json.dumps(value), size)


@given(st.dictionaries(st.text('a"\\\\{}', max_size=5), VALUES), st.integers(1, 5), st.data())
def test_a_part_of_an_object_is_open(value: object, size: int, data: st.DataObject) -> None:
    text = json.dumps(value)
    end = data.draw(st.integers(1, len(text) - 1))
    assert not nested(text[:end], size)


@pytest.mark.parametrize("text", ["{}}", "]", "null", ""])
def test_other_values_than_objects_are_closed_for_the_parser(text: str) -> None:
    assert nested(text)


def test_a_long_call_is_not_read_again_at_each_fragment() -> None:
    def seconds(number: int) -> float:
        call, start = ToolCall(name="f"), time.process_time()
        for fragment in ['{"a": "', *["word "] * number]:
            call.add("", fragment)
            assert not call.complete
        return time.process_time() - start

    seconds(1_000)
    assert seconds(16_000) < 40 * max(seconds(1_000), 0.001)


def test_arguments_that_begin_again_are_whole_at_their_end() -> None:
    call = ToolCall(name="f")
    call.add("", "{}")
    assert call.complete
    call.add("", '{"a": ')
    assert not call.complete
    call.add("", "1}")
    assert call.complete
