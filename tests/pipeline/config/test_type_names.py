"""The names of paths, values and types in messages."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.document import FromEnvironment, Unquoted
from pipeline.config.structuring import (
    describe,
    is_list,
    is_tuple,
    spell,
)
from tests.cases import for_each


@pytest.mark.parametrize(
    ("path", "spelled"),
    [(("keys", 1), "keys[1]"), (("a", "b", 0, "c"), "a.b[0].c"), ((2, 3), "[2][3]"), ((), "")],
    ids=str,
)
def test_paths_are_spelt_as_people_do(path: Any, spelled: str) -> None:
    assert spell(path) == spelled


@for_each(
    ("value", "described"),
    [
        (None, "nothing"),
        ({}, "a mapping"),
        ([], "a list"),
        ("a", "the text 'a'"),
        (True, "`true`"),
        (1.5, "`1.5`"),
        (Unquoted("s3cret"), "a text from the environment"),
        (FromEnvironment("s3cret"), "a text from the environment"),
    ],
    ids=str,
)
def test_values_are_described_as_people_do(value: Any, described: str) -> None:
    assert describe(value) == described


@for_each(
    ("kind", "tuple_", "list_"),
    [
        (tuple[int, ...], True, True),
        (tuple[int, str], True, False),
        (tuple[int], True, False),
        (list[int], False, True),
        (dict[str, int], False, False),
        (str, False, False),
    ],
    ids=str,
)
def test_the_types_that_are_lists_in_yaml(kind: Any, tuple_: bool, list_: bool) -> None:
    assert (is_tuple(kind), is_list(kind)) == (tuple_, list_)
