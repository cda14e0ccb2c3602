"""The parts of one answer, sent as content blocks: one at a time, in order.

See parts.py for what a part is, and for its states.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from attrs import Factory, define

from stages.events import ChatRequest
from stages.translation.parts import Prose, Thought, ToolCall, ToolCalls
from stages.translation.shapes import mapping, text
from stages.wire import events as e


@define
class Blocks:
    """The queue of parts; the first one is live. `characters` counts what was sent."""

    request: ChatRequest
    characters: int = 0
    used_tool: bool = False
    _queue: list[Prose | ToolCall] = Factory(list)
    _calls: ToolCalls = Factory(ToolCalls)
    _open: bool = False
    _index: int = 0

    @property
    def thinks(self) -> bool:
        """Whether the client wants to see thinking."""
        thinking = self.request.resolved.request.thinking
        return thinking is not None and thinking.wanted

    def add(self, kind: type[Prose], more: str, anyway: bool = False) -> Prose | None:
        """Add to the last part, or begin one; thinking only if the client asked for it."""
        if (kind is Thought and not self.thinks) or not (more or anyway):
            return None
        last = self._queue[-1] if self._queue else None
        if type(last) is not kind:
            last, thinking = kind(), self.request.resolved.request.thinking
            if isinstance(last, Thought) and thinking:
                last.backend = self.request.resolved.target.backend
                last.hidden = thinking.display == "omitted"
            self._queue.append(last)
        last.add(more)
        return last

    def add_call(self, fragment: dict[str, Any]) -> None:
        """Add a fragment of a tool call to the call it belongs to."""
        function = mapping(fragment.get("function"))
        name = text(function.get("name"))
        call = self._calls.find(fragment, name)
        if self.request.one_call and call is not self._calls.first_named(call):
            return
        call.add(name, function.get("arguments"))
        if call.name and not call.queued:  # one without a name holds nothing up
            call.queued = True
            self._queue.append(call)

    def send(self, last: bool) -> Iterator[e.StreamEvent]:
        """What can be sent now: the live part's news, and that of parts it makes way for."""
        while self._queue:
            part = self._queue[0]
            alone = len(self._queue) == 1
            followed = not alone and any(each.ready for each in islice(self._queue, 1, None))
            leaving = last or (followed and part.complete)
            yield from self._send_part(part, leaving)
            if not leaving:
                return
            del self._queue[0]

    @property
    def last_text(self) -> Prose | None:
        """The last part, if it is text: more text belongs to it."""
        part = self._queue[-1] if self._queue else None
        return part if type(part) is Prose else None

    def is_live(self, part: Prose) -> bool:
        """Whether `part` is that of the open block, and there is no other."""
        return self._open and self._queue == [part]

    def delta(self, kind: str, fragment: str) -> e.BlockDelta:
        """More of the open block."""
        self.characters += len(fragment)
        return e.BlockDelta(self._index, kind, fragment)

    def _send_part(self, part: Prose | ToolCall, leaving: bool) -> Iterator[e.StreamEvent]:
        if not self._open and (part.ready or (leaving and isinstance(part, ToolCall))):
            self._open = True
            self.used_tool |= isinstance(part, ToolCall)
            yield e.BlockStart(self._index, self._block(part))
        if not self._open:
            return
        for kind, fragment in part.take(leaving):
            yield self.delta(kind, fragment)
        if leaving:
            yield e.BlockStop(self._index)
            self._open = False
            self._index += 1

    def _block(self, part: Prose | ToolCall) -> dict[str, Any]:
        block = part.block()
        if isinstance(part, ToolCall):
            block |= self.request.renamed.get(part.name, {})
        return block
