"""The queue of content blocks of one response: sends them one at a time, in order.

See content_parts.py for the parts in the queue, and for their states.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any, TypeVar

from attrs import Factory, define, field

from stages.chat_completions.json_values import as_object, as_string
from stages.chat_completions.opaque_members import OpaqueFragments, pop_members
from stages.chat_completions.tool_calls import MAX_BUFFERED, ToolCall, ToolCalls
from stages.events import ChatRequest
from stages.messages_api import stream_events as e
from stages.messages_api.errors import InternalError
from stages.translation.content_parts import TextPart, ThinkingPart, ToolUsePart
from stages.translation.envelope import Envelope, owner_of, seal
from stages.translation.tool_names import short_hash
from stages.translation.tool_use_ids import ToolUseIds

P = TypeVar("P", bound=TextPart)


@define
class BlockQueue:
    """The queue of parts; the first one is live.

    Buffers at most `max_buffered` characters. `characters` counts those that were sent, without
    signatures: no tokens were generated for these.
    """

    request: ChatRequest
    max_buffered: int = MAX_BUFFERED
    characters: int = 0
    used_tool: bool = False
    dropped_truncated_call: bool = False
    """Whether a stop sequence cut a call. Such a call is not sent."""
    _queue: list[TextPart | ToolUsePart] = Factory(list)
    _ready: set[TextPart | ToolUsePart] = Factory(set)
    """The ready parts after the live one. There may be thousands of parts that are not ready."""
    _calls: ToolCalls = Factory(ToolCalls)
    _tool_uses: dict[ToolCall, ToolUsePart] = Factory(dict)
    """The part of each call, in the order of the calls."""
    _first_call: ToolCall | None = None
    """The first call with a name."""
    _index: int = 0
    _ids: ToolUseIds | None = None
    _attached: OpaqueFragments | None = None
    """Opaque members of the message that are in no part. The next call takes them."""
    _sent_members: dict[str, Any] = Factory(dict)
    """Opaque members of the message that calls have taken."""
    _sizes: dict[TextPart | ToolUsePart, int] = Factory(partial(defaultdict, int))
    """Buffered characters by part, for parts that are wholly unsent."""
    _buffered: int = 0
    """All buffered characters, those of opaque members included."""
    thinking_allowed: bool = field(init=False)
    """Whether the client accepts thinking blocks. Read at each delta, so it is a field."""

    def __attrs_post_init__(self) -> None:
        self.thinking_allowed = self.request.resolved.request.allows_thinking_blocks

    def add(self, kind: type[P], text: str) -> None:
        """Add to the last part if it is of this kind, otherwise begin one.

        Thinking is dropped if the client allows no thinking blocks.
        """
        if (kind is ThinkingPart and not self.thinking_allowed) or not text:
            return
        last = self._queue[-1] if self._queue else None
        part = last if type(last) is kind else self._begin(kind)
        if part.state == "waiting" or (isinstance(part, ThinkingPart) and part.hidden):
            self._buffer(part, len(text))
        part.add(text)
        if part is not self._queue[0]:
            self._note_ready(part)

    def attach(self, members: dict[str, Any]) -> None:
        """Keep opaque members of the message in a thinking block, or for the next call."""
        if not self.thinking_allowed:
            self._attached = self._attached or OpaqueFragments()
            self._buffered += self._attached.add(members)
            self._check_buffered()
            return
        part = self._queue[-1] if self._queue else None
        if not isinstance(part, ThinkingPart):
            part = self._begin(ThinkingPart)
        part.attached = part.attached or OpaqueFragments()
        self._buffer(part, part.attached.add(members))
        self._note_ready(part)

    def _begin(self, kind: type[P]) -> P:
        """Append a new part to the queue."""
        part, thinking = kind(), self.request.resolved.request.thinking
        if isinstance(part, ThinkingPart) and thinking:
            part.owner = self._owner
            part.hidden = thinking.display == "omitted"
        self._queue.append(part)
        return part

    @property
    def _owner(self) -> str:
        target = self.request.resolved.target
        return owner_of(target.backend, target.model)

    def add_call(self, fragment: dict[str, Any]) -> None:
        """Add a fragment of a tool call to the call it belongs to."""
        function = as_object(fragment.get("function"))
        name = as_string(function.get("name"))
        call = self._calls.find(fragment, name)
        if self.request.single_tool_call and self._first_call not in (None, call):
            return
        if call not in self._tool_uses:
            self._tool_uses[call] = ToolUsePart(call)
        part = self._tool_uses[call]
        size = call.add(name, function.get("arguments"))
        if not part.sent or call.possible_repeat:
            self._sizes[part] += size  # `_buffer` inlined: calls have many fragments
            self._buffered += size
            if self._buffered > self.max_buffered:
                raise self._too_much()
        if not self.request.opaque.of_calls.isdisjoint(fragment):
            self._attach_to(call, fragment)
        if call.name and not part.queued:  # a call without a name delays no other part
            self._first_call = self._first_call or call
            part.queued = True
            self._queue.append(part)
        if part.queued and part.state == "waiting":
            self._note_ready(part)

    def _attach_to(self, call: ToolCall, fragment: dict[str, Any]) -> None:
        names = self.request.opaque.of_calls & fragment.keys()
        call.attached = call.attached or OpaqueFragments()
        self._buffered += call.attached.add({name: fragment[name] for name in sorted(names)})
        self._check_buffered()

    @property
    def has_nameless_call(self) -> bool:
        """Whether a call has arguments or an id, but no name."""
        calls = self._calls.calls
        if not calls or (self.request.single_tool_call and self._first_call):
            return False
        return any(not call.name and (call.fragments or call.backend_id) for call in calls)

    @property
    def is_empty(self) -> bool:
        """Whether the response had no content yet."""
        return not (self._queue or self._index)

    @property
    def has_truncated_call(self) -> bool:
        """Whether the arguments of a call end in the middle."""
        return any(call.truncated for call in self._calls.calls)

    def drop_truncated_calls(self) -> None:
        """Drop calls that a stop sequence cut: a client could run them. Called before the end."""
        kept = [p for p in self._queue if not (isinstance(p, ToolUsePart) and p.call.truncated)]
        self.dropped_truncated_call = len(kept) < len(self._queue)
        self._queue = kept

    def _buffer(self, part: TextPart | ToolUsePart, size: int) -> None:
        """Count buffered characters of a part. Raises InternalError above `max_buffered`."""
        self._sizes[part] += size
        self._buffered += size
        if self._buffered > self.max_buffered:
            raise self._too_much()

    def _check_buffered(self) -> None:
        if self._buffered > self.max_buffered:
            raise self._too_much()

    def _too_much(self) -> InternalError:
        backend = self.request.resolved.target.backend
        return InternalError(
            f"backend `{backend}` sent more than {self.max_buffered} characters after a content "
            "block that it had not ended: ask for a shorter response"
        )

    def _note_ready(self, part: TextPart | ToolUsePart) -> None:
        if part is not self._queue[0] and part.ready:
            self._ready.add(part)

    def send(self, last: bool) -> Iterator[e.StreamEvent]:
        """Yield the events to send now: of the live part, and of those that become live.

        `last`: the response ends, so all parts are sent and closed.
        """
        while self._queue:
            part = self._queue[0]
            closing = last or (bool(self._ready) and part.complete)
            stops = self.request.resolved.request.stop_sequences
            if stops and not closing and isinstance(part, ToolUsePart):
                return  # a stop sequence may cut the call, and sent deltas cannot be taken back
            if closing and type(part) is ThinkingPart and len(self._queue) > 1:
                self._identify_next(part, last)
            yield from self._send_part(part, closing)
            if not closing:
                return
            part.state = "closed"
            del self._queue[0]
            if part in self._sizes:  # no delta of it was sent
                self._buffered -= self._sizes.pop(part)
            self._ready.difference_update(self._queue[:1])
        if last and self.used_tool:
            yield from self._send_late_members()

    @property
    def last_text(self) -> TextPart | None:
        """The last part if it is text: more text belongs to it. Otherwise None."""
        part = self._queue[-1] if self._queue else None
        return part if type(part) is TextPart else None

    def is_live(self, part: TextPart) -> bool:
        """Whether `part` is open, and the only one in the queue."""
        return part.state == "open" and self._queue == [part]

    def delta(self, kind: str, fragment: str) -> e.BlockDelta:
        """Return the event of one delta of the open block, and count its characters."""
        if kind != "signature_delta":
            self.characters += len(fragment)
        return e.BlockDelta(self._index, kind, fragment)

    def _send_part(self, part: TextPart | ToolUsePart, closing: bool) -> Iterator[e.StreamEvent]:
        if part.state == "waiting" and (part.ready or (closing and isinstance(part, ToolUsePart))):
            if isinstance(part, ToolUsePart):
                self._identify(part)
                if part.id_overflow:
                    yield from self._redacted_block(part.id_overflow)
                self.used_tool = True
            yield e.BlockStart(self._index, self._open(part))
        if part.state == "waiting":
            return
        for kind, fragment in part.take(closing):
            if part in self._sizes:
                self._buffered -= self._sizes.pop(part)
            yield self.delta(kind, fragment)
        if closing:
            yield e.BlockStop(self._index)
            self._index += 1

    def _open(self, part: TextPart | ToolUsePart) -> dict[str, Any]:
        block = part.open()
        if isinstance(part, ToolUsePart):
            block |= self.request.tool_use_members.get(part.call.name, {})
        return block

    def _identify(self, part: ToolUsePart) -> None:
        """Give a call its client id, which holds its opaque members and those of the message."""
        if not part.id:
            self._ids = self._ids or ToolUseIds(self.request)
            members, of_message = pop_members(part.call.attached), pop_members(self._attached)
            envelope = Envelope(self._owner, part.call.backend_id, members, of_message)
            part.id, part.id_overflow = self._ids.next(envelope)
            part.members = members
            self._sent_members |= of_message

    def _identify_next(self, thinking: ThinkingPart, last: bool) -> None:
        """Put what the id of the next call cannot hold into the signature of `thinking`."""
        call, is_sent = self._queue[1], thinking.state == "open" or thinking.ready
        if is_sent and isinstance(call, ToolUsePart) and (last or call.ready):
            self._identify(call)
            thinking.next_call, call.id_overflow = call.id_overflow, None

    def _redacted_block(self, envelope: Envelope) -> Iterator[e.StreamEvent]:
        """Yield a `redacted_thinking` block, which clients return unchanged."""
        block = {"type": "redacted_thinking", "data": seal(envelope)}
        yield from (e.BlockStart(self._index, block), e.BlockStop(self._index))
        self._index += 1

    def _send_late_members(self) -> Iterator[e.StreamEvent]:
        """Yield blocks for the opaque members that came after the calls had their ids."""
        for part in self._tool_uses.values():
            attached = part.call.attached
            if attached and part.id and (late := pop_members(attached, part.members)):
                envelope = Envelope(self._owner, call=late, call_hash=short_hash(part.id))
                yield from self._redacted_block(envelope)
        if late := pop_members(self._attached, self._sent_members):
            yield from self._redacted_block(Envelope(self._owner, message=late))
