"""YAML with places and variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.document import Document, FromEnvironment, Unquoted
from pipeline.config.parsing import parse
from pipeline.config.problems import Location
from tests.cases import for_each


def value(text: str, **environ: str) -> Any:
    document = parse(text, environ)
    assert not document.problems
    assert not document.missing
    return document.value


@for_each(
    ("scalar", "meaning"),
    [
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("!!bool yes", "yes"),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-12", -12),
        ("+12", 12),
        ("1_000", 1000),
        ("0x1F", 31),
        ("-0x1f", -31),
        ("0o17", 15),
        ("0b101", 5),
        ("010", 10),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("-.INF", float("-inf")),
        ("_", "_"),
        ("._", "._"),
        ("!!int abc", "abc"),
        ("!!float abc", "abc"),
        ("9" * 5000, "9" * 5000),
        ('"12"', "12"),
        ("'true'", "true"),
        ("!!str 12", "12"),
        ("2026-01-01", "2026-01-01"),
        ("!own thing", "thing"),
    ],
    ids=lambda each: repr(each)[:20],
)
def test_scalars_are_those_of_the_core_schema(scalar: str, meaning: Any) -> None:
    matches = value(f"a: {scalar}")["a"]

    assert (matches, type(matches)) == (meaning, type(meaning))


def test_not_a_number_is_a_number() -> None:
    assert str(value("a: .NaN")["a"]) == "nan"


def test_an_old_document_means_what_this_version_means() -> None:
    assert value("%YAML 1.1\n---\na: yes\nb: 190:20:30\n") == {"a": "yes", "b": "190:20:30"}


TEXT = """\
top:
  list:
    - one
    - {name: two, deep: [x]}
  empty:
last: "text"
"""


@for_each(
    ("path", "at", "key"),
    [
        ((), (1, 1), (1, 1)),
        (("top",), (2, 3), (1, 1)),
        (("top", "list"), (3, 5), (2, 3)),
        (("top", "list", 0), (3, 7), (3, 7)),
        (("top", "list", 1, "name"), (4, 14), (4, 8)),
        (("top", "list", 1, "deep", 0), (4, 26), (4, 26)),
        (("top", "empty"), (5, 3), (5, 3)),
        (("last",), (6, 7), (6, 1)),
        (("top", "list", 1, "absent"), (4, 7), (4, 7)),
        (("top", "list", 0, "absent", "deeper"), (3, 7), (3, 7)),
        (("absent",), (1, 1), (1, 1)),
    ],
    ids=lambda value: ".".join(map(str, value)) if value else "all",
)
def test_every_value_and_every_name_has_a_place(path: Any, at: Any, key: Any) -> None:
    document = parse(TEXT, {})

    assert (document.location_of(path), document.location_of_key(path)) == (
        Location(*at),
        Location(*key),
    )


def test_without_any_place_it_is_the_first() -> None:
    assert parse("", {}).location_of(("a",)) == Location(1, 1)


def test_a_byte_order_mark_moves_nothing() -> None:
    document = parse("\ufeffa: b", {})

    assert (document.value, document.location_of_key(("a",))) == ({"a": "b"}, Location(1, 1))


@for_each(
    ("scalar", "expanded"),
    [
        ("${NAME}", "value"),
        ('"${NAME}"', "value"),
        ("'${NAME}'", "value"),
        ("a-${NAME}-b", "a-value-b"),
        ("${NAME}${NAME}", "valuevalue"),
        ("${ABSENT:-other}", "other"),
        ("${ABSENT:-}", ""),
        ("${EMPTY:-other}", "other"),
        ("${NAME:-other}", "value"),
        ("${ABSENT:-http://host:1/}", "http://host:1/"),
        ("${ABSENT:-a$b}", "a$b"),
        ('"${ABSENT:-two words}"', "two words"),
        ("$${NAME}", "${NAME}"),
        ("$$${NAME}", "$${NAME}"),
        ("$${ABSENT:-x} ${NAME}", "${ABSENT:-x} value"),
        ("$NAME", "$NAME"),
        ("$$", "$$"),
        ("$5", "$5"),
        ("a}b", "a}b"),
        ("|\n  first ${NAME}\n  second\n", "first value\nsecond\n"),
        (">\n  ${NAME}\n  second\n", "value second\n"),
    ],
)
def test_variables_are_filled_in(scalar: str, expanded: str) -> None:
    assert value(f"a: {scalar}", NAME="value", EMPTY="") == {"a": expanded}


@for_each(
    ("scalar", "kind"),
    [
        ("${NAME}", Unquoted),
        ("x${NAME}", Unquoted),
        ("${ABSENT:-5}", Unquoted),
        ('"${NAME}"', FromEnvironment),
        ("|\n  ${NAME}\n", FromEnvironment),
        ("plain", str),
    ],
)
def test_a_text_keeps_where_it_came_from(scalar: str, kind: type) -> None:
    assert type(value(f"a: {scalar}", NAME="5")["a"]) is kind


@pytest.mark.parametrize("scalar", ["${X}", '"${X}"', "'${X}'", "x${X}", "[1, '${X}']"])
@settings(deadline=None)
@given(text=st.text(min_size=1))
def test_a_value_cannot_change_the_structure(scalar: str, text: str) -> None:
    document = parse(f"a: {scalar}\nb: [2]\nc: 3\n", {"X": text})

    filled = {"x${X}": f"x{text}", "[1, '${X}']": [1, text]}.get(scalar, text)
    assert document.value == {"a": filled, "b": [2], "c": 3}
    assert document.location_of_key(("c",)) == Location(3, 1)
    assert not document.problems


INJECTION = "x\nadmin: true\n- item: {a: b} # ${OTHER} $${X} *alias &anchor"


def test_a_value_is_not_read_as_yaml_nor_expanded_again() -> None:
    read = value("a: ${X}\nb: ['${X}']", X=INJECTION, OTHER="other")

    assert read == {"a": INJECTION, "b": [INJECTION]}


@pytest.mark.parametrize("environ", [{}, {"NAME": ""}], ids=["not-set", "empty"])
def test_a_missing_variable_is_reported_with_its_path_and_place(environ: Mapping[str, str]) -> None:
    document = parse("a:\n  - b: x${NAME}\n", environ)

    ((path, problem),) = document.missing
    assert path == ("a", 0, "b")
    assert problem.location == Location(2, 8)
    assert problem.message == "the environment variable NAME is not set or is empty"
    assert problem.hint.startswith("set NAME in the environment or in `.env`")
    assert document.value == {"a": [{"b": "x"}]}
    assert not document.problems


@for_each(
    "scalar",
    ["${", "${}", "${NAME", "${1NAME}", "${NA ME}", "${NAME:?x}", "${NAME:-${OTHER}}", "a ${ b"],
)
def test_a_broken_variable_is_reported(scalar: str) -> None:
    document = parse(f"a: '{scalar}'", {"NAME": "", "OTHER": "other"})

    (problem,) = document.problems
    assert (problem.code, problem.location) == ("bad-variable", Location(1, 4))
    assert not document.missing


@pytest.mark.parametrize("name", ["'${NAME}'", "? [a, b]\n", "? {a: b}\n"])
def test_a_name_is_a_plain_text(name: str) -> None:
    document = parse(f"{name}: 1\nb: 2\n", {"NAME": "a"})

    assert [problem.code for problem in document.problems] == ["bad-name"]
    assert document.value == {"b": 2}


def test_names_of_other_kinds_are_texts() -> None:
    assert value("1: a\ntrue: b\nnull: c\n") == {"1": "a", "true": "b", "null": "c"}


def test_the_second_of_two_equal_names_is_reported() -> None:
    document = parse("a: 1\nb: 2\na: 3\n", {})

    (problem,) = document.problems
    assert (problem.code, problem.location) == ("duplicate-key", Location(3, 1))
    assert document.value == {"a": 1, "b": 2}


def test_an_alias_is_for_what_its_anchor_names() -> None:
    assert value("a: &x {k: [1]}\nb: *x\nc: [*x, *x]\n") == {
        "a": {"k": [1]},
        "b": {"k": [1]},
        "c": [{"k": [1]}, {"k": [1]}],
    }


def test_an_anchor_may_be_named_again() -> None:
    assert value("a: &x 1\nb: *x\nc: &x 2\nd: *x\n") == {"a": 1, "b": 1, "c": 2, "d": 2}


@for_each(
    ("text", "line", "column", "hint"),
    [
        ("a: &x [*x]", 1, 4, "replace the alias"),
        ("a: &x {b: {c: *x}}", 1, 4, "replace the alias"),
        ("- invoke\n    timeout: 5", 2, 12, "missing its colon"),
        ("a: [${X}]", 1, 6, "put quotes around it"),
        ("a: {b: 1\nc: 2", 2, 2, "close the bracket that line 1 opens"),
        ("a: [1,\n 2\nb: 3", 3, 2, "close the bracket that line 1 opens"),
        ("a:\n\tb: 1", 2, 1, "with spaces"),
        ("a: 1\nb: 'two\n\n", 2, 4, "close the quote that begins here"),
        ("a: *x", 1, 4, "`*name` repeats"),
        ("a: 1\n---\nb: 2", 2, 1, "remove the line `---`"),
        ("a: 1\nb: x\x08", 2, 5, "remove the character"),
        ("a: @x", 1, 4, "check the indentation"),
        ("a: 1\n  b: 2", 2, 4, "missing its colon"),
        ("a: }", 1, 4, "check the indentation"),
    ],
    ids=[
        "cycle",
        "deep-cycle",
        "no-colon",
        "unquoted-variable",
        "open-brace",
        "open-bracket",
        "tab",
        "open-quote",
        "no-anchor",
        "two-documents",
        "control-character",
        "reserved-character",
        "indented-too-far",
        "stray-brace",
    ],
)
def test_broken_yaml_is_reported_at_its_place(text: str, line: int, column: int, hint: str) -> None:
    document = parse(text, {})

    (problem,) = document.problems
    assert (problem.code, problem.location) == ("yaml-syntax", Location(line, column))
    assert hint in problem.hint
    assert document.value is None


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n"])
def test_an_empty_document_has_no_value(text: str) -> None:
    assert value(text) is None


FRAGMENTS = st.sampled_from(
    [
        *": - ? [ ] { } , # & * ! | > ' \" % @ ` \\ \t . _ 0 ~ a ${A} ${ $${A} << --- null".split(
            " "
        ),
        "\n",
        "  ",
        "!!int ",
        "!!float ",
        "&x ",
        "*x",
        "a: ",
        "- ",
        "%YAML 1.1\n---\n",
    ]
)


@settings(deadline=None)
@given(text=st.lists(FRAGMENTS, max_size=30).map("".join))
def test_no_text_makes_it_fail(text: str) -> None:
    document = parse(text, {"A": "1"})

    assert isinstance(document, Document)
    for problem in document.problems:
        assert problem.location >= Location(1, 1)


@for_each(
    ("message", "output"),
    [
        ("it is s3cret", "it is ${KEY}"),
        ("'s3cret' and 's3cret-two'", "'${KEY}' and '${LONG}'"),
        ("a\\nb is no number", "${LINES} is no number"),
        ("a\nb is no number", "${LINES} is no number"),
        ("nothing of the kind", "nothing of the kind"),
        ("elsewhere", "elsewhere"),
        ("the default", "the default"),
    ],
)
def test_a_message_names_variables_not_their_values(message: str, output: str) -> None:
    text = "a: ['${KEY}', '${LONG}', '${LINES}', '${ABSENT:-default}']\nb: '${OTHER}'"
    environ = {"KEY": "s3cret", "LONG": "s3cret-two", "LINES": "a\nb", "OTHER": "elsewhere"}

    document = parse(text, environ)

    assert document.redact(message, ("a",)) == output


def test_without_variables_a_message_stays() -> None:
    assert parse("a: b", {}).redact("b", ()) == "b"


def test_a_document_does_not_show_its_environment() -> None:
    text = "a: '${KEY}b'"

    assert "s3cret'" not in repr(parse(text, {"KEY": "s3cret", "OTHER": "s3cret"}))


def test_nesting_that_is_too_deep_is_a_problem() -> None:
    (problem,) = parse("a: " + "[" * 400, {}).problems

    assert problem.code == "yaml-syntax"
    assert problem.hint


BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@for_each(
    ("text", "at"),
    [
        (BOMB, Location(4, 5)),
        ("- " + BOMB.replace("\n", "\n  ").rstrip(), Location(4, 7)),
        ("a: &a {b: 1}\nc: [" + "*a, " * 600 + "]", Location(2, 4)),
        ("- a\n" * 1_001, Location(1_000, 3)),
        ("".join(f"k{n}: v\n" for n in range(600)), Location(500, 7)),
    ],
    ids=["aliases of aliases", "within a list", "many aliases", "a long list", "many names"],
)
def test_row_a10_a_file_with_too_many_values_is_a_problem(text: str, at: Location) -> None:
    document = parse(text, {}, max_nodes=1_000)

    (problem,) = document.problems
    assert problem.code == "yaml-syntax"
    assert "more than 1000 values, counting those that aliases repeat" in problem.message
    assert problem.location == at
    assert problem.hint
    assert len(document.values) <= 1_000


def test_row_a10_the_limit_itself_is_no_problem() -> None:
    text = "- a\n" * 999

    assert parse(text, {}, max_nodes=1_000).problems == ()
    assert not parse("a: &a [1, 2]\nb: [*a, *a]", {}).problems
