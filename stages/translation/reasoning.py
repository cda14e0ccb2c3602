"""Reads what a backend gets back with an assistant turn, besides its text and calls.

    data                        carried by                           goes back to
    ------------------------    ---------------------------------    -------------------------------
    opaque members              envelopes (see envelope.py)          the model that attached them
    thinking, as text           thinking blocks, or their envelope   backends that take it as text
    signatures of other         thinking blocks                      no backend
    providers

The options that ask for reasoning are in `reasoning_options`. Unreadable data is reported, and
never an error.
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
    """The members that go back with one assistant turn, read from its blocks."""

    owner: str
    profile: Profile
    fields: FieldPolicies
    _inline: dict[int, str] = Factory(dict)
    """Text in place of a block, by the block's `id()`: thinking, or an empty string."""
    _message: dict[str, list[Any]] = Factory(dict)
    _calls: dict[int, Envelope] = Factory(dict)
    """Envelopes of the calls, by the place of the call in the turn."""
    _foreign: set[int] = Factory(set)
    """Places of calls whose ids hold a broken envelope, or one of another owner."""
    _separate: list[Envelope] = Factory(list)
    """Envelopes of calls in blocks other than the call."""

    def read(self, blocks: Iterable[m.Block]) -> None:
        """Read all blocks of the turn."""
        ids: list[str] = []
        for block in blocks:
            if isinstance(block, m.ToolUseBlock):
                self._read_call(block.id, len(ids))
                ids.append(block.id)
            elif isinstance(block, m.ThinkingBlock):
                self._read_thinking(block)
            elif isinstance(block, m.OtherBlock) and block.type == "redacted_thinking":
                self._read_redacted(block)
        if self._separate:
            places = {short_hash(call_id): place for place, call_id in enumerate(ids)}
            for envelope in self._separate:
                if (place := places.get(envelope.call_hash)) is not None:
                    self._calls[place] = _merge(self._calls.get(place), envelope)

    def text(self, block: m.Block) -> str:
        """Return the text of a block."""
        if id(block) in self._inline:
            return self._inline[id(block)]
        return render_text(block, self.fields) or ""

    def call_id(self, place: int, client_id: str) -> tuple[str, str]:
        """Return an id for the call at `place`, and the backend's own id or an empty string."""
        envelope = self._calls.get(place)
        if place in self._foreign:
            client_id = hashed_id(client_id)
        return client_id, envelope.id if envelope else ""

    def call_members(self, place: int) -> dict[str, Any]:
        """Return the members of the call at `place`."""
        envelope = self._calls.get(place)
        returned = envelope.call if envelope else {}
        names = self.profile.returned_call_members
        members = {name: returned[name] for name in names if name in returned}
        if members or place or any(envelope.call for envelope in self._calls.values()):
            return members
        return self.profile.default_call_members

    def message_members(self, has_calls: bool) -> dict[str, Any]:
        """Return the members of the message, without `content`."""
        members = {name: _join(values) for name, values in self._message.items()}
        members.pop("content", None)
        profile, member = self.profile, self.profile.reasoning_history
        if has_calls and profile.reasoning_placeholder and member in REASONING_MEMBERS:
            members.setdefault(member, profile.reasoning_placeholder)
        return members

    def content(self, text: str) -> str | list[Any] | None:
        """Return the content of a message with this text; None for no content."""
        lists = map(as_array, self._message.get("content", ()))
        kinds = self.profile.returned_content
        items = [
            item for item in chain.from_iterable(lists) if as_object(item).get("type") in kinds
        ]
        if items:
            return [*items, {"type": "text", "text": text}] if text else items
        return text or None

    def report_dropped(self) -> None:
        """Report that the members are lost, because nothing else is in the turn."""
        if self._message:
            self.fields.report("thinking_block", "dropped")

    def _read_call(self, client_id: str, place: int) -> None:
        try:
            envelope = unseal(client_id)
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

    def _read_redacted(self, block: m.OtherBlock) -> None:
        envelope = self._unseal(as_string(block.fields.get("data")))
        if envelope is not None:
            self._inline[id(block)] = ""
            if envelope.owner == self.owner:
                self._add_envelope(envelope)
            else:
                self.fields.report("opaque_members", "dropped")

    def _read_thinking(self, block: m.ThinkingBlock) -> None:
        envelope = self._unseal(block.signature)
        is_own = envelope is not None and envelope.owner == self.owner
        if envelope is not None and is_own:
            self._add_envelope(envelope)
        if not self.fields.allows("thinking_block"):
            return
        thinking = block.thinking or (envelope.text if envelope else "")
        member = self.profile.reasoning_history
        if member in REASONING_MEMBERS and thinking:
            self._message.setdefault(member, []).append(thinking)
        elif member == "tags" and thinking:
            self._inline[id(block)] = f"<think>\n{thinking.strip()}\n</think>\n\n"
        elif not is_own:
            self.fields.report("thinking_block", "dropped")
        elif thinking and member == "reasoning_details" and not (envelope and envelope.message):
            # The model signs nothing, so it takes its reasoning back as text.
            self._message.setdefault("reasoning", []).append(thinking)

    def _add_envelope(self, envelope: Envelope) -> None:
        self._add(envelope.message)
        if envelope.call_hash:
            self._separate.append(envelope)

    def _add(self, members: dict[str, Any]) -> None:
        for name, value in members.items():
            if name == "content" or name in self.profile.returned_message_members:
                self._message.setdefault(name, []).append(value)

    def _unseal(self, text: str) -> Envelope | None:
        try:
            return unseal(text)
        except BrokenEnvelopeError:
            self.fields.report("opaque_members", "unreadable")
            return None


def _merge(first: Envelope | None, second: Envelope) -> Envelope:
    if first is None:
        return second
    return evolve(first, id=first.id or second.id, call={**first.call, **second.call})


def _join(values: list[Any]) -> Any:
    """Concatenate texts, or lists; of other values take the last."""
    if all(isinstance(value, str) for value in values):
        return "".join(values)
    if all(isinstance(value, list) for value in values):
        return list(chain.from_iterable(values))
    return values[-1]
