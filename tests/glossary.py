"""The words that the table in CONTRIBUTING.md replaces, and where a text has them."""

from __future__ import annotations

import functools
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
_TABLE = re.compile(r"^\| use \| not \|\n\| --- \| --- \|\n((?:\|.*\|\n)+)", re.MULTILINE)
_WORD = r"[^\W\d_]+"
#: Patterns for entries that are wrong in some contexts only.
_CONTEXTS = {
    "answer (as a noun)": (
        r"(?:an|the|its|whose|whole|half|these|no|of|any) answers?|(?:this|each|first|last) answer"
    ),
    "else X": r"(?<=[;,(] )else",
    "beside": "beside",  # not "besides"
    "held": "held(?! back)",  # "held back" is the usual word for text that could begin a match
}


@functools.cache
def replaced_words() -> tuple[str, ...]:
    """The entries of the column "not"."""
    table = _TABLE.search(PAGE.read_text())
    assert table, "CONTRIBUTING.md has no table of words to use"
    rows = [line.strip("| ").split(" | ")[1] for line in table[1].splitlines()]
    return tuple(word for row in rows for word in row.split(", "))


@functools.cache
def _pattern() -> re.Pattern[str]:
    words = "|".join(_CONTEXTS.get(entry) or _forms(entry) for entry in replaced_words())
    return re.compile(rf"(?<![\w-])(?:{words})(?![\w-])", re.IGNORECASE)


def _forms(phrase: str) -> str:
    """A pattern for a phrase, or for a word and its regular forms."""
    if " " in phrase:
        return r"\s+".join(map(re.escape, phrase.split()))
    return rf"{phrase.removesuffix('e')}(?:e?s?|e?d|ing|ings)"


def offenders(text: str) -> Iterator[re.Match[str]]:
    """The places in prose that have a replaced word."""
    return _pattern().finditer(text)


def python_offenders(path: Path) -> Iterator[tuple[int, str, str]]:
    """The same in identifiers, comments and strings of a module: line, word, words around it."""
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.NAME:
                text = " ".join(re.findall(r"[A-Z]?[a-z]+|[A-Z]+", token.string))
            elif token.type in (tokenize.COMMENT, tokenize.STRING):
                text = token.string
            else:
                continue
            for match in offenders(text):
                line = token.start[0] + text.count("\n", 0, match.start())
                around = text[max(0, match.start() - 30) : match.end() + 30]
                yield line, match[0], " ".join(around.split())
