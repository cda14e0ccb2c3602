"""The decorator `for_each` runs every row and reports the rows that fail."""

from __future__ import annotations

import inspect

import pytest

from tests.cases import for_each


@for_each("number", [1, 2, 3, 4])
def _even(number: int) -> None:
    assert number % 2 == 0


@for_each(("text", "length"), [("a", 1), pytest.param("bb", 3, id="two")])
async def _has_length(text: str, length: int) -> None:
    assert len(text) == length


def test_all_rows_that_fail_are_listed() -> None:
    with pytest.raises(BaseExceptionGroup, match="2 cases fail:\ncase: 1\ncase: 3") as caught:
        _even()

    assert len(caught.value.exceptions) == 2


async def test_the_error_of_one_row_keeps_its_type_and_has_a_note() -> None:
    with pytest.raises(AssertionError) as caught:
        await _has_length()

    assert caught.value.__notes__ == ["case: two"]


def test_a_failure_of_pytest_is_a_failure_of_its_row() -> None:
    @for_each("error", [ValueError, KeyError], ids=lambda error: error.__name__)
    def raises(error: type[Exception]) -> None:
        with pytest.raises(error):
            raise KeyError

    with pytest.raises(KeyError) as caught:
        raises()

    assert caught.value.__notes__ == ["case: ValueError"]


def test_tables_multiply_and_leave_the_fixtures_to_pytest() -> None:
    pairs = []

    @for_each("first", "ab")
    @for_each("second", [1, 2], ids=["one", "two"])
    def pair(first: str, second: int, tmp_path: object) -> None:
        pairs.append((first, second))

    pair(tmp_path=None)

    assert list(inspect.signature(pair).parameters) == ["tmp_path"]
    assert pairs == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]


def test_an_empty_table_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="no case"):
        for_each("number", [])
