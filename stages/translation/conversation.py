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

from attrs import Factory, define, evolve

from stages.messages_api import request as m
from stages.messages_api.errors import UnsupportedError
from stages.profiles.client_tools import member_function_name
from stages.profiles.profile import Profile
from stages.translation.compaction import apply_compaction
from stages.translation.content import content, expand_content, result_text
from stages.translation.envelope import SEALED
from stages.translation.field_policies import FieldPolicies
from stages.translation.message_order import merge_neighbours, split_results, user_first
from stages.translation.reasoning import ReturnedMembers
from stages.translation.system_prompt import (
    drop_cleared,
    hoist_system,
    render_system_message,
    split_system_blocks,
    system_prompt,
)
from stages.translation.tool_names import CallIdMap, backend_call_id, short_name
from stages.wire.json_codec import encode

# Neutral: the model must neither think that the tool ran nor that it failed.
NO_RESULT = "The result of this call is not available. Do not assume that it ran."

# For templates that want the assistant between a tool's result and the user.
BETWEEN = "I have the result."


@define
class _Conversation:
    """The messages so far, and what the next ones have to know."""

    profile: Profile
    fields: FieldPolicies
    owner: str
    ids: CallIdMap
    out: list[dict[str, Any]] = Factory(list)
    open_calls: dict[str, str] = Factory(dict)
    """Unanswered calls of the last assistant turn: the backend's id to the client's."""
    names: dict[str, str] = Factory(dict)
    """The names of the tools that they call, by the same."""
    seams: set[int] = Factory(set)
    """Where in `out` a turn of the assistant stood of which nothing is left."""


def conversation(
    request: m.MessagesRequest, owner: str, profile: Profile, fields: FieldPolicies
) -> list[dict[str, Any]]:
    """The whole conversation, system prompt first. Raises UnsupportedError.

    `owner` gets back what it attached to its answers; see envelope.py.
    """
    state = _Conversation(
        profile, fields, owner, CallIdMap(profile.tool_id_limit, profile.tool_id_length)
    )
    turns = apply_compaction(tuple(split_system_blocks(request.messages)), fields)
    if turns != request.messages:
        request = evolve(request, messages=turns)
    if profile.hoist_system:
        request = hoist_system(request, fields)
    if prompt := system_prompt(request, fields):
        state.out.append({"role": "system", "content": prompt})
    for role, blocks in _turns(drop_cleared(request.messages), fields):
        if role == "user":
            _user_turn(state, blocks)
            continue
        _answer_calls(state, {})
        if role == "system":
            state.out.append({"role": "system", "content": _joined(blocks)})
        else:
            _assistant_turn(state, blocks)
    _answer_calls(state, {})
    _prefill(state)
    if all(message["role"] == "system" for message in state.out):
        raise UnsupportedError("messages: nothing in them can be given to this backend")
    if state.seams:
        state.out = list(merge_neighbours(state.out, state.seams))
    if not profile.assistant_first:
        state.out = user_first(state.out)
    return list(split_results(state.out)) if profile.split_tool_results else state.out


def _prefill(state: _Conversation) -> None:
    """What the assistant says last is the beginning of the answer: kept, or left out."""
    last = state.out[-1]["role"] if state.out else ""
    if last == "assistant" and not state.fields.allows("prefill"):
        state.out.pop()


def _turns(
    messages: Iterable[m.Message], fields: FieldPolicies
) -> Iterator[tuple[str, list[m.Block]]]:
    """Turns with their blocks; neighbours of one role are one turn, as the Messages API has it."""
    placed = (render_system_message(message, fields) for message in messages)
    kept = _results_first(message for message in placed if message)
    for role, group in groupby(kept, key=attrgetter("role")):
        yield role, [block for message in group for block in message.content]


def _results_first(messages: Iterable[m.Message]) -> Iterator[m.Message]:
    """System messages go behind results: nothing may stand between a call and its result."""
    held: list[m.Message] = []
    for message in messages:
        if message.role == "system":
            held.append(message)
            continue
        if not any(isinstance(block, m.ToolResultBlock) for block in message.content):
            yield from held
            held = []
        yield message
    yield from held


def _joined(blocks: Iterable[m.Block]) -> str:
    return "\n\n".join(block.text for block in blocks if isinstance(block, m.TextBlock))


def _user_turn(state: _Conversation, blocks: list[m.Block]) -> None:
    fields = state.fields
    results = _results(state.open_calls, blocks)
    taken = set(map(id, results.values()))
    rest: list[m.Block] = []
    for identity in state.open_calls:
        if identity in results and (images := _images(results[identity], fields)):
            rest += [m.TextBlock(f"Attachments of tool result {identity}:"), *images]
    for block in blocks:
        if not isinstance(block, m.ToolResultBlock):
            rest.append(block)
        elif id(block) not in taken:
            fields.report("tool_result", "orphan")
            text = result_text(block, fields)
            identity = backend_call_id(block.tool_use_id, 64)
            text = f"Result of an earlier tool call ({identity}):\n{text}"
            rest += [m.TextBlock(text), *_images(block, fields)]
    _answer_calls(state, results)
    if body := content(rest, fields):
        _say(state, body)


def _results(calls: dict[str, str], blocks: list[m.Block]) -> dict[str, m.ToolResultBlock]:
    """The results of `calls`, by the backend's ids. Of two for one call the first counts."""
    waiting: dict[str, list[str]] = {}
    for identity, call in reversed(calls.items()):
        waiting.setdefault(call, []).append(identity)
    results = {}
    for block in blocks:
        if isinstance(block, m.ToolResultBlock) and waiting.get(block.tool_use_id):
            results[waiting[block.tool_use_id].pop()] = block
    return results


def _say(state: _Conversation, body: str | list[dict[str, Any]]) -> None:
    if state.out and state.out[-1]["role"] == "tool" and not state.profile.allows_user_after_tool:
        state.out.append({"role": "assistant", "content": BETWEEN})
    state.out.append({"role": "user", "content": body})


def _answer_calls(state: _Conversation, results: dict[str, m.ToolResultBlock]) -> None:
    """A tool message for each open call; with neutral words where the client has no result."""
    for identity in state.open_calls:
        known = results.get(identity)
        text = result_text(known, state.fields) if known else NO_RESULT
        text = text or state.profile.empty_tool_result
        message = {"role": "tool", "tool_call_id": identity, "content": text}
        if state.profile.tool_message_name:
            message["name"] = state.names[identity]
        state.out.append(message)
    state.open_calls, state.names = {}, {}


def _images(result: m.ToolResultBlock, fields: FieldPolicies) -> list[m.Block]:
    blocks = chain.from_iterable(expand_content(each, fields) for each in result.content)
    images: list[m.Block] = [block for block in blocks if isinstance(block, m.ImageBlock)]
    return images if images and fields.allows("tool_result.image") else []


def _assistant_turn(state: _Conversation, blocks: list[m.Block]) -> None:
    text, uses = "", []
    back: ReturnedMembers | None = None
    attached = bool(state.profile.default_call_members or state.profile.reasoning_placeholder)
    for block in blocks:
        if isinstance(block, m.TextBlock):
            text += block.text
        elif isinstance(block, m.ToolUseBlock):
            uses.append(block)
            attached = attached or block.id.startswith(SEALED)
        else:
            attached = True
    if attached:
        back = ReturnedMembers(state.owner, state.profile, state.fields)
        back.take(blocks)
        text = "".join(back.text(block) for block in blocks)
    # Backends refuse a last assistant message that ends in white space, and it says nothing.
    text = text.rstrip()
    if not text and not uses:
        if back:
            back.leave_out()
        state.seams.add(len(state.out))
        return
    said = back.content(text) if back else text or None
    if said is None and not state.profile.null_content:
        said = ""
    message: dict[str, Any] = {"role": "assistant", "content": said}
    if uses:
        message["tool_calls"] = [_call(state, use, back, n) for n, use in enumerate(uses)]
    state.out.append(message | back.message_members(bool(uses)) if back else message)


def _call(
    state: _Conversation, block: m.ToolUseBlock, back: ReturnedMembers | None, place: int
) -> dict[str, Any]:
    identity = state.ids.next(*back.call_id(place, block.id) if back else (block.id,))
    name = (
        member_function_name(block.toolset_name, block.name) if block.toolset_name else block.name
    )
    name = short_name(name, state.profile.tool_name_limit)
    state.open_calls[identity], state.names[identity] = block.id, name
    function = {"name": name, "arguments": encode(block.input).decode()}
    call = {"id": identity, "type": "function", "function": function}
    return call | back.call_members(place) if back else call
