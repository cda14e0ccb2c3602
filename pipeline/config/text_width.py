"""The columns that a text takes in a terminal."""

from __future__ import annotations

import unicodedata

_WIDE = ("W", "F")
#: Categories of characters without a column of their own, such as accents.
_JOINED = ("Mn", "Me", "Cf")


def text_width(text: str) -> int:
    """Return the number of columns: most characters take one, those of Chinese take two."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def pad(text: str, width: int) -> str:
    """Return `text` with spaces after it, so that it takes `width` columns or more."""
    return text + " " * (width - text_width(text))


def _width(char: str) -> int:
    if unicodedata.category(char) in _JOINED:
        return 0
    return 2 if unicodedata.east_asian_width(char) in _WIDE else 1
