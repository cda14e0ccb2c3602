"""The parts of one answer, sent as content blocks: one at a time, in order.

See parts.py for what a part is, and for its states.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, TypeVar

from attrs import Factory, define, field

from stages.chat_completions.json_values import as_object, as_string
from stages.events import ChatRequest
from stages.messages_api import stream_events as e
from stages.messages_api.errors import InternalError
from stages.translation.envelope import Envelope, owner_of, seal
from stages.translation.opaque_members import OpaqueFragments, taken
from stages.translation.parts import TextPart, ThinkingPart, ToolCall, ToolCalls
from stages.translation.tool_names import short_hash
from stages.translation.tool_use_ids import ToolUseIds

P = TypeVar("P", bound=TextPart)
#: As much as of an answer that is no stream; see stages/backends/response.py.
MAX_HELD = 64 * 1024 * 1024


@define
class BlockQueue:
    """The queue of parts; the first one is live. `characters` counts what was sent.

    Of what cannot be sent yet, it holds at most `max_held` characters.
    Signatures are not counted: no tokens were made for them.
    """

    request: ChatRequest
    max_held: int = MAX_HELD
    characters: int = 0
    used_tool: bool = False
    left_out_half_call: bool = False
    """Whether a stop sequence cut a call, which is not sent then."""
    _queue: list[TextPart | ToolCall] = Factory(list)
    _ready: set[TextPart | ToolCall] = Factory(set)
    """Those behind the live one that are ready. There may be thousands that are not."""
    _calls: ToolCalls = Factory(ToolCalls)
    _first_call: ToolCall | None = None
    """The first call that had a name."""
    _index: int = 0
    _ids: ToolUseIds | None = None
    _attached: OpaqueFragments | None = None
    """Opaque members of the message that no part has; the next call takes them."""
    _given: dict[str, Any] = Factory(dict)
    """Those that calls have taken."""
    _sizes: dict[TextPart | ToolCall, int] = Factory(lambda: defaultdict(int))
    """Characters of the parts of which nothing was sent so far."""
    _held: int = 0
    """Their sum, and that of the members."""
    thinking_allowed: bool = field(init=False)
    """Whether the client wants to see thinking."""

    def __attrs_post_init__(self) -> None:
        thinking = self.request.resolved.request.thinking
        self.thinking_allowed = thinking is not None and thinking.blocks_allowed

    def add(self, kind: type[P], more: str) -> None:
        """Add to the last part, or begin one; thinking only if the client asked for it."""
        if (kind is ThinkingPart and not self.thinking_allowed) or not more:
            return
        last = self._queue[-1] if self._queue else None
        part = last if type(last) is kind else self._begin(kind)
        if part.state == "waiting" or (isinstance(part, ThinkingPart) and part.hidden):
            self._hold(part, len(more))
        part.add(more)
        self._note(part)

    def attach(self, members: dict[str, Any]) -> None:
        """Keep opaque members of the message: with the thinking that is shown, or for a call."""
        if not self.thinking_allowed:
            self._attached = self._attached or OpaqueFragments()
            self._held += self._attached.take(members)
            self._check_held()
            return
        part = self._queue[-1] if self._queue else None
        if not isinstance(part, ThinkingPart):
            part = self._begin(ThinkingPart)
        part.attached = part.attached or OpaqueFragments()
        self._hold(part, part.attached.take(members))
        self._note(part)

    def _begin(self, kind: type[P]) -> P:
        """A new part, the last one."""
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
        size = call.add(name, function.get("arguments"))
        if not call.sent or call.again:
            self._sizes[call] += size  # as in `_hold`; a call takes time, and there are many
            self._held += size
            if self._held > self.max_held:
                raise self._too_much()
        if not self.request.opaque.of_calls.isdisjoint(fragment):
            self._attach_to(call, fragment)
        if call.name and not call.queued:  # one without a name holds nothing up
            self._first_call = self._first_call or call
            call.queued = True
            self._queue.append(call)
        if call.queued and call.state == "waiting":
            self._note(call)

    def _attach_to(self, call: ToolCall, fragment: dict[str, Any]) -> None:
        names = self.request.opaque.of_calls & fragment.keys()
        call.attached = call.attached or OpaqueFragments()
        self._held += call.attached.take({name: fragment[name] for name in sorted(names)})
        self._check_held()

    @property
    def has_nameless_call(self) -> bool:
        """Whether a call has no name, although there are arguments for it, or an id."""
        calls = self._calls.all
        if not calls or (self.request.single_tool_call and self._first_call):
            return False
        return any(not call.name and (call.fragments or call.backend_id) for call in calls)

    @property
    def said_nothing(self) -> bool:
        """Whether no part of an answer has come."""
        return not (self._queue or self._index)

    @property
    def has_half_call(self) -> bool:
        """Whether the arguments of a call end in the middle."""
        return any(call.half for call in self._calls.all)

    def leave_out_half_calls(self) -> None:
        """Drop the calls that are half, which a client could run; to be called before the end."""
        kept = [part for part in self._queue if not (isinstance(part, ToolCall) and part.half)]
        self.left_out_half_call = len(kept) < len(self._queue)
        self._queue = kept

    def _hold(self, part: TextPart | ToolCall, size: int) -> None:
        """Count what a part keeps. Raises InternalError where all of them keep too much."""
        self._sizes[part] += size
        self._held += size
        if self._held > self.max_held:
            raise self._too_much()

    def _check_held(self) -> None:
        if self._held > self.max_held:
            raise self._too_much()

    def _too_much(self) -> InternalError:
        backend = self.request.resolved.target.backend
        return InternalError(
            f"backend `{backend}` sent more than {self.max_held} characters after a part of its "
            "answer that it had not ended: ask for a shorter answer"
        )

    def _note(self, part: TextPart | ToolCall) -> None:
        if part is not self._queue[0] and part.ready:
            self._ready.add(part)

    def send(self, last: bool) -> Iterator[e.StreamEvent]:
        """What can be sent now: the live part's news, and that of parts it makes way for."""
        while self._queue:
            part = self._queue[0]
            leaving = last or (bool(self._ready) and part.complete)
            stops = self.request.resolved.request.stop_sequences
            if stops and not leaving and isinstance(part, ToolCall):
                return  # one of them may cut the call, and what was sent cannot be taken back
            if leaving and type(part) is ThinkingPart and len(self._queue) > 1:
                self._identify_next(part, last)
            yield from self._send_part(part, leaving)
            if not leaving:
                return
            part.state = "closed"
            del self._queue[0]
            if part in self._sizes:  # it had nothing worth a block
                self._held -= self._sizes.pop(part)
            self._ready.difference_update(self._queue[:1])
        if last and self.used_tool:
            yield from self._send_late()

    @property
    def last_text(self) -> TextPart | None:
        """The last part, if it is text: more text belongs to it."""
        part = self._queue[-1] if self._queue else None
        return part if type(part) is TextPart else None

    def is_live(self, part: TextPart) -> bool:
        """Whether `part` is that of the open block, and there is no other."""
        return part.state == "open" and self._queue == [part]

    def delta(self, kind: str, fragment: str) -> e.BlockDelta:
        """More of the open block."""
        if kind != "signature_delta":
            self.characters += len(fragment)
        return e.BlockDelta(self._index, kind, fragment)

    def _send_part(self, part: TextPart | ToolCall, leaving: bool) -> Iterator[e.StreamEvent]:
        if part.state == "waiting" and (part.ready or (leaving and isinstance(part, ToolCall))):
            if isinstance(part, ToolCall):
                self._identify(part)
                if part.rest:
                    yield from self._redacted(part.rest)
                self.used_tool = True
            yield e.BlockStart(self._index, self._opened(part))
        if part.state == "waiting":
            return
        for kind, fragment in part.take(leaving):
            if part in self._sizes:
                self._held -= self._sizes.pop(part)
            yield self.delta(kind, fragment)
        if leaving:
            yield e.BlockStop(self._index)
            self._index += 1

    def _opened(self, part: TextPart | ToolCall) -> dict[str, Any]:
        block = part.open()
        if isinstance(part, ToolCall):
            block |= self.request.client_tool_names.get(part.name, {})
        return block

    def _identify(self, call: ToolCall) -> None:
        """Give a call its id, which holds what came with it so far, and of the message."""
        if not call.id:
            self._ids = self._ids or ToolUseIds(self.request)
            members, of_message = taken(call.attached), taken(self._attached)
            envelope = Envelope(self._owner, call.backend_id, members, of_message)
            call.id, call.rest = self._ids.next(envelope)
            call.members = members
            self._given |= of_message

    def _identify_next(self, thought: ThinkingPart, last: bool) -> None:
        """Let the signature of a thought hold what the id of the call after it cannot."""
        call, shown = self._queue[1], thought.state == "open" or thought.ready
        if shown and isinstance(call, ToolCall) and (last or call.ready):
            self._identify(call)
            thought.rest, call.rest = call.rest, None

    def _redacted(self, envelope: Envelope) -> Iterator[e.StreamEvent]:
        """A block that clients return as it is."""
        block = {"type": "redacted_thinking", "data": seal(envelope)}
        yield from (e.BlockStart(self._index, block), e.BlockStop(self._index))
        self._index += 1

    def _send_late(self) -> Iterator[e.StreamEvent]:
        """What came for calls, or for the message, when the calls had been opened."""
        for call in self._calls.all:
            if call.attached and call.id and (late := taken(call.attached, call.members)):
                of = short_hash(call.id)
                yield from self._redacted(Envelope(self._owner, call=late, of=of))
        if late := taken(self._attached, self._given):
            yield from self._redacted(Envelope(self._owner, message=late))
