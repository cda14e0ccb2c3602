"""The prose of the pages keeps to the glossary in docs/architecture.md."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import PAGES, Page
from tests.glossary import offenders

#: Unclear phrases that no word of the glossary's table replaces.
UNCLEAR = re.compile(r"\b(by itself|is none|are none)\b", re.IGNORECASE)
_GENERATED = re.compile(r"^<!-- generated.*?^<!-- end generated -->$", re.DOTALL | re.MULTILINE)
_GLOSSARY = re.compile(r"^## Glossary$.*", re.DOTALL | re.MULTILINE)


MAX_WIDTH = 120


def prose(page: Page) -> str:
    """The text without blocks and generated parts."""
    return _GENERATED.sub("", page.prose)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_a_page_has_no_word_that_the_glossary_replaces(page: Page) -> None:
    text = re.sub(r"`[^`\n]*`", "", _GLOSSARY.sub("", prose(page)))

    assert not [match[0] for match in (*offenders(text), *UNCLEAR.finditer(text))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_lines_fit_a_screen(page: Page) -> None:
    lines = [line for line in prose(page).splitlines() if not line.startswith("|")]

    assert not [line for line in lines if len(line) > MAX_WIDTH]
