"""The prose of the pages uses the words in CONTRIBUTING.md."""

from __future__ import annotations

import re

from tests.cases import for_each
from tests.docs.pages import PAGES, Page
from tests.glossary import offenders

#: Unclear phrases that are not in the table of words.
UNCLEAR = re.compile(r"\b(by itself|is none|are none)\b", re.IGNORECASE)
_GENERATED = re.compile(r"^<!-- generated.*?^<!-- end generated -->$", re.DOTALL | re.MULTILINE)
#: Sections that name the words to avoid.
_ABOUT_WORDS = re.compile(r"^## (Glossary|Words)$.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)


MAX_WIDTH = 120


def prose(page: Page) -> str:
    """The text without blocks and generated parts."""
    return _GENERATED.sub("", page.prose)


@for_each("page", PAGES, ids=lambda page: page.path)
def test_a_page_has_no_word_that_the_table_replaces(page: Page) -> None:
    text = re.sub(r"`[^`\n]*`", "", _ABOUT_WORDS.sub("", prose(page)))

    assert not [match[0] for match in (*offenders(text), *UNCLEAR.finditer(text))]


@for_each("page", PAGES, ids=lambda page: page.path)
def test_lines_fit_a_screen(page: Page) -> None:
    lines = [line for line in prose(page).splitlines() if not line.startswith("|")]

    assert not [line for line in lines if len(line) > MAX_WIDTH]
