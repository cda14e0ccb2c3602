"""An entry is added to a section; the remaining text stays as it is, byte for byte."""

from __future__ import annotations

import pytest

from pipeline.config.edit import EditError, add_entry, line_of

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


@pytest.mark.parametrize(
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
        "section-absent",
    ],
)
def test_an_entry_is_added_at_the_end_of_its_section(before: str, after: str) -> None:
    assert add_entry(before, *ENTRY) == after


@pytest.mark.parametrize(
    "text",
    ["b: &b\n  x: 1\nbackends: *b\n", "{backends: {}}", "backends: [1]\n", "", "- 1\n"],
    ids=["alias", "flow-root", "list", "empty", "list-root"],
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
