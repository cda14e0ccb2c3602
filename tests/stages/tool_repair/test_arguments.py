"""Arguments of tool calls that are broken, or do not fit the tool's schema."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.tool_repair.argument_schema import ToolSchema
from stages.tool_repair.arguments import JsonRepair, repair_arguments
from tests.cases import for_each


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value is valid against a schema."""
    return ToolSchema(schema).fits(value)


def repaired(text: str) -> Any:
    """The JSON in a broken text."""
    return JsonRepair().repair(text)


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "exact": {"type": "boolean"},
        "ratio": {"type": ["number", "null"]},
        "tags": {"type": "array", "items": {"type": "integer"}},
        "place": {"$ref": "#/$defs/place"},
        "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    },
    "required": ["city"],
    "$defs": {"place": {"type": "object", "properties": {"x": {"type": "integer"}}}},
}


@for_each(
    "arguments",
    [
        '{"city": "Paris"}',
        '{ "city":"Par\\u0069s" ,\n"days" : 5.0 }',
        '{"city": "a", "city": "b"}',
        '{"city": "\\ud83d"}',
        '{"city": "x", "unknown": "5"}',
    ],
)
def test_valid_arguments_do_not_change(arguments: str) -> None:
    assert repair_arguments(arguments, SCHEMA) == (arguments, "")


@pytest.mark.parametrize("arguments", ["", " ", "null"])
def test_no_arguments_are_none(arguments: str) -> None:
    assert repair_arguments(arguments, SCHEMA) == (arguments, "")


@for_each(
    ("value", "becomes"),
    [
        ({"days": "5"}, {"days": 5}),
        ({"days": " 5 "}, {"days": 5}),
        ({"days": "5.0"}, {"days": 5.0}),
        ({"exact": "true"}, {"exact": True}),
        ({"exact": "False"}, {"exact": False}),
        ({"ratio": "1.5"}, {"ratio": 1.5}),
        ({"ratio": "2"}, {"ratio": 2}),
        ({"ratio": "null"}, {"ratio": None}),
        ({"tags": "[1, 2]"}, {"tags": [1, 2]}),
        ({"tags": ["1", "2"]}, {"tags": [1, 2]}),
        ({"tags": '["1"]'}, {"tags": [1]}),
        ({"place": '{"x": "1"}'}, {"place": {"x": 1}}),
        ({"either": "7"}, {"either": 7}),
        ({"city": 75001}, {"city": "75001"}),
        ({"city": True}, {"city": "true"}),
    ],
)
def test_simple_changes_make_it_fit(value: Any, becomes: Any) -> None:
    arguments, options = repair_arguments(json.dumps({"city": "x", **value}), SCHEMA)
    assert json.loads(arguments) == {"city": "x", **becomes}
    assert options == "coerced"


def test_json_in_a_string_is_what_it_says() -> None:
    assert repair_arguments(json.dumps('{"city": "x"}'), SCHEMA) == ('{"city":"x"}', "coerced")


@for_each(
    "arguments",
    [
        '{"days": 5}',
        '{"city": "x", "days": "five"}',
        '{"city": "x", "exact": "maybe"}',
        '{"city": "x", "either": "abc"}',
        '{"city": "x", "tags": "1, 2"}',
        '{"city": ["x"]}',
        '{"city": 1.10}',  # 1.1 once it is read
    ],
)
def test_arguments_beyond_simple_changes_do_not_change(arguments: str) -> None:
    assert repair_arguments(arguments, SCHEMA) == (arguments, "unfit")


@for_each(
    ("value", "becomes"),
    [
        ("{'city': 1}", {"city": "1"}),
        ('{"city": "Paris"', {"city": "Paris"}),
        ('{"city": "Paris",}', {"city": "Paris"}),
        ('{city: "Paris", "days": "5"}', {"city": "Paris", "days": 5}),
        (
            '{"city": "x", "exact": True, "ratio": None}',
            {"city": "x", "exact": True, "ratio": None},
        ),
        ('```json\n{"city": "Paris"}\n```', {"city": "Paris"}),
        ('{"city": "a\nb\n"}', {"city": "a\nb\n"}),
        ("{'city': 'it\\'s \\n \"{x}\"'}", {"city": 'it\'s \n "{x}"'}),
        ('{"city": "it\\\'s"}', {"city": "it's"}),
        (r'{"city": "\d+ \"[\w.]"}', {"city": r'\d+ "[\w.]'}),
        ('{"city": "```json\nx```",}', {"city": "```json\nx```"}),
        ('{"city": "</parameter> // { [", "days": 1}}', {"city": "</parameter> // { [", "days": 1}),
    ],
)
def test_broken_json_is_repaired_where_that_fits(value: str, becomes: Any) -> None:
    arguments, options = repair_arguments(value, SCHEMA)
    assert json.loads(arguments) == becomes
    assert options == "repaired"


@for_each(
    "arguments",
    [
        "ls -l",
        "[1]",
        "5",
        '"x"',
        "{",
        "{oh dear}",
        '{"```json```[',  # the library's parser fails
        '{"town": "Par',
        '{"city": "Par',
        '{"city": "Paris}',
        '{"city": "Paris", "days": 1',  # or 12
        '{"city": "Paris",',
        r"""{"city": "awk '{print $1}'}""",
        '{"city": "rm -rf "/tmp/a b""}',
        '{"city": "rm *" # "*.o"}',
        '{"city": "rm -rf ./a" /* "b" */}',
        '{"city": "a" + "b"}',
        '{"city": "a" "b"}',
        '{"city": "print("a, b")\nprint(", ")"}',
        '{"city": "{"a": "b", "c": ["d"]}"}',
        "{'city': 'it's'}",
        "{city: rm -rf /tmp/{a,b}}",
        r"{'city': 'C:\dir\new'}",  # a line end, or not
        '{"city": "x", 5: 6,}',
        '{"city": "x", "days": }',
        '{"city": "x"}{"city": "y"}',
        "{'city': 'x'}{'city': 'y'}",
        "{'city': 'x'} is what I mean",
        "{'city': 'x', 'city': 'y'}",
        '{"city": "x", "ratio": 1e999,}',
        "{'city': '\\ud83d'}",
        "{" * 100_000,
        '{"city": "' + "x" * 60_000,
    ],
)
def test_broken_arguments_beyond_repair_do_not_change(arguments: str) -> None:
    began = time.process_time()
    assert repair_arguments(arguments, SCHEMA) == (arguments, "broken")
    assert time.process_time() - began < 2


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=4))
def test_a_repair_changes_no_text(texts: list[str]) -> None:
    """Neither the texts of JSON that is broken after them, nor those in Python's quotes."""
    value = {str(at): item for at, item in enumerate(texts)}
    for text in (json.dumps(value)[:-1] + ",}", json.dumps(value, ensure_ascii=False)[:-1]):
        assert repaired(text) == value
    if all(map(str.isprintable, texts)):  # Python has escapes for the others that JSON has not
        assert repaired(repr(value)) == value


@given(st.text("\"'ab{}[],: #/*\n", max_size=20))
def test_text_with_unescaped_quotes_is_whole_or_not_repaired(text: str) -> None:
    """Half of it as the command, and the rest as something else, would be another command."""
    for written in (f'{{"city": "{text}"}}', f"{{'city': '{text}'}}"):
        arguments, options = repair_arguments(written, {"additionalProperties": False, **SCHEMA})
        if options == "repaired":
            assert json.loads(arguments) == {"city": text}


def test_a_repair_that_loses_everything_is_not_used() -> None:
    assert repair_arguments("{oh dear}", {}) == ("{oh dear}", "broken")


@for_each(
    "schema",
    [
        None,
        {"type": "objekt"},
        {"$ref": "http://127.0.0.1:9/schema"},
        {"$schema": "http://127.0.0.1:9/dialect", "type": "object"},
        {"properties": {"city": {"pattern": "(?=a)a["}}},
    ],
    ids=["none", "invalid", "elsewhere", "of an unknown dialect", "with an odd pattern"],
)
def test_a_schema_that_cannot_be_read_is_not_asked(schema: Any) -> None:
    assert repair_arguments('{"city": 1}', schema) == ('{"city": 1}', "")
    assert repair_arguments("{'city': 1}", schema) == ('{"city":1}', "repaired")


def test_a_pattern_cannot_take_long() -> None:
    began = time.process_time()
    assert not fits({"a": "a" * 5000 + "!"}, {"properties": {"a": {"pattern": "^(a+)+$"}}})
    assert time.process_time() - began < 2


def test_a_schema_that_refers_to_itself_ends() -> None:
    tree: dict[str, Any] = {
        "type": "object",
        "properties": {"next": {"$ref": "#"}, "x": {"type": "integer"}},
    }
    assert (
        repair_arguments('{"next": {"next": {"x": "1"}}}', tree)[0] == '{"next":{"next":{"x":1}}}'
    )
    loop = {"properties": {"a": {"$ref": "#/properties/a"}}}
    assert repair_arguments('{"a": "1"}', loop)[1] in ("", "unfit")


SHAPES = {
    "lists": lambda n: '{"a":[1,2' + "],[1,2" * n + "}",
    "words": lambda n: "{a: " + "b c " * n + "}",
    "quotes": lambda n: '{"a":"b""c' + '""' * n + '"}',
    "brackets": lambda n: "[" * n + "'a'" + "]" * n,
}


@pytest.mark.parametrize("broken", SHAPES.values(), ids=SHAPES)
def test_row_d2_the_library_sees_so_much_of_a_text_and_no_more(
    broken: Callable[[int], str],
) -> None:
    repairs = JsonRepair()
    repairs.repair(broken(10))
    assert repairs.budget < 20_000
    repairs = JsonRepair()
    assert repairs.repair(broken(5_000)) is None
    assert repairs.budget == 20_000


def test_row_d2_the_library_gets_a_limited_part_of_a_response() -> None:
    repairs, text = JsonRepair(), "{" + ", ".join(f"'k{n}': {n}" for n in range(200)) + "}"
    results = [repair_arguments(text, {}, repairs)[1] for _ in range(20)]
    assert set(results) == {"repaired", "broken"}
    assert results == sorted(results, reverse=True)  # the first ones are repaired
    assert 0 <= repairs.budget < 4_000


def test_row_d2_a_long_text_in_a_broken_call_is_repaired() -> None:
    text = "line\\n" * 6_000
    arguments, options = repair_arguments(f"{{'path': 'a', 'text': \"{text}\"}}", {})
    assert options == "repaired"
    assert json.loads(arguments)["text"] == "line\n" * 6_000


def test_arguments_that_are_too_long_are_not_repaired() -> None:
    assert repaired('{"a": ' + "[" * 2000) is None


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text("a5{}[]\"', \\tru", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(sorted(SCHEMA["properties"])), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(VALUES, st.integers(0, 40), st.sampled_from(["", "}", '"', ",", "x"]))
def test_whatever_comes_out_fits_or_is_what_went_in(value: Any, cut: int, more: str) -> None:
    input_value = json.dumps(value)[: -cut or None] + more
    arguments, options = repair_arguments(input_value, SCHEMA)
    if options in ("coerced", "repaired"):
        assert isinstance(json.loads(arguments), dict)
        assert fits(json.loads(arguments), SCHEMA)
    else:
        assert arguments == input_value
    assert repair_arguments(arguments, SCHEMA)[0] == arguments
