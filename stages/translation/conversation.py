"""Renders the turns of a normalised conversation as Chat Completions messages.

Chat Completions wants each `tool` message to answer a call of the assistant message before it, and
each call to be answered, with nothing in between. The Messages API puts tool results and what the
user typed into one turn. Therefore the results of each user turn come first, in the order of the
calls; then one user message with the images of the results and everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import Factory, define

from stages.messages_api import request as m
from stages.messages_api.errors import UnsupportedError
from stages.profiles.client_tools import member_function_name
from stages.profiles.profile import Profile
from stages.translation.content import content, expand_content, result_text
from stages.translation.conversation_cache import (
    Checkpoint,
    ConversationCache,
    WeakTurn,
    encode_more,
)
from stages.translation.envelope import SEALED
from stages.translation.field_policies import FieldPolicies
from stages.translation.history import History
from stages.translation.message_order import merge_neighbours, split_results, user_first
from stages.translation.reasoning import ReturnedMembers
from stages.translation.tool_names import CallIdMap, backend_call_id, short_name
from stages.wire.encoded_parts import NOT_ENCODED, EncodedParts
from stages.wire.json_codec import encode

# Neutral: the model must think neither that the tool ran nor that it failed.
NO_RESULT = "The result of this call is not available. Do not assume that it ran."

# For chat templates that want the assistant between a tool result and the user.
BETWEEN = "I have the result."


@define
class _Renderer:
    """The messages so far, and the state that later turns need."""

    profile: Profile
    fields: FieldPolicies
    owner: str
    ids: CallIdMap
    messages: list[dict[str, Any]] = Factory(list)
    open_calls: dict[str, str] = Factory(dict)
    """Unanswered calls of the last assistant turn: from the backend's id to the client's."""
    call_names: dict[str, str] = Factory(dict)
    """The tool names of these calls, by the backend's id."""
    seams: set[int] = Factory(set)
    """Indexes in `messages` where an empty assistant turn was dropped."""

    def copy(self, fields: FieldPolicies) -> _Renderer:
        """Return the same state for another request."""
        return _Renderer(
            self.profile,
            fields,
            self.owner,
            self.ids.copy(),
            self.messages.copy(),
            self.open_calls.copy(),
            self.call_names.copy(),
            self.seams.copy(),
        )


def conversation(
    history: History,
    owner: str,
    profile: Profile,
    fields: FieldPolicies,
    cache: ConversationCache | None = None,
) -> tuple[list[dict[str, Any]], EncodedParts]:
    """Render the conversation, system prompt first. Raises UnsupportedError.

    `owner` gets back what it attached to earlier responses; see envelope.py. With a `cache`, also
    returns the JSON of the first messages.
    """
    ids = CallIdMap(profile.tool_id_limit, profile.tool_id_length)
    state = _Renderer(profile, fields, owner, ids)
    if history.system:
        state.messages.append({"role": "system", "content": history.system})
    encoded = NOT_ENCODED
    if cache is None or not history.turns or not history.turns[0].content:
        _render(state, history.turns)
    else:
        state, encoded = _render_with(cache, history, state)
    if state.open_calls:
        _answer_calls(state, {})
    _drop_prefill(state)
    if all(message["role"] == "system" for message in state.messages):
        raise UnsupportedError("messages: nothing in them can be sent to this backend")
    return _arrange(state), encoded


def _render_with(
    cache: ConversationCache, history: History, begin: _Renderer
) -> tuple[_Renderer, EncodedParts]:
    """Render from a checkpoint on, or from the `begin`, and store a new checkpoint."""
    profile, fields, turns = begin.profile, begin.fields, history.turns
    key = (id(profile), begin.owner, fields.strict, id(turns[0].content[0]))
    checkpoint, left = cache.find(key, profile, history)
    before = checkpoint or Checkpoint(profile, history.system, (), begin, (), NOT_ENCODED)
    for end, is_fork in ((left, True), (len(turns) - 1, False)):
        if end > len(before.turns):
            after = _go_on(before, turns[len(before.turns) : end], fields, is_fork)
            if not fields.pdfs:  # their text may come later
                cache.store(key, after, checkpoint)
            before = after
    fields.repeat(before.degradations)
    state = before.state.copy(fields)
    _render(state, turns[-1:])
    return state, before.encoded


def _go_on(
    before: Checkpoint, turns: Sequence[m.Message], fields: FieldPolicies, is_fork: bool
) -> Checkpoint:
    """Return the checkpoint after further `turns`."""
    fields = fields.without_degradations()  # of other steps
    fields.repeat(before.degradations)
    state = before.state.copy(fields)
    _render(state, turns)
    fields.pdfs = {}  # the request may add large ones of its last turn
    return Checkpoint(
        before.profile,
        before.system,
        (*before.turns, *map(WeakTurn.of, turns)),
        state,
        fields.degradations(),
        encode_more(before.encoded, state.messages),
        is_fork,
    )


def _render(state: _Renderer, turns: Iterable[m.Message]) -> None:
    for turn in turns:
        if turn.role == "user":
            _user_turn(state, turn.content)
            continue
        if state.open_calls:
            _answer_calls(state, {})
        if turn.role == "system":
            state.messages.append({"role": "system", "content": _system_text(turn.content)})
        else:
            _assistant_turn(state, turn.content)


def _drop_prefill(state: _Renderer) -> None:
    """Drop a last assistant message, the beginning of the response, unless the policy keeps it."""
    last = state.messages[-1]["role"] if state.messages else ""
    if last == "assistant" and not state.fields.allows("prefill"):
        state.messages.pop()


def _arrange(state: _Renderer) -> list[dict[str, Any]]:
    messages = state.messages
    if state.seams:
        messages = list(merge_neighbours(messages, state.seams))
    if not state.profile.assistant_first:
        messages = user_first(messages)
    return list(split_results(messages)) if state.profile.split_tool_results else messages


def _system_text(blocks: Iterable[m.Block]) -> str:
    return "\n\n".join(block.text for block in blocks if isinstance(block, m.TextBlock))


def _user_turn(state: _Renderer, blocks: m.Content) -> None:
    fields = state.fields
    places = _results_by_call(state.open_calls, blocks)
    results = {call_id: result for call_id, (_, result) in places.items()}
    matched = {n for n, _ in places.values()}  # not by `id`: the same object may come twice
    body: list[m.Block] = []
    for call_id in state.open_calls:
        if call_id in results and (images := _images(results[call_id], fields)):
            body += [m.TextBlock(f"Attachments of tool result {call_id}:"), *images]
    for n, block in enumerate(blocks):
        if not isinstance(block, m.ToolResultBlock):
            body.append(block)
        elif n not in matched:
            body += _orphan_result(block, fields)
    if state.open_calls:
        _answer_calls(state, results)
    if body and (rendered := content(body, fields)):
        _append_user(state, rendered)


def _orphan_result(result: m.ToolResultBlock, fields: FieldPolicies) -> list[m.Block]:
    """Return a result without a call as text and images of the user."""
    fields.report("tool_result", "orphan")
    text = result_text(result, fields)
    call_id = backend_call_id(result.tool_use_id, 64)
    text = f"Result of an earlier tool call ({call_id}):\n{text}"
    return [m.TextBlock(text), *_images(result, fields)]


def _results_by_call(
    calls: dict[str, str], blocks: m.Content
) -> dict[str, tuple[int, m.ToolResultBlock]]:
    """Return the results of `calls` and their indexes. The first of two results counts."""
    waiting: dict[str, list[str]] = {}
    for call_id, client_id in reversed(calls.items()):
        waiting.setdefault(client_id, []).append(call_id)
    results = {}
    for n, block in enumerate(blocks):
        if isinstance(block, m.ToolResultBlock) and waiting.get(block.tool_use_id):
            results[waiting[block.tool_use_id].pop()] = n, block
    return results


def _append_user(state: _Renderer, body: str | list[dict[str, Any]]) -> None:
    messages = state.messages
    if messages and messages[-1]["role"] == "tool" and not state.profile.allows_user_after_tool:
        messages.append({"role": "assistant", "content": BETWEEN})
    messages.append({"role": "user", "content": body})


def _answer_calls(state: _Renderer, results: dict[str, m.ToolResultBlock]) -> None:
    """Append a tool message for each open call, with a neutral text for a call without a result."""
    for call_id in state.open_calls:
        result = results.get(call_id)
        text = result_text(result, state.fields) if result else NO_RESULT
        text = text or state.profile.empty_tool_result
        message = {"role": "tool", "tool_call_id": call_id, "content": text}
        if state.profile.tool_message_name:
            message["name"] = state.call_names[call_id]
        state.messages.append(message)
    state.open_calls, state.call_names = {}, {}


def _images(result: m.ToolResultBlock, fields: FieldPolicies) -> list[m.Block]:
    images: list[m.Block] = [
        inner
        for block in result.content
        if type(block) is not m.TextBlock  # most are
        for inner in expand_content(block, fields)
        if isinstance(inner, m.ImageBlock)
    ]
    return images if images and fields.allows("tool_result.image") else []


def _assistant_turn(state: _Renderer, blocks: m.Content) -> None:
    text, uses = "", []
    returned: ReturnedMembers | None = None
    has_members = bool(state.profile.default_call_members or state.profile.reasoning_placeholder)
    for block in blocks:
        if isinstance(block, m.TextBlock):
            text += block.text
        elif isinstance(block, m.ToolUseBlock):
            uses.append(block)
            has_members = has_members or block.id.startswith(SEALED)
        else:
            has_members = True
    if has_members:
        returned = ReturnedMembers(state.owner, state.profile, state.fields)
        returned.read(blocks)
        text = "".join(returned.text(block) for block in blocks)
    # Backends refuse a last assistant message that ends in white space.
    text = text.rstrip()
    if not text and not uses:
        if returned:
            returned.report_dropped()
        state.seams.add(len(state.messages))
        return
    body = returned.content(text) if returned else text or None
    if body is None and not state.profile.null_content:
        body = ""
    message: dict[str, Any] = {"role": "assistant", "content": body}
    if uses:
        message["tool_calls"] = [_call(state, use, returned, n) for n, use in enumerate(uses)]
    state.messages.append(message | returned.message_members(bool(uses)) if returned else message)


def _call(
    state: _Renderer, block: m.ToolUseBlock, returned: ReturnedMembers | None, place: int
) -> dict[str, Any]:
    call_id = state.ids.next(*returned.call_id(place, block.id) if returned else (block.id,))
    name = (
        member_function_name(block.toolset_name, block.name) if block.toolset_name else block.name
    )
    name = short_name(name, state.profile.tool_name_limit)
    state.open_calls[call_id], state.call_names[call_id] = block.id, name
    function = {"name": name, "arguments": encode(block.input).decode()}
    call = {"id": call_id, "type": "function", "function": function}
    return call | returned.call_members(place) if returned else call
