"""The parts of one answer, sent as content blocks: one at a time, in order.

See parts.py for what a part is, and for its states.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import Factory, define

from stages.events import ChatRequest
from stages.translation.parts import Prose, Thought, ToolCall, ToolCalls
from stages.translation.shapes import mapping, text
from stages.wire import events as e
from stages.wire.errors import InternalError

#: As much as of an answer that is no stream; see stages/backends/answer.py.
MAX_HELD = 64 * 1024 * 1024


@define
class Blocks:
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
    _queue: list[Prose | ToolCall] = Factory(list)
    _ready: set[Prose | ToolCall] = Factory(set)
    """Those behind the live one that are ready. There may be thousands that are not."""
    _calls: ToolCalls = Factory(ToolCalls)
    _first_call: ToolCall | None = None
    """The first call that had a name."""
    _index: int = 0
    _sizes: dict[Prose | ToolCall, int] = Factory(lambda: defaultdict(int))
    """Characters of the parts of which nothing was sent so far."""
    _held: int = 0
    """Their sum."""

    @property
    def thinks(self) -> bool:
        """Whether the client wants to see thinking."""
        thinking = self.request.resolved.request.thinking
        return thinking is not None and thinking.wanted

    def add(self, kind: type[Prose], more: str, details: Sequence[dict[str, Any]] = ()) -> None:
        """Add to the last part, or begin one; thinking only if the client asked for it."""
        if (kind is Thought and not self.thinks) or not (more or details):
            return
        part = self._queue[-1] if self._queue else None
        if type(part) is not kind:
            part, thinking = kind(), self.request.resolved.request.thinking
            if isinstance(part, Thought) and thinking:
                part.backend = self.request.resolved.target.backend
                part.hidden = thinking.display == "omitted"
            self._queue.append(part)
        if part.state == "waiting" or (isinstance(part, Thought) and part.hidden):
            self._hold(part, len(more))
            for each in details:
                self._hold(part, len(text(each.get("data"))))
        part.add(more)
        if isinstance(part, Thought):
            part.details += details
        self._note(part)

    def add_call(self, fragment: dict[str, Any]) -> None:
        """Add a fragment of a tool call to the call it belongs to."""
        function = mapping(fragment.get("function"))
        name = text(function.get("name"))
        call = self._calls.find(fragment, name)
        if self.request.one_call and self._first_call not in (None, call):
            return
        size = call.add(name, function.get("arguments"))
        if not call.sent:
            self._sizes[call] += size  # as in `_hold`; a call takes time, and there are many
            self._held += size
            if self._held > self.max_held:
                raise self._too_much()
        if call.name and not call.queued:  # one without a name holds nothing up
            self._first_call = self._first_call or call
            call.queued = True
            self._queue.append(call)
        if call.queued and call.state == "waiting":
            self._note(call)

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

    def _hold(self, part: Prose | ToolCall, size: int) -> None:
        """Count what a part keeps. Raises InternalError where all of them keep too much."""
        self._sizes[part] += size
        self._held += size
        if self._held > self.max_held:
            raise self._too_much()

    def _too_much(self) -> InternalError:
        backend = self.request.resolved.target.backend
        return InternalError(
            f"backend `{backend}` sent more than {self.max_held} characters after a part of its "
            "answer that it had not ended: ask for a shorter answer"
        )

    def _note(self, part: Prose | ToolCall) -> None:
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
            yield from self._send_part(part, leaving)
            if not leaving:
                return
            part.state = "closed"
            del self._queue[0]
            if part in self._sizes:  # it had nothing worth a block
                self._held -= self._sizes.pop(part)
            self._ready.difference_update(self._queue[:1])

    @property
    def last_text(self) -> Prose | None:
        """The last part, if it is text: more text belongs to it."""
        part = self._queue[-1] if self._queue else None
        return part if type(part) is Prose else None

    def is_live(self, part: Prose) -> bool:
        """Whether `part` is that of the open block, and there is no other."""
        return part.state == "open" and self._queue == [part]

    def delta(self, kind: str, fragment: str) -> e.BlockDelta:
        """More of the open block."""
        if kind != "signature_delta":
            self.characters += len(fragment)
        return e.BlockDelta(self._index, kind, fragment)

    def _send_part(self, part: Prose | ToolCall, leaving: bool) -> Iterator[e.StreamEvent]:
        if part.state == "waiting" and (part.ready or (leaving and isinstance(part, ToolCall))):
            self.used_tool |= isinstance(part, ToolCall)
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

    def _opened(self, part: Prose | ToolCall) -> dict[str, Any]:
        block = part.open()
        if isinstance(part, ToolCall):
            block |= self.request.renamed.get(part.name, {})
        return block
