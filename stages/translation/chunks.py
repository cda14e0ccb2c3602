"""What one chunk of a Chat Completions answer says, wherever in it that stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import define

from stages.translation.shapes import items, mapping

_CONTENT = ("content", "tool_calls", "function_call", "refusal")


def more_text(data: dict[str, Any]) -> str:
    """The text of a chunk that has nothing else to say; empty for any other chunk.

    Nine in ten are so. Where the text goes on, nobody need look any further.
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


def first_choice(data: dict[str, Any]) -> dict[str, Any]:
    """The first of the choices, and the only one that is read; empty where there is none."""
    choices = map(mapping, items(data.get("choices")))
    return next((each for each in choices if each.get("index") in (0, None)), {})


@define
class Deltas:
    """The deltas of one answer, or its one message."""

    _seen: bool = False

    def of(self, choice: dict[str, Any]) -> dict[str, Any]:
        """What a choice adds. A message behind deltas adds nothing: it says all of it again."""
        delta = mapping(choice.get("delta"))
        self._seen = self._seen or any(map(delta.get, _CONTENT))
        return delta if delta or self._seen else mapping(choice.get("message"))


def call_fragments(choice: dict[str, Any], delta: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The fragments of tool calls in the delta of a choice; in a message, each is a whole call."""
    for position, call in enumerate(items(delta.get("tool_calls"))):
        yield {**mapping(call), **({} if "delta" in choice else {"index": position})}
    if legacy := mapping(delta.get("function_call")):
        yield {"index": 0, "function": legacy}
