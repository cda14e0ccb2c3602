"""Numbers that no JSON parser, or no double, can hold."""

from __future__ import annotations

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from stages.chat_completions.json_numbers import FiniteNumbers
from tests.cases import for_each
from tests.stages.translation.support import call, calls, completion, content, finish, pieces

REPLACED = {
    '{"x":1e400,"y":NaN}': '{"x":null,"y":null}',
    '{"x": [-Infinity, Infinity, -1E+999, 1e-400]}': '{"x": [null, null, null, 1e-400]}',
    '{"a": "NaN, 1e400 \\" NaN", "NaN": NaN}': '{"a": "NaN, 1e400 \\" NaN", "NaN": null}',
    '{"a": "\\\\", "b": NaN}': '{"a": "\\\\", "b": null}',
}
UNCHANGED = [
    '{"a": 1, "b": -1.5e3, "c": true, "d": null, "e": []}',
    '{"a": 1e30',
    "{'a': 'x, NaN, y', \"b\": NaN}",
    '{"a": Na',
    '{"a": "NaN',
    '{"a": ' + "1" * 5000 + "e5000}",
    '{"a": 1.5e, "b": 1e+, "c": inf, "d": nan}',
    '{"a": ' + "1" * 5000 + "}",
]


def split(text: str, size: int) -> list[str]:
    """The text in fragments that do not end within an escape; see `json_codec.split_escape`."""
    letters = re.findall(r"\\.|.", text, re.DOTALL)
    return ["".join(letters[n : n + size]) for n in range(0, len(letters), size)]


def fed(fragments: list[str]) -> str:
    numbers = FiniteNumbers()
    return "".join([*map(numbers.feed, fragments), numbers.end()])


@for_each("size", [1, 2, 3, 5, 100])
@for_each(("text", "expected"), REPLACED.items(), ids=REPLACED)
def test_a_number_that_is_not_finite_is_null(text: str, expected: str, size: int) -> None:
    assert fed(split(text, size)) == expected


@for_each("size", [1, 2, 3, 5, 100])
@for_each("text", UNCHANGED, ids=lambda text: text[:20])
def test_other_text_does_not_change(text: str, size: int) -> None:
    assert fed(split(text, size)) == text


@given(st.dictionaries(st.text(), st.floats() | st.text() | st.integers()), st.integers(1, 9))
@settings(derandomize=True, deadline=None, max_examples=100)
def test_any_object_of_python_becomes_valid_json(value: dict[str, object], size: int) -> None:
    def refused(name: str) -> None:
        raise ValueError(name)

    finite = json.loads(json.dumps(value), parse_constant=lambda name: None)
    assert json.loads(fed(split(json.dumps(value), size)), parse_constant=refused) == finite


def test_a_word_longer_than_a_number_can_be_is_not_buffered() -> None:
    numbers = FiniteNumbers()
    assert numbers.feed("{")
    sent = [numbers.feed("1") for _ in range(1000)]
    assert "".join(sent).startswith("1" * 401)


@for_each("size", [1, 4, 100])
@for_each("text", [*REPLACED][:2])
def test_such_arguments_are_the_same_streamed_and_whole(text: str, size: int) -> None:
    chunks = [calls(call("f", more, id="a", index=0)) for more in pieces(text, size)]
    whole = completion("tool_calls", tool_calls=[call("f", text, id="a")])
    expected = [("tool_use", "f", json.loads(REPLACED[text]))]
    assert content([*chunks, finish("tool_calls")]) == expected
    assert content([whole]) == expected
