"""The parts of an answer while they arrive: text, thinking, tool calls.

A part is a piece of the stream that becomes one content block. Only the first part in the
queue of an answer is *live*: what it gets is sent at once. The others collect, because one
block is open at a time and backends may interleave their tool calls.

    state of a part   what arrives for it            what the queue does
    ---------------   ---------------------------    -----------------------------------------
    waiting           is collected                   live, and it has something: opens it
    open              is sent                        a later part is there, and it is complete,
                                                     or the answer ends: closes it
    closed            nothing can arrive             drops it
"""

from __future__ import annotations

from typing import Any, Literal

from attrs import Factory, define, evolve, field

from stages.chat_completions.json_nesting import JsonNesting
from stages.chat_completions.json_numbers import FiniteNumbers
from stages.chat_completions.json_values import as_string
from stages.chat_completions.tool_arguments import object_fragments, repeats_document
from stages.translation.envelope import Envelope, seal
from stages.translation.opaque_members import OpaqueFragments, taken
from stages.wire import json_codec

State = Literal["waiting", "open", "closed"]

_BRACKETS = ("{", "[", '"')
#: Characters of a number, or of `false`, that may not be whole.
_MAX_LITERAL = 1_000


@define(eq=False)
class TextPart:
    """Text. White space alone opens no block: clients cannot send such one back."""

    state: State = "waiting"
    pending: str = ""
    """Of an open one, what was not sent. It is taken at once, so it stays short."""
    _waiting: list[str] = Factory(list)
    _says_something: bool = False

    def add(self, more: str) -> None:
        """Collect more of it."""
        if self.state == "open":
            self.pending += more
            return
        self._waiting.append(more)
        self._says_something = self._says_something or bool(more.strip())

    @property
    def ready(self) -> bool:
        """Whether there is something worth a block, of one that waits."""
        return self._says_something

    @property
    def complete(self) -> bool:
        """Whether it may be closed when another part follows."""
        return True

    def open(self) -> dict[str, Any]:
        """From now on it is open. Gives the content block, still empty."""
        self.state, self.pending = "open", "".join(self._waiting)
        self._waiting.clear()
        return self._block()

    def _block(self) -> dict[str, Any]:
        return {"type": "text", "text": ""}

    def take(self, last: bool) -> list[tuple[str, str]]:
        """The deltas to send now, as (kind, text)."""
        pending, self.pending = self.pending, ""
        return [("text_delta", pending)] if pending else []


@define(eq=False)
class ThinkingPart(TextPart):
    """Thinking. Its signature holds what its backend needs to have back in the next turn.

    `hidden`: the client wants the block, but not the text. `rest` belongs to the call after it.
    """

    owner: str = ""
    hidden: bool = False
    attached: OpaqueFragments | None = None
    rest: Envelope | None = None
    _unseen: list[str] = Factory(list)

    @property
    def ready(self) -> bool:
        return bool(self.attached) or self._says_something

    def _block(self) -> dict[str, Any]:
        return {"type": "thinking", "thinking": "", "signature": ""}

    def take(self, last: bool) -> list[tuple[str, str]]:
        pending, self.pending = self.pending, ""
        if self.hidden:
            self._unseen.append(pending)
        deltas = [("thinking_delta", pending)] if pending and not self.hidden else []
        if last:
            held = self.rest or Envelope(self.owner)
            members = {**held.message, **taken(self.attached)}
            envelope = evolve(held, text="".join(self._unseen), message=members)
            deltas.append(("signature_delta", seal(envelope)))
        return deltas


@define(eq=False)
class ToolCall:
    """A tool call. Its name may come late or in pieces; arguments are JSON in fragments.

    `backend_id` is as the backend gave it, `index` too, or else its place among the calls.
    `queued`: it has its place among the parts. One without arguments, or with `{}`, is not ready:
    some may follow. Half a surrogate pair in the arguments becomes U+FFFD. `id` is for the client.
    """

    state: State = "waiting"
    backend_id: str = ""
    index: int = 0
    name: str = ""
    id: str = field(default="", init=False)
    rest: Envelope | None = field(default=None, init=False)
    """What belongs to it that its id does not hold."""
    attached: OpaqueFragments | None = field(default=None, init=False)
    """Opaque members that came for it since it has its id, or before that."""
    members: dict[str, Any] = field(default=Factory(dict), init=False)
    """Those that came before."""
    fragments: list[str] = field(default=Factory(list), init=False)
    sent: int = field(default=0, init=False)
    queued: bool = field(default=False, init=False)
    _nesting: JsonNesting = field(factory=JsonNesting, init=False)
    _is_broken: bool = field(default=False, init=False)
    """Whether the arguments were closed and were no JSON: more of them makes them none either."""
    _numbers: FiniteNumbers = field(factory=FiniteNumbers, init=False)
    _escape: str = field(default="", init=False)
    """Held back: the next fragment may have the other half of it."""
    again: list[str] = field(default=Factory(list), init=False)
    """What begins like the arguments, after the whole of them: it may repeat them."""

    def add(self, name: str, arguments: Any) -> int:
        """Take in a fragment; gives its length. Arguments may also come as an object."""
        if name and name != self.name and not (self.name and self.fragments):
            self.name += name
        if type(arguments) is str:
            fragment = arguments
        else:
            fragment = "" if arguments is None else json_codec.encode(arguments).decode()
        if self._escape or "\\" in fragment:
            fragment, self._escape = json_codec.split_escape(self._escape + fragment)
            fragment = json_codec.repair_escapes(fragment)
        if not self.fragments:  # official SDKs fail on white space alone
            fragment = fragment.lstrip()
        elif self.again or fragment.lstrip()[:1] == self.fragments[0][:1]:
            return self._begin_again(fragment)
        if fragment:
            self.fragments.append(fragment)
        return len(fragment)

    def _begin_again(self, fragment: str) -> int:
        """Take in a fragment that begins as the arguments do."""
        # Some gateways begin with "{}" and send the arguments after it.
        if self.fragments == ["{}"] and not self.again and fragment.strip():
            self.fragments.clear()
            self._nesting, self._is_broken = JsonNesting(), False
            self.fragments.append(fragment.lstrip())
        elif self.again or (self.fragments[0].startswith(_BRACKETS) and self.whole):
            self.again.append(fragment)
        else:
            self.fragments.append(fragment)
        return len(fragment)

    def _end(self) -> None:
        """No more of the arguments comes: what was held back is one of them, or said again."""
        if self._escape:
            (self.again or self.fragments).append(json_codec.repair_escapes(self._escape))
            self._escape = ""
        if self.again and not repeats_document("".join(self.again), "".join(self.fragments)):
            self.fragments += self.again
        self.again.clear()

    @property
    def arguments(self) -> str:
        """All there is of them; to be asked when no more comes."""
        self._end()
        return "".join(self.fragments)

    @property
    def ready(self) -> bool:
        """Whether its name is whole: it is when arguments have begun."""
        return bool(self.name and self.fragments and self.fragments != ["{}"])

    @property
    def half(self) -> bool:
        """Whether its arguments end within an object, a list or a string."""
        for fragment in self.fragments[self._nesting.fed :]:
            self._nesting.feed(fragment)
        return not self._nesting.closed

    @property
    def complete(self) -> bool:
        """Whether it has a name, and its arguments are a whole JSON document."""
        return bool(self.name) and not self._escape and self.whole

    @property
    def whole(self) -> bool:
        """Whether its arguments are a whole JSON document, but for what is held back.

        It is asked at each fragment while another call waits: so all is read only where it can be.
        """
        if self._is_broken or self.half:
            return False
        arguments = "".join(self.fragments)
        try:
            json_codec.decode(arguments.encode())
        except ValueError:
            self._is_broken = arguments.startswith(_BRACKETS) or len(arguments) > _MAX_LITERAL
            return False
        return True

    def open(self) -> dict[str, Any]:
        """From now on it is open. Gives the content block, still empty."""
        self.state = "open"
        return {
            "type": "tool_use",
            "id": self.id,
            "name": self.name,
            "input": {},
            # By the model itself, not from a program that it wrote. Not null: the types of
            # requests allow none here, and clients send the block back as it is.
            "caller": {"type": "direct"},
        }

    def take(self, last: bool) -> list[tuple[str, str]]:
        """The deltas to send now, as (kind, text).

        An object is sent while it arrives, so a stream passes on the rest of one that is not valid
        JSON too. The SDKs keep its complete members. The stage `repair-tools` repairs it before.
        """
        if last:
            self._end()
        if self.fragments and not self.fragments[0].startswith("{"):
            if not last:
                return []
            self.fragments = object_fragments("".join(self.fragments))
        fragments, self.sent = self.fragments[self.sent :], len(self.fragments)
        fragments = [self._numbers.feed(fragment) for fragment in fragments]
        if last:
            fragments.append(self._numbers.end())
        return [("input_json_delta", fragment) for fragment in fragments if fragment]


@define
class ToolCalls:
    """The calls of one answer, found again by what the backend says of each fragment.

    Backends leave out `index`, repeat 0 for each call, leave out `id`, or give each fragment
    another one. So: another id at a known index is another call if it comes with a name; with
    neither, the fragment goes on with the last call, unless that is complete and a new name comes.
    A call without an index has its place as one.
    """

    all: list[ToolCall] = Factory(list)
    _newest: dict[tuple[int | None, str], ToolCall] = Factory(dict)
    """By (index, id); by (index, "") and (None, id) whatever the other is; (None, "") of all.

    An answer may have thousands of calls, so none is looked for among all of them.
    """

    def find(self, fragment: dict[str, Any], name: str) -> ToolCall:
        """The call a fragment belongs to, which may be a new one."""
        identity, index = as_string(fragment.get("id")), fragment.get("index")
        index = index if type(index) is int else None
        call = self._newest.get((index, ""))
        waits = index is not None and call and not call.backend_id  # for its id
        if identity and not waits:
            call = self._newest.get((index, identity)) or (None if name else call)
        # `complete` last: it reads all there is of the call.
        if call is None or (name and not identity and call.complete):
            call = ToolCall(index=len(self.all) if index is None else index)
            self.all.append(call)
            self._newest[None, ""] = self._newest[call.index, ""] = call
        if identity and not call.backend_id:
            call.backend_id = identity
            self._newest[None, identity] = self._newest[call.index, identity] = call
        return call
