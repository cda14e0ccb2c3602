"""Text from clients and backends, made safe for a log, a terminal or a page."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return `text` with escapes such as `\n` in place of characters that are not printable.

    Nobody can forge a line with it, or change the direction of the text that comes after it.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
