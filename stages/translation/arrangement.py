"""Chat Completions messages, arranged otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any


def rejoined(messages: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What was said before and behind a turn of which nothing is left, as one message."""
    for role, group in groupby(messages, key=itemgetter("role")):
        if role not in ("user", "system"):
            yield from group
            continue
        bodies = [message["content"] for message in group]
        if all(isinstance(body, str) for body in bodies):
            yield {"role": role, "content": "\n\n".join(bodies)}
        else:
            yield {"role": role, "content": [part for body in bodies for part in _parts(body)]}


def _parts(body: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": body}] if isinstance(body, str) else body


def split_results(messages: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Calls made together, one by one: call 1, result 1, call 2, result 2."""
    waiting: dict[str, dict[str, Any]] = {}
    for message in messages:
        calls = message.get("tool_calls", ())
        if len(calls) > 1:
            waiting = {c["id"]: {"role": "assistant", "tool_calls": [c]} for c in calls}
            rest = {name: value for name, value in message.items() if value}
            waiting[calls[0]["id"]] = {**rest, "tool_calls": calls[:1]}
            continue
        if message["role"] == "tool" and message["tool_call_id"] in waiting:
            yield waiting.pop(message["tool_call_id"])
        yield message
