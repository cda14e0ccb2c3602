"""Values to objects: strict, and every problem at its place."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from attrs import Factory, frozen
from cattrs.errors import BaseValidationError

from pipeline import option, section
from pipeline.config.document import FromEnvironment, Unquoted
from pipeline.config.options import OptionError, UnavailableError
from pipeline.config.parsing import parse
from pipeline.config.problems import Problem
from pipeline.config.structuring import (
    KindError,
    make_converter,
    option_names,
    to_problems,
)
from tests.cases import for_each

CONVERTER = make_converter()


class Color(enum.Enum):
    RED = "red"


def structured(value: Any, kind: Any) -> Any:
    """`value` as an option of type `kind`."""

    class Whole:
        __annotations__ = {"it": kind}

    result: Any = CONVERTER.structure({"it": value}, frozen(Whole))
    return result.it


def refused(value: Any, kind: Any) -> str:
    with pytest.raises(BaseValidationError) as caught:
        structured(value, kind)
    return str(next(to_problems(caught.value, ("x",), parse("", {}))).message)


@for_each(
    ("value", "kind", "result"),
    [
        (True, bool, True),
        (5, int, 5),
        (5, float, 5.0),
        (1.5, float, 1.5),
        ("5", str, "5"),
        ("", str, ""),
        (None, int | None, None),
        (5, int | None, 5),
        ("a", Literal["a", "b"], "a"),
        (1, Literal[1, 2], 1),
        (["a"], tuple[str, ...], ("a",)),
        (["a"], list[str], ["a"]),
        (["a", "a"], set[str], {"a"}),
        (["a"], frozenset[str], frozenset({"a"})),
        (["a"], Sequence[str], ("a",)),
        (["a", 1], tuple, ("a", 1)),
        ([1, "a"], tuple[int, str], (1, "a")),
        ([[1], []], tuple[tuple[int, ...], ...], ((1,), ())),
        ({"a": 1}, dict[str, int], {"a": 1}),
        ({"a": [1]}, Mapping[str, list[int]], {"a": [1]}),
        ("red", Color, Color.RED),
        ("a/b", Path, Path("a/b")),
        ("x", Any, "x"),
    ],
    ids=str,
)
def test_a_value_of_the_right_kind_is_taken(value: Any, kind: Any, result: Any) -> None:
    matches = structured(value, kind)

    assert (matches, type(matches)) == (result, type(result))


@for_each(
    ("value", "kind", "message"),
    [
        ("false", bool, "expected true or false, got the text 'false'"),
        (0, bool, "expected true or false, got `0`"),
        (None, bool, "expected true or false, got nothing"),
        ("5", int, "expected a whole number, got the text '5'"),
        (5.0, int, "expected a whole number, got `5.0`"),
        (True, int, "expected a whole number, got `true`"),
        ("5", float, "expected a number, got the text '5'"),
        (False, float, "expected a number, got `false`"),
        (math.inf, float, "expected a number, got `inf`"),
        (10**400, float, f"expected a number, got `1{'0' * 400}`"),
        (5, str, "expected a text, got `5`"),
        (None, str, "expected a text, got nothing"),
        (["a"], str, "expected a text, got a list"),
        ({"a": 1}, int, "expected a whole number, got a mapping"),
        ("5", int | None, "expected a whole number, got the text '5'"),
        ("c", Literal["a", "b"], "expected one of `a`, `b`, got the text 'c'"),
        (True, Literal[1, 2], "expected one of `1`, `2`, got `true`"),
        ("ab", tuple[str, ...], "expected a list, got the text 'ab'"),
        ("ab", list[str], "expected a list, got the text 'ab'"),
        ("ab", set[str], "expected a list, got the text 'ab'"),
        ("ab", frozenset[str], "expected a list, got the text 'ab'"),
        ("ab", Sequence[str], "expected a list, got the text 'ab'"),
        ("ab", tuple, "expected a list, got the text 'ab'"),
        ({"a": 1}, list[str], "expected a list, got a mapping"),
        (["a"], dict[str, str], "expected a mapping, got a list"),
        ("blue", Color, "'blue' is not a valid Color"),
    ],
    ids=str,
)
def test_a_value_of_another_kind_is_refused(value: Any, kind: Any, message: str) -> None:
    assert refused(value, kind).removeprefix("`it`: ") == message


@for_each(
    ("text", "kind", "result"),
    [
        ("8080", int, 8080),
        ("-1", int, -1),
        ("1.5", float, 1.5),
        ("5", float, 5.0),
        ("true", bool, True),
        ("False", bool, False),
        ("8080", str, "8080"),
        ("", str, ""),
        ("a", Literal["a"], "a"),
        ("5", int | None, 5),
    ],
    ids=str,
)
def test_an_unquoted_variable_is_read_as_what_is_wanted(text: str, kind: Any, result: Any) -> None:
    matches = structured(Unquoted(text), kind)

    assert (matches, type(matches)) == (result, type(result))


@for_each(
    ("text", "kind"),
    [
        (Unquoted("http"), int),
        (Unquoted("1.5"), int),
        (Unquoted(""), int),
        (Unquoted("inf"), float),
        (Unquoted("nan"), float),
        (Unquoted("1" * 5000), int),
        (Unquoted("1" * 400), int),
        (Unquoted("yes"), bool),
        (Unquoted("1"), bool),
        (Unquoted("a"), list[str]),
        (Unquoted("a"), dict[str, str]),
        (Unquoted("b"), Literal["a"]),
        (FromEnvironment("5"), int),
        (FromEnvironment("1.5"), float),
        (FromEnvironment("true"), bool),
        (FromEnvironment("a"), tuple[str, ...]),
    ],
    ids=lambda each: f"{type(each).__name__}-{str(each)[:6]}",
)
def test_a_text_from_the_environment_is_refused_and_not_shown(text: str, kind: Any) -> None:
    message = refused(text, kind)

    assert message.endswith("got a text from the environment")


def test_a_text_from_the_environment_becomes_a_plain_one() -> None:
    for text in (FromEnvironment("a"), Unquoted("a")):
        assert type(structured(text, str)) is str


@frozen
class Inner:
    number: int = 1


@frozen
class Outer:
    everything: Any = section("everything")
    word: str = option()
    inner: Inner = Factory(Inner)
    several: tuple[Inner, ...] = ()
    named: dict[str, Inner] = Factory(dict)


def problems(text: str, kind: Any = Outer, **environ: str) -> list[Problem]:
    """The problems of a document with one value, under the name `it`."""
    document = parse(text, environ)
    value = {**document.value["it"], "everything": None} if kind is Outer else document.value["it"]
    with pytest.raises((BaseValidationError, ValueError)) as caught:
        CONVERTER.structure(value, kind)
    return sorted(to_problems(caught.value, ("it",), document), key=lambda p: p.location)


def as_rows(matches: list[Problem]) -> list[tuple[int, int, str, str, str]]:
    return [(p.location.line, p.location.column, p.code, p.message, p.hint) for p in matches]


def test_each_problem_has_its_place_its_name_and_the_next_action() -> None:
    text = """\
it:
  inner: {number: "5", nombre: 6}
  several: [{}, {number: false}, 7]
  named: {one: {number: 1.5}}
  sevral: []
"""

    assert as_rows(problems(text)) == [
        (1, 1, "missing-option", "the option `word` is missing", "add `word: …`"),
        (
            2,
            19,
            "bad-option",
            "`inner.number`: expected a whole number, got the text '5'",
            "write it in digits, without quotes",
        ),
        (2, 24, "unknown-option", "`inner` has no option `nombre`", "did you mean `number`?"),
        (
            3,
            26,
            "bad-option",
            "`several[1].number`: expected a whole number, got `false`",
            "write it in digits, without quotes",
        ),
        (
            3,
            34,
            "bad-option",
            "`several[2]`: expected a mapping, got `7`",
            "give it options by name, as `number`",
        ),
        (
            4,
            25,
            "bad-option",
            "`named.one.number`: expected a whole number, got `1.5`",
            "write it in digits, without quotes",
        ),
        (5, 3, "unknown-option", "`it` has no option `sevral`", "did you mean `several`?"),
    ]


@frozen
class Empty:
    pass


@frozen
class Picky:
    """Refuses in every way there is."""

    how: str
    word: str = ""

    def __attrs_post_init__(self) -> None:
        errors: dict[str, Exception] = {
            "option": OptionError("word", f"{self.word!r} is no word", "choose another"),
            "unavailable": UnavailableError("it needs a thing", "get the thing"),
            "value": ValueError(f"{self.word} is no word"),
            "wordless": ValueError(),
            "noted": ValueError("no word"),
            "key": KeyError("word"),
            "runtime": RuntimeError("no"),
        }
        errors["noted"].add_note("as its author says")
        raise errors[self.how]


@for_each(
    ("it", "kind", "expected"),
    [
        ("5", Inner, (1, 5, "`it`: expected a mapping, got `5`", "give it options by name, as")),
        ("[1]", Empty, (1, 5, "`it`: expected a mapping, got a list", "it takes no options")),
        ("[1]", Picky, (1, 5, "`it`: expected a mapping, got a list", "give it `how`")),
        ("", Picky, (1, 1, "`it`: expected a mapping, got nothing", "give it `how`")),
        ("{a: 1}", Empty, (1, 6, "`it` has no option `a`", "it takes no options")),
        ("{how: option, word: a}", Picky, (1, 25, "'a' is no word", "choose another")),
        ("{how: option, word: $a}", Picky, (1, 25, "'${WORD}' is no word", "choose another")),
        ("{how: value, word: $a}", Picky, (1, 5, "`it`: ${WORD} is no word", "")),
        ("{how: unavailable}", Picky, (1, 1, "it needs a thing", "get the thing")),
        ("{how: wordless}", Picky, (1, 5, "`it`: ValueError: ", "")),
        ("{how: key}", Picky, (1, 5, "`it`: KeyError: 'word'", "")),
        ("{how: runtime}", Picky, (1, 5, "`it`: RuntimeError: no", "")),
    ],
    ids=str,
)
def test_an_error_of_a_class_is_reported(
    it: str, kind: Any, expected: tuple[int, int, str, str]
) -> None:
    text = f"it: {it}\n".replace("$a", '"${WORD}"')

    ((line, column, _, message, hint),) = as_rows(problems(text, kind, WORD="s3cret"))

    assert (line, column, message, hint[: len(expected[3])]) == expected


def test_notes_of_others_do_not_hide_the_place() -> None:
    @frozen
    class Pickies:
        several: tuple[Picky, ...]

    assert as_rows(problems("it: {several: [{how: noted}]}", Pickies)) == [
        (1, 16, "bad-option", "`several[0]`: no word", "")
    ]


@for_each(
    ("wanted", "value", "hint"),
    [
        ("a text", 5, "put quotes around it"),
        ("a text", ["a"], "give it one value"),
        ("a text", None, "give it a value, or remove it"),
        ("a text", Unquoted("a"), "correct the variable"),
        ("a list", "a", "write it as `[one, another]`"),
        ("a list", {}, "write it as `[one, another]`"),
        ("a mapping", [], "write it as `{name: value}`, or as indented lines of `name: value`"),
        ("one of `a`", "b", ""),
    ],
    ids=str,
)
def test_the_hint_fits_the_value(wanted: str, value: Any, hint: str) -> None:
    assert KindError(wanted, value).hint == hint


def test_a_near_choice_is_the_hint() -> None:
    with pytest.raises(BaseValidationError) as caught:
        structured("messagse", Literal["messages", "count-tokens"])

    (problem,) = to_problems(caught.value, ("it",), parse("", {}))
    assert problem.hint == "did you mean `messages`?"


def test_values_of_the_engine_are_kept_and_are_no_options() -> None:
    thing = object()

    result = CONVERTER.structure({"word": "a", "everything": thing}, Outer)

    assert result.everything is thing
    assert option_names(Outer) == ["word", "inner", "several", "named"]


def test_the_names_of_a_section_are_its_own() -> None:
    result = CONVERTER.structure({"a": {"number": 5}}, dict[str, Inner])

    assert result == {"a": Inner(5)}


def test_an_option_may_stay_out() -> None:
    @frozen
    class Optional:
        word: str | None = option(None)

    assert CONVERTER.structure({}, Optional) == Optional()
