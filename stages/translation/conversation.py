"""The turns of a Messages request as Chat Completions messages.

Chat Completions wants each `tool` message to answer a call of the assistant message before
it, and each call to be answered, with nothing in between. The Messages API puts results and
what the user typed into one turn. So of each user turn the results come first, in the order
of the calls; then one user message with the images they held and everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from operator import attrgetter
from typing import Any

from attrs import evolve

from stages.backends.profile import Profile
from stages.translation.content import content, rendered, result_text, unpacked
from stages.translation.notes import Notes
from stages.wire import messages as m
from stages.wire.json import encode

# Neutral: the model must neither think that the tool ran nor that it failed.
NO_RESULT = "The result of this call is not available. Do not assume that it ran."

_ATTRIBUTION = "x-anthropic-billing-header:"


def conversation(
    request: m.MessagesRequest, profile: Profile, notes: Notes
) -> list[dict[str, Any]]:
    """The whole conversation, system prompt first. Raises InvalidRequestError."""
    out = list(_system(request.system, notes))
    open_calls: list[str] = []
    for role, blocks in _turns(request.messages, profile, notes):
        if role == "user":
            out += _user_turn(blocks, open_calls, profile, notes)
            open_calls = []
            continue
        out += _results(open_calls, {}, profile)
        open_calls = []
        if role == "system":
            out += [{"role": "system", "content": _joined(blocks)}]
        elif message := _assistant_turn(blocks, notes):
            out.append(message)
            open_calls = [call["id"] for call in message.get("tool_calls", ())]
    out += _results(open_calls, {}, profile)
    return list(_split_results(out)) if profile.split_tool_results else out


def _system(blocks: m.Content, notes: Notes) -> Iterator[dict[str, Any]]:
    """The system prompt, without the attribution line of Claude Code.

    That line changes with each request in older clients and so spoils every prefix cache.
    """
    texts = []
    for block in blocks:
        if isinstance(block, m.TextBlock) and block.text.startswith(_ATTRIBUTION):
            notes.add("system.attribution:dropped")
            block = m.TextBlock(block.text.partition("\n")[2])
        if isinstance(block, m.TextBlock) and block.text:
            texts.append(block.text)
    if texts:
        yield {"role": "system", "content": "\n\n".join(texts)}


def _turns(
    messages: Iterable[m.Message], profile: Profile, notes: Notes
) -> Iterator[tuple[str, list[m.Block]]]:
    """Turns with their blocks; neighbours of one role are one turn, as the Messages API has it.

    An assistant message of which nothing can be sent, as one of thinking alone, parts no turns.
    """
    messages = (message for message in messages if _says_something(message, notes))
    if profile.system_in_middle == "user":
        messages = map(_as_user, messages)
    for role, group in groupby(messages, key=attrgetter("role")):
        yield role, [block for message in group for block in message.content]


def _says_something(message: m.Message, notes: Notes) -> bool:
    return message.role != "assistant" or _assistant_turn(message.content, notes) is not None


def _as_user(message: m.Message) -> m.Message:
    if message.role != "system":
        return message
    text = f"<system-reminder>\n{_joined(message.content)}\n</system-reminder>"
    return evolve(message, role="user", content=(m.TextBlock(text),))


def _joined(blocks: Iterable[m.Block]) -> str:
    return "\n\n".join(block.text for block in blocks if isinstance(block, m.TextBlock))


def _user_turn(
    blocks: list[m.Block], open_calls: list[str], profile: Profile, notes: Notes
) -> Iterator[dict[str, Any]]:
    results = {b.tool_use_id: b for b in blocks if isinstance(b, m.ToolResultBlock)}
    yield from _results(open_calls, results, profile)
    rest: list[m.Block] = []
    for call in open_calls:
        if call in results and (images := _images(results[call])):
            rest += [m.TextBlock(f"Attachments of tool result {call}:"), *images]
    for block in blocks:
        if not isinstance(block, m.ToolResultBlock):
            rest.append(block)
        elif block.tool_use_id not in open_calls or results[block.tool_use_id] is not block:
            notes.add("tool_result:orphan")
            text = f"Result of an earlier tool call ({block.tool_use_id}):\n{result_text(block)}"
            rest += [m.TextBlock(text), *_images(block)]
    if body := content(rest, profile, notes):
        yield {"role": "user", "content": body}


def _results(
    calls: list[str], results: dict[str, m.ToolResultBlock], profile: Profile
) -> Iterator[dict[str, Any]]:
    for call in calls:
        text = result_text(results[call]) if call in results else NO_RESULT
        text = text or profile.empty_tool_result
        yield {"role": "tool", "tool_call_id": call, "content": text}


def _images(result: m.ToolResultBlock) -> list[m.Block]:
    blocks = chain.from_iterable(map(unpacked, result.content))
    return [block for block in blocks if isinstance(block, m.ImageBlock)]


def _assistant_turn(blocks: Iterable[m.Block], notes: Notes) -> dict[str, Any] | None:
    text, calls = "", []
    for block in blocks:
        if isinstance(block, m.TextBlock):
            text += block.text
        elif isinstance(block, m.ToolUseBlock):
            arguments = encode(block.input).decode()
            function = {"name": block.name, "arguments": arguments}
            calls.append({"id": block.id, "type": "function", "function": function})
        elif (shown := rendered(block)) is not None:
            text += shown
        else:
            kind = block.type if isinstance(block, m.OtherBlock) else "thinking"
            notes.add(f"{kind}:dropped")
    # Backends refuse a last assistant message that ends in white space, and it says nothing.
    text = text.rstrip()
    if calls:
        return {"role": "assistant", "content": text or None, "tool_calls": calls}
    return {"role": "assistant", "content": text} if text else None


def _split_results(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Calls made together, one by one: call 1, result 1, call 2, result 2."""
    waiting: dict[str, dict[str, Any]] = {}
    for message in messages:
        calls = message.get("tool_calls", ())
        if len(calls) > 1:
            waiting = {c["id"]: {"role": "assistant", "tool_calls": [c]} for c in calls}
            first = waiting[calls[0]["id"]]
            if message["content"]:
                first["content"] = message["content"]
            continue
        if message["role"] == "tool" and message["tool_call_id"] in waiting:
            yield waiting.pop(message["tool_call_id"])
        yield message
