"""The columns that a text takes in a terminal."""

from __future__ import annotations


def text_width(text: str) -> int:
    """Return the number of columns: most characters take one, those of Chinese take two."""
    if text.isascii():
        return len(text)
    # Imported here: at the top it would take a sixth of the time of `llm-proxy check`.
    from wcwidth import width

    return width(text)


def pad(text: str, width: int) -> str:
    """Return `text` with spaces after it, so that it takes `width` columns or more."""
    return text + " " * (width - text_width(text))
