"""Texts of problems with a request, in the words of the Messages API."""

from __future__ import annotations

from collections.abc import Iterable


def either(choices: Iterable[str]) -> str:
    """`'a', 'b' or 'c'`"""
    *most, last = (f"'{choice}'" for choice in choices)
    return f"{', '.join(most)} or {last}" if most else last


def unknown_tag(tag: str, tags: Iterable[str]) -> str:
    """The API's message for a `type` that is not one of `tags`."""
    expected = ", ".join(f"'{tag}'" for tag in tags)
    return (
        f"Input tag '{tag[:80]}' found using 'type' does not match any of the "
        f"expected tags: {expected}"
    )
