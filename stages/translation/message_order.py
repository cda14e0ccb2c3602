"""Rearranges Chat Completions messages for backends with rules on their order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

#: Neutral: nothing that the assistant would have to answer.
BEGIN = "Begin the conversation."


def merge_neighbours(
    messages: Iterable[dict[str, Any]], seams: Collection[int]
) -> Iterator[dict[str, Any]]:
    """Merge the neighbours of dropped turns. `seams` are the indexes where a dropped turn was."""
    run: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        role = message["role"]
        if run and not (index in seams and run[-1]["role"] == role in ("user", "system")):
            yield _merge(run)
            run = []
        run.append(message)
    if run:
        yield _merge(run)


def _merge(run: list[dict[str, Any]]) -> dict[str, Any]:
    if len(run) == 1:
        return run[0]
    bodies = [message["content"] for message in run]
    if all(isinstance(body, str) for body in bodies):
        return {**run[0], "content": "\n\n".join(bodies)}
    return {**run[0], "content": [part for body in bodies for part in _parts(body)]}


def _parts(body: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": body}] if isinstance(body, str) else body


def user_first(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Insert a user message before the first assistant message, if there is none."""
    first = next((n for n, message in enumerate(messages) if message["role"] != "system"), 0)
    if messages[first]["role"] != "assistant":
        return messages
    return [*messages[:first], {"role": "user", "content": BEGIN}, *messages[first:]]


def split_results(messages: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Split parallel calls into messages of one call: call 1, result 1, call 2, result 2.

    Each call gets the reasoning before all of them, if that is an item of the content: Claude
    wants the last message to begin with it.
    """
    waiting: dict[str, dict[str, Any]] = {}
    for message in messages:
        calls = message.get("tool_calls", ())
        if len(calls) > 1:
            content = message["content"]
            parts = content if isinstance(content, list) else []
            reasoning = [part for part in parts if part.get("type") != "text"]
            common = {"content": reasoning} if reasoning else {}
            waiting = {c["id"]: {"role": "assistant", **common, "tool_calls": [c]} for c in calls}
            members = {name: value for name, value in message.items() if value}
            waiting[calls[0]["id"]] = {**members, "tool_calls": calls[:1]}
            continue
        if message["role"] == "tool" and message["tool_call_id"] in waiting:
            yield waiting.pop(message["tool_call_id"])
        yield message
