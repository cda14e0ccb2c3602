"""What a backend gets back with a turn of the assistant, next to its text and calls.

    what                        carried by                           goes back to
    ------------------------    ---------------------------------    -------------------------------
    opaque members              envelopes (see envelope.py)          the model that attached them
    thinking, as text           thinking blocks, or their envelope   who takes reasoning as text
    signatures of somebody      thinking blocks                      nobody
    else

How to ask for reasoning is in `asking`. What cannot be read is reported, and never an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from attrs import Factory, define, evolve

from stages.chat_completions.chunks import REASONING_MEMBERS
from stages.chat_completions.json_values import as_array, as_object, as_string
from stages.messages_api import request as m
from stages.profiles.profile import Profile
from stages.translation.content import render_text
from stages.translation.envelope import BrokenEnvelopeError, Envelope, unseal
from stages.translation.field_policies import FieldPolicies
from stages.translation.tool_names import hashed_id, short_hash


@define
class ReturnedMembers:
    """What goes back with one turn, read from its blocks."""

    owner: str
    profile: Profile
    fields: FieldPolicies
    _inline: dict[int, str] = Factory(dict)
    """What takes the place of blocks in the text, by their `id()`: thinking, or nothing."""
    _message: dict[str, list[Any]] = Factory(dict)
    _calls: dict[int, Envelope] = Factory(dict)
    """What is known of the calls, by their places."""
    _foreign: set[int] = Factory(set)
    """Places of calls whose ids hold envelopes for another owner, or broken ones."""
    _apart: list[Envelope] = Factory(list)
    """What is known of calls from other blocks."""

    def take(self, blocks: Iterable[m.Block]) -> None:
        """Read all blocks of the turn."""
        ids: list[str] = []
        for block in blocks:
            if isinstance(block, m.ToolUseBlock):
                self._take_call(block.id, len(ids))
                ids.append(block.id)
            elif isinstance(block, m.ThinkingBlock):
                self._take_thinking(block)
            elif isinstance(block, m.OtherBlock) and block.type == "redacted_thinking":
                self._take_redacted(block)
        if self._apart:
            places = {short_hash(identity): place for place, identity in enumerate(ids)}
            for envelope in self._apart:
                if (place := places.get(envelope.of)) is not None:
                    self._calls[place] = _merged(self._calls.get(place), envelope)

    def text(self, block: m.Block) -> str:
        """What a block is in the text."""
        if id(block) in self._inline:
            return self._inline[id(block)]
        return render_text(block, self.fields) or ""

    def call_id(self, place: int, identity: str) -> tuple[str, str]:
        """An id for the call at `place`, and what the backend itself called it, if known."""
        known = self._calls.get(place)
        if place in self._foreign:
            identity = hashed_id(identity)
        return identity, known.id if known else ""

    def call_members(self, place: int) -> dict[str, Any]:
        """The members of the call at `place`."""
        known = self._calls.get(place)
        held = known.call if known else {}
        members = {name: held[name] for name in self.profile.returned_call_members if name in held}
        if members or place or any(each.call for each in self._calls.values()):
            return members
        return self.profile.default_call_members

    def message_members(self, has_calls: bool) -> dict[str, Any]:
        """The members of the message, without `content`."""
        members = {name: _together(pieces) for name, pieces in self._message.items()}
        members.pop("content", None)
        profile, way = self.profile, self.profile.reasoning_history
        if has_calls and profile.reasoning_placeholder and way in REASONING_MEMBERS:
            members.setdefault(way, profile.reasoning_placeholder)
        return members

    def content(self, said: str) -> str | list[Any] | None:
        """The content of a message that says this; None where there is nothing."""
        held = [each for each in self._message.get("content", ()) for each in as_array(each)]
        kept = [
            each for each in held if as_object(each).get("type") in self.profile.returned_content
        ]
        if kept:
            return [*kept, {"type": "text", "text": said}] if said else kept
        return said or None

    def leave_out(self) -> None:
        """Nothing else is left of the turn, so it is no message."""
        if self._message:
            self.fields.report("thinking_block", "dropped")

    def _take_call(self, identity: str, place: int) -> None:
        try:
            envelope = unseal(identity)
        except BrokenEnvelopeError:
            self.fields.report("opaque_members", "unreadable")
            self._foreign.add(place)
            return
        if envelope is None:
            return
        if envelope.owner == self.owner:
            self._calls[place] = envelope
            self._add(envelope.message)
            return
        self._foreign.add(place)
        if envelope.call or envelope.message:
            self.fields.report("opaque_members", "dropped")

    def _take_redacted(self, block: m.OtherBlock) -> None:
        envelope = self._opened(as_string(block.fields.get("data")))
        if envelope is not None:
            self._inline[id(block)] = ""
            if envelope.owner == self.owner:
                self._take_own(envelope)
            else:
                self.fields.report("opaque_members", "dropped")

    def _take_thinking(self, block: m.ThinkingBlock) -> None:
        envelope = self._opened(block.signature)
        own = envelope is not None and envelope.owner == self.owner
        if envelope is not None and own:
            self._take_own(envelope)
        if not self.fields.allows("thinking_block"):
            return
        thought = block.thinking or (envelope.text if envelope else "")
        way = self.profile.reasoning_history
        if way in REASONING_MEMBERS and thought:
            self._message.setdefault(way, []).append(thought)
        elif way == "tags" and thought:
            self._inline[id(block)] = f"<think>\n{thought.strip()}\n</think>\n\n"
        elif not own:
            self.fields.report("thinking_block", "dropped")
        elif thought and way == "reasoning_details" and not (envelope and envelope.message):
            self._message.setdefault("reasoning", []).append(thought)  # the model signs nothing

    def _take_own(self, envelope: Envelope) -> None:
        self._add(envelope.message)
        if envelope.of:
            self._apart.append(envelope)

    def _add(self, members: dict[str, Any]) -> None:
        for name, value in members.items():
            if name == "content" or name in self.profile.returned_message_members:
                self._message.setdefault(name, []).append(value)

    def _opened(self, sealed: str) -> Envelope | None:
        try:
            return unseal(sealed)
        except BrokenEnvelopeError:
            self.fields.report("opaque_members", "unreadable")
            return None


def _merged(before: Envelope | None, late: Envelope) -> Envelope:
    return (
        late
        if before is None
        else evolve(before, id=before.id or late.id, call={**before.call, **late.call})
    )


def _together(pieces: list[Any]) -> Any:
    """Texts as one text, lists as one list; of all else, the last."""
    if all(isinstance(each, str) for each in pieces):
        return "".join(pieces)
    if all(isinstance(each, list) for each in pieces):
        return list(chain.from_iterable(pieces))
    return pieces[-1]


def without_history(
    chosen: dict[str, Any], messages: list[dict[str, Any]], profile: Profile, fields: FieldPolicies
) -> dict[str, Any]:
    """The options, without `thinking` where the backend would miss the reasoning before a call.

    Claude: "When `thinking` is enabled, a final `assistant` message must start with a thinking
    block (preceeding the lastmost set of `tool_use` and `tool_result` blocks)".
    """
    if not profile.thinking_needs_history or "thinking" not in chosen:
        return chosen
    nothing: dict[str, Any] = {}
    last = next((each for each in reversed(messages) if each["role"] == "assistant"), nothing)
    begins = [as_object(each).get("type") for each in as_array(last.get("content"))[:1]]
    if not last.get("tool_calls") or any(each in profile.returned_content for each in begins):
        return chosen
    if chosen["thinking"] == {"type": "disabled"}:
        return chosen
    fields.report("thinking", "dropped")
    return {name: value for name, value in chosen.items() if name != "thinking"}
