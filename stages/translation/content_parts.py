"""The content blocks of a response while their deltas arrive: text, thinking, tool use.

A part becomes one content block. Only the first part in the queue is *live*: its deltas are sent
at once. The other parts buffer, because one block is open at a time and backends may interleave
their tool calls.

    state of a part   a delta arrives                the queue
    ---------------   ---------------------------    -----------------------------------------
    waiting           is buffered                    opens it when it is live and not empty
    open              is sent                        closes it when a later part is ready and
                                                     this one is complete, or the response ends
    closed            none can arrive                drops it
"""

from __future__ import annotations

from typing import Any, Literal

from attrs import Factory, define, evolve, field

from stages.chat_completions.json_numbers import FiniteNumbers
from stages.chat_completions.opaque_members import OpaqueFragments, pop_members
from stages.chat_completions.tool_arguments import object_fragments
from stages.chat_completions.tool_calls import ToolCall
from stages.translation.envelope import Envelope, seal

State = Literal["waiting", "open", "closed"]


@define(eq=False)
class TextPart:
    """Text. White space alone opens no block: clients cannot send such a block back."""

    state: State = "waiting"
    pending: str = ""
    """Text of an open block that is not sent yet. It is taken at once, so it stays short."""
    _buffer: list[str] = Factory(list)
    _has_content: bool = False

    def add(self, text: str) -> None:
        """Add text to the part."""
        if self.state == "open":
            self.pending += text
            return
        self._buffer.append(text)
        self._has_content = self._has_content or bool(text.strip())

    @property
    def ready(self) -> bool:
        """Whether a waiting part has content that is worth a block."""
        return self._has_content

    @property
    def complete(self) -> bool:
        """Whether the block may be closed when another part follows."""
        return True

    def open(self) -> dict[str, Any]:
        """Open the part. Returns the content block, still empty."""
        self.state, self.pending = "open", "".join(self._buffer)
        self._buffer.clear()
        return self._block()

    def _block(self) -> dict[str, Any]:
        return {"type": "text", "text": ""}

    def take(self, last: bool) -> list[tuple[str, str]]:
        """Take the deltas to send now, as (kind, text). `last`: the block is closed after them.

        An object is sent while it arrives. So a stream also passes on the end of an object that is
        not valid JSON, of which the SDKs keep the complete members. The stage `repair-tools`
        repairs such an object before.
        """
        pending, self.pending = self.pending, ""
        return [("text_delta", pending)] if pending else []


@define(eq=False)
class ThinkingPart(TextPart):
    """Thinking. Its signature holds what its backend needs back in the next turn.

    `hidden`: the client wants the block, but not the text.
    """

    owner: str = ""
    hidden: bool = False
    attached: OpaqueFragments | None = None
    next_call: Envelope | None = None
    """Data of the tool call after the thinking that the call's id cannot hold."""
    _hidden_text: list[str] = Factory(list)

    @property
    def ready(self) -> bool:
        return bool(self.attached) or self._has_content

    def _block(self) -> dict[str, Any]:
        return {"type": "thinking", "thinking": "", "signature": ""}

    def take(self, last: bool) -> list[tuple[str, str]]:
        pending, self.pending = self.pending, ""
        if self.hidden:
            self._hidden_text.append(pending)
        deltas = [("thinking_delta", pending)] if pending and not self.hidden else []
        if last:
            envelope = self.next_call or Envelope(self.owner)
            members = {**envelope.message, **pop_members(self.attached)}
            envelope = evolve(envelope, text="".join(self._hidden_text), message=members)
            deltas.append(("signature_delta", seal(envelope)))
        return deltas


@define(eq=False)
class ToolUsePart:
    """A tool call as a content block. `id` is the client's id of it.

    `queued`: the part has its place in the queue.
    """

    call: ToolCall
    state: State = "waiting"
    id: str = field(default="", init=False)
    id_overflow: Envelope | None = field(default=None, init=False)
    """Data of the call that its id cannot hold."""
    members: dict[str, Any] = field(default=Factory(dict), init=False)
    """The opaque members that came before the call got its id."""
    sent: int = field(default=0, init=False)
    """The number of fragments that were sent."""
    queued: bool = field(default=False, init=False)
    _numbers: FiniteNumbers = field(factory=FiniteNumbers, init=False)

    @property
    def ready(self) -> bool:
        """Whether the call has a complete name and arguments."""
        return self.call.ready

    @property
    def complete(self) -> bool:
        """Whether the block may be closed when another part follows."""
        return self.call.complete

    def open(self) -> dict[str, Any]:
        """Open the part. Returns the content block, still empty."""
        self.state = "open"
        return {
            "type": "tool_use",
            "id": self.id,
            "name": self.call.name,
            "input": {},
            # Called by the model itself, not by a program that it wrote. Not null: the request
            # types allow no null here, and clients send the block back unchanged.
            "caller": {"type": "direct"},
        }

    def take(self, last: bool) -> list[tuple[str, str]]:
        """Take the deltas to send now, as (kind, text). `last`: the block is closed after them.

        An object is sent while it arrives. So a stream also passes on the end of an object that is
        not valid JSON, of which the SDKs keep the complete members. The stage `repair-tools`
        repairs such an object before.
        """
        call = self.call
        if last:
            call.finish()
        if call.fragments and not call.fragments[0].startswith("{"):
            if not last:
                return []
            call.fragments = object_fragments("".join(call.fragments))
        fragments, self.sent = call.fragments[self.sent :], len(call.fragments)
        fragments = [self._numbers.feed(fragment) for fragment in fragments]
        if last:
            fragments.append(self._numbers.end())
        return [("input_json_delta", fragment) for fragment in fragments if fragment]
