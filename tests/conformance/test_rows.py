"""Each row of the list of pitfalls has its test here, named after it."""

from __future__ import annotations

import re
from pathlib import Path


def found(pattern: str) -> set[int]:
    """The numbers in names of tests."""
    text = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    return set(map(int, re.findall(rf"^(?:async )?def test_{pattern}_(\d+)_", text, re.MULTILINE)))


def test_every_row_has_a_test() -> None:
    assert found("row") == set(range(1, 41))


def test_every_fact_has_a_test() -> None:
    assert found("fact") == set(range(1, 8))
