"""Chat Completions messages, arranged otherwise."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

#: Says nothing that the assistant would have to answer.
BEGIN = "Begin the conversation."


def merge_neighbours(
    messages: Iterable[dict[str, Any]], seams: Collection[int]
) -> Iterator[dict[str, Any]]:
    """What was said before and behind a turn of which nothing is left, as one message.

    `seams` are the places in `messages` in front of which such turns stood.
    """
    run: list[dict[str, Any]] = []
    for place, message in enumerate(messages):
        role = message["role"]
        if run and not (place in seams and run[-1]["role"] == role in ("user", "system")):
            yield _as_one(run)
            run = []
        run.append(message)
    if run:
        yield _as_one(run)


def _as_one(run: list[dict[str, Any]]) -> dict[str, Any]:
    if len(run) == 1:
        return run[0]
    bodies = [message["content"] for message in run]
    if all(isinstance(body, str) for body in bodies):
        return {**run[0], "content": "\n\n".join(bodies)}
    return {**run[0], "content": [part for body in bodies for part in _parts(body)]}


def _parts(body: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": body}] if isinstance(body, str) else body


def user_first(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages, with one of the user before the first of the assistant if there is none."""
    place = next((n for n, each in enumerate(messages) if each["role"] != "system"), 0)
    if messages[place]["role"] != "assistant":
        return messages
    return [*messages[:place], {"role": "user", "content": BEGIN}, *messages[place:]]


def split_results(messages: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Calls made together, one by one: call 1, result 1, call 2, result 2.

    Each has the reasoning that was before all of them, if that is an item of the content: Claude
    wants the last one to begin with it.
    """
    waiting: dict[str, dict[str, Any]] = {}
    for message in messages:
        calls = message.get("tool_calls", ())
        if len(calls) > 1:
            content = message["content"]
            parts = content if isinstance(content, list) else []
            reasoning = [part for part in parts if part.get("type") != "text"]
            before = {"content": reasoning} if reasoning else {}
            waiting = {c["id"]: {"role": "assistant", **before, "tool_calls": [c]} for c in calls}
            rest = {name: value for name, value in message.items() if value}
            waiting[calls[0]["id"]] = {**rest, "tool_calls": calls[:1]}
            continue
        if message["role"] == "tool" and message["tool_call_id"] in waiting:
            yield waiting.pop(message["tool_call_id"])
        yield message
