"""Problems as people read them."""

from __future__ import annotations

import pytest

from pipeline.config.problems import ConfigError, Location, Problem, suggest
from tests.cases import for_each


def test_a_problem_is_shown_with_its_line_and_a_caret() -> None:
    problem = Problem("some-code", "it is wrong", Location(2, 3), "make it right")

    assert problem.render("a.yaml", "first\n  second  ") == (
        "a.yaml:2:3: error[some-code]: it is wrong\n"
        "    2 |   second\n"
        "      |   ^\n"
        "  hint: make it right"
    )


def test_a_note_is_called_a_note() -> None:
    problem = Problem("some-code", "so it is", severity="note")

    assert problem.render("a.yaml", "") == "a.yaml:1:1: note[some-code]: so it is"


@pytest.mark.parametrize(
    ("line", "column", "caret"),
    [("\ta:\tb", 5, "\t  \t^"), ("abc", 4, "   ^"), ("abc", 7, "   ^"), ("abc", 1, "^")],
    ids=["tabs-stay-tabs", "end-of-line", "after-a-cut", "first"],
)
def test_the_caret_is_below_its_column(line: str, column: int, caret: str) -> None:
    output = Problem("some-code", "", Location(1, column)).render("a.yaml", line)

    assert output.splitlines()[1:] == [f"    1 | {line}", f"      | {caret}"]


def test_a_long_file_keeps_its_columns_aligned() -> None:
    output = Problem("some-code", "", Location(12345, 1)).render("a.yaml", "x\n" * 12345)

    assert output.splitlines()[1:] == ["12345 | x", "      | ^"]


@for_each("column", [1, 50, 500, 99_990, 100_001], ids=str)
def test_a_very_long_line_is_cut_around_its_column(column: int) -> None:
    line = "".join(str(n % 10) for n in range(1, 100_001))
    output = Problem("some-code", "", Location(1, column)).render("a.yaml", line)
    _, excerpt, caret = output.splitlines()
    assert len(excerpt) < 140
    assert excerpt[len("    1 | ") :].strip("…") in line
    assert caret.rstrip("^").strip(" |") == ""
    at_caret = excerpt[len(caret) - 1 :][:1]
    assert at_caret == (str(column % 10) if column <= len(line) else "")


@pytest.mark.parametrize("line", [0, 3], ids=["before", "after"])
def test_a_place_outside_the_file_has_no_line_to_show(line: int) -> None:
    output = Problem("some-code", "", Location(line, 1)).render("a.yaml", "one\ntwo")

    assert len(output.splitlines()) == 1


def test_an_error_has_its_problems_in_the_order_of_their_places() -> None:
    first, second, third = (
        Problem("some-code", message, Location(*place))
        for message, place in (("first", (1, 9)), ("second", (2, 1)), ("third", (2, 4)))
    )

    error = ConfigError("a.yaml", "one\ntwo", [third, first, second])

    assert error.problems == [first, second, third]
    assert [line[:10] for line in str(error).splitlines() if "error" in line] == [
        "a.yaml:1:9",
        "a.yaml:2:1",
        "a.yaml:2:4",
    ]


def test_the_same_problem_is_reported_once() -> None:
    twice = Problem("some-code", "message"), Problem("some-code", "message")
    other = Problem("some-code", "another message")

    assert ConfigError("a.yaml", "", [*twice, other]).problems == [twice[0], other]


@pytest.mark.parametrize(
    ("name", "names", "hint"),
    [
        ("invok", ["resolve", "invoke"], "did you mean `invoke`?"),
        ("zzz", ["resolve", "invoke"], "use one of: `invoke`, `resolve`"),
        ("zzz", [], ""),
        ("", ["invoke"], "use one of: `invoke`"),
    ],
    ids=["near", "far", "nothing-known", "no-name"],
)
def test_the_nearest_name_is_the_hint(name: str, names: list[str], hint: str) -> None:
    assert suggest(name, names) == hint
