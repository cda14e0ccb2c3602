"""An entry is added to a section; the remaining text stays as it is, byte for byte."""

from __future__ import annotations

import pytest

from pipeline.config.edit import EditError, add_entry, line_of, remove_entry, replace_scalar
from tests.cases import for_each

ENTRY = ("backends", "new", "{profile: y}", "why")
BLOCK = """\
backends:
  a: {profile: x}  # c
  # end

models:
  b: 1
"""
DEEP = """\
backends:
    a:
        l:
        - 1
        - b: |
            x
            y

m: 1
"""


@for_each(
    ("before", "after"),
    [
        ("backends: {a: {profile: x}}\n", "backends: {a: {profile: x}, new: {profile: y}}\n"),
        ("backends: {a: 1, }  # c\n", "backends: {a: 1, new: {profile: y}}  # c\n"),
        ("backends: {}\n", "backends: {new: {profile: y}}\n"),
        (BLOCK, BLOCK.replace("# c\n", "# c\n  new: {profile: y}  # why\n")),
        (DEEP, DEEP.replace("m: 1", "    new: {profile: y}  # why\nm: 1")),
        (
            "backends:\n  a: &a {profile: x}\n  b: *a\nz: 1\n",
            "backends:\n  a: &a {profile: x}\n  b: *a\n  new: {profile: y}  # why\nz: 1\n",
        ),
        ("backends:\n  a:\nm: 1", "backends:\n  a:\n  new: {profile: y}  # why\nm: 1"),
        ("backends:\n# c\nm: 1\n", "backends:\n  new: {profile: y}  # why\n# c\nm: 1\n"),
        ("backends:\r\n  a: 1\r\n", "backends:\r\n  a: 1\r\n  new: {profile: y}  # why\r\n"),
        (
            "backends: {a: 2026-02-30, b: 0001-01-01T00:00:00+10:00}\n",
            "backends: {a: 2026-02-30, b: 0001-01-01T00:00:00+10:00, new: {profile: y}}\n",
        ),
        ("m: 1", "m: 1\n\nbackends:\n  new: {profile: y}  # why\n"),
    ],
    ids=[
        "flow",
        "flow-comma",
        "flow-empty",
        "block",
        "block-scalar-last",
        "alias-last",
        "value-absent",
        "section-empty",
        "crlf",
        "dates",
        "section-absent",
    ],
)
def test_an_entry_is_added_at_the_end_of_its_section(before: str, after: str) -> None:
    assert add_entry(before, *ENTRY) == after


@for_each(
    "text",
    [
        "b: &b\n  x: 1\nbackends: *b\n",
        "{backends: {}}",
        "backends: [1]\n",
        "",
        "- 1\n",
        f"a: {'9' * 5000}",
    ],
    ids=["alias", "flow-root", "list", "empty", "list-root", "number"],
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(EditError):
        add_entry(text, *ENTRY)


def test_an_entry_that_is_there_is_refused() -> None:
    with pytest.raises(EditError):
        add_entry("backends:\n  new: 1\n", *ENTRY)


def test_the_line_of_an_entry() -> None:
    text = "# c\nbackends:\n  a: 1\n  b: 2\nmodels: {m: 1}\n"

    assert [line_of(text, "backends", name) for name in ("a", "b", "m")] == [3, 4, 0]
    assert line_of(text, "models", "m") == 5


FLOW = 'keys:\n  a: {x: 1, y: "b"}  # a\n  b: {x: 2}\nm: 1\n'


@for_each(
    ("text", "path", "after"),
    [
        (FLOW, ("keys", "a"), "keys:\n  b: {x: 2}\nm: 1\n"),
        (FLOW, ("keys", "b"), 'keys:\n  a: {x: 1, y: "b"}  # a\nm: 1\n'),
        (FLOW, ("keys", "a", "x"), FLOW.replace("x: 1, ", "")),
        (FLOW, ("keys", "a", "y"), FLOW.replace(', y: "b"', "")),
        (FLOW, ("keys",), "m: 1\n"),
        ("keys:\n  a: {x: 1}\n", ("keys", "a"), "keys:\n"),
        ("keys: {a: {x: 1}, b: 2}\n", ("keys", "a"), "keys: {b: 2}\n"),
        ("# c\na:\n  x: 1\n  y:\n  - 1\n# d\nb: 2", ("a",), "# c\n# d\nb: 2"),
        ("a: 1\r\nb: 2\r\n", ("b",), "a: 1\r\n"),
    ],
)
def test_an_entry_is_removed(text: str, path: tuple[str, ...], after: str) -> None:
    assert remove_entry(text, path) == after


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (FLOW, ("keys", "c")),
        (FLOW, ("no", "c")),
        ("keys: {a: &a {x: 1}, b: *a}\n", ("keys", "a")),
        ("a: 1\n", ("a", "b")),
    ],
)
def test_an_entry_that_cannot_be_removed_is_refused(text: str, path: tuple[str, ...]) -> None:
    with pytest.raises(EditError):
        remove_entry(text, path)


def test_entries_of_the_document_and_of_an_entry_are_added() -> None:
    assert add_entry("# c\n", (), "a", "{x: 1}") == "# c\na: {x: 1}\n"
    assert add_entry(FLOW, (), "a", "1") == f"{FLOW}a: 1\n"
    assert add_entry(FLOW, ("keys", "b"), "z", "true") == FLOW.replace("x: 2", "x: 2, z: true")
    block = "keys:\n  a:\n    x: 1\n  b: 2\n"
    assert add_entry(block, ("keys", "a"), "z", "true") == block.replace("1\n", "1\n    z: true\n")


def test_a_scalar_is_replaced() -> None:
    assert replace_scalar(FLOW, ("keys", "a", "y"), "true") == FLOW.replace('"b"', "true")
    for path in (("keys", "a"), ("keys", "a", "z")):
        with pytest.raises(EditError):
            replace_scalar(FLOW, path, "true")
