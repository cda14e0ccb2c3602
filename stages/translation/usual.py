"""The usual chunk: more text, and nothing else."""

from __future__ import annotations

from typing import Any


def more_text(data: dict[str, Any]) -> str:
    """The text of a chunk that has nothing else to say; empty for any other chunk.

    Nine in ten are so. Where the text goes on, `AnswerTranslator` need not look any further.
    """
    try:
        (choice,) = data["choices"]
        delta = choice["delta"]
        text = delta["content"]
    except (KeyError, TypeError, ValueError):
        return ""
    alone = len(delta) == 1 or (len(delta) == 2 and "role" in delta)
    if type(text) is not str or not alone or choice.get("index") not in (0, None):
        return ""
    if choice.get("finish_reason") or choice.get("stop_reason"):
        return ""
    return "" if data.get("error") or data.get("usage") else text
