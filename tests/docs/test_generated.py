"""Generated parts of the pages match the code. GOLDEN_WRITE=1 writes them (`just docs`)."""

from __future__ import annotations

import os
import re

import attrs
import pytest

from proxy.config import Server
from tests.docs.generated import PARTS, names, regenerated
from tests.docs.pages import PAGES, ROOT, Page

GENERATED = [page for page in PAGES if names(page.text)]


@pytest.mark.parametrize("page", GENERATED, ids=lambda page: page.path)
def test_generated_parts_match_their_source(page: Page) -> None:
    expected = regenerated(page.text)
    if "GOLDEN_WRITE" in os.environ:
        (ROOT / page.path).write_text(expected)

    assert page.text == expected


def test_each_part_is_in_one_page() -> None:
    assert sorted(name for page in GENERATED for name in names(page.text)) == sorted(PARTS)


def test_every_option_has_a_help_text() -> None:
    text = "".join(page.text for page in GENERATED)
    rows = re.findall(r"^\| `.*? \| (.*?) \| .*? \| (.*?) \|$", text, re.MULTILINE)

    assert rows
    assert not [kind for kind, meaning in rows if not meaning and kind != "mapping"]


def test_a_changed_option_would_be_seen() -> None:
    text = "<!-- generated: server -->\n| `host` |\n<!-- end generated -->\n"

    assert regenerated(text) != text
    assert all(f"`{field.name}`" in regenerated(text) for field in attrs.fields(Server))
