"""Assembles the tool calls of a Chat Completions response from their fragments."""

from __future__ import annotations

from typing import Any

from attrs import Factory, define, field

from stages.chat_completions.json_nesting import JsonNesting
from stages.chat_completions.json_values import as_string
from stages.chat_completions.opaque_members import OpaqueFragments
from stages.chat_completions.tool_arguments import repeats_document
from stages.wire import json_codec

#: Characters of one response that may be buffered: the limit of stages/backends/response.py for a
#: response without a stream.
MAX_BUFFERED = 64 * 1024 * 1024
_BRACKETS = ("{", "[", '"')
#: Characters of a number, or of `false`, that may still be incomplete.
_MAX_LITERAL = 1_000
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def is_valid_call_id(call_id: str, limit: int = 64) -> bool:
    """Whether every backend, and every client, accepts `call_id` unchanged."""
    return 0 < len(call_id) <= limit and _ID_CHARACTERS.issuperset(call_id)


@define(eq=False)
class ToolCall:
    """A tool call. Its name may come late or in pieces; its arguments are JSON in fragments.

    `backend_id` and `index` are the backend's; without an index, `index` is the call's place among
    the calls. Half a surrogate pair in the arguments becomes U+FFFD.
    """

    backend_id: str = ""
    index: int = 0
    name: str = ""
    attached: OpaqueFragments | None = field(default=None, init=False)
    """Opaque members of the call that are not taken yet."""
    fragments: list[str] = field(default=Factory(list), init=False)
    possible_repeat: list[str] = field(default=Factory(list), init=False)
    """Fragments after complete arguments that may repeat them."""
    _nesting: JsonNesting = field(factory=JsonNesting, init=False)
    _is_broken: bool = field(default=False, init=False)
    """Whether the arguments were closed without being JSON. More fragments cannot repair that."""
    _escape: str = field(default="", init=False)
    """An escape at the end of the last fragment. The next fragment may have its other half."""

    def add(self, name: str, arguments: Any) -> int:
        """Add a fragment and return its length. `arguments` may also be an object."""
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
        elif self.possible_repeat or fragment.lstrip()[:1] == self.fragments[0][:1]:
            return self._add_possible_repeat(fragment)
        if fragment:
            self.fragments.append(fragment)
        return len(fragment)

    def _add_possible_repeat(self, fragment: str) -> int:
        """Add a fragment that begins like the arguments, or follows such a fragment."""
        # Some gateways send "{}" first and the arguments after it.
        if self.fragments == ["{}"] and not self.possible_repeat and fragment.strip():
            self.fragments.clear()
            self._nesting, self._is_broken = JsonNesting(), False
            self.fragments.append(fragment.lstrip())
        elif self.possible_repeat or (
            self.fragments[0].startswith(_BRACKETS) and self.has_complete_arguments
        ):
            self.possible_repeat.append(fragment)
        else:
            self.fragments.append(fragment)
        return len(fragment)

    def finish(self) -> None:
        """Flush what is buffered, when no more fragments come; drop repeated arguments."""
        if self._escape:
            (self.possible_repeat or self.fragments).append(json_codec.repair_escapes(self._escape))
            self._escape = ""
        if self.possible_repeat and not repeats_document(
            "".join(self.possible_repeat), "".join(self.fragments)
        ):
            self.fragments += self.possible_repeat
        self.possible_repeat.clear()

    @property
    def arguments(self) -> str:
        """All arguments. Finishes the call."""
        self.finish()
        return "".join(self.fragments)

    @property
    def ready(self) -> bool:
        """Whether the name is complete: it is when the arguments have begun.

        A call without arguments, or with `{}`, is not ready: arguments may follow.
        """
        return bool(self.name and self.fragments and self.fragments != ["{}"])

    @property
    def truncated(self) -> bool:
        """Whether the arguments end within an object, a list or a string."""
        for fragment in self.fragments[self._nesting.fed :]:
            self._nesting.feed(fragment)
        return not self._nesting.closed

    @property
    def complete(self) -> bool:
        """Whether the call has a name, and its arguments are a complete JSON document."""
        return bool(self.name) and not self._escape and self.has_complete_arguments

    @property
    def has_complete_arguments(self) -> bool:
        """Whether the arguments without the buffered escape are a complete JSON document.

        Read at each fragment while another call waits, so it decodes only where it may succeed.
        """
        if self._is_broken or self.truncated:
            return False
        arguments = "".join(self.fragments)
        try:
            json_codec.decode(arguments.encode())
        except ValueError:
            self._is_broken = arguments.startswith(_BRACKETS) or len(arguments) > _MAX_LITERAL
            return False
        return True


@define
class ToolCalls:
    """The calls of one response. Finds the call of each fragment by its `index` and `id`.

    Backends omit `index`, repeat 0 for each call, omit `id`, or send another `id` with each
    fragment. Therefore a new id at a known index begins a call only if a name comes with it.
    Without index and id, a fragment continues the last call, unless that call is complete and the
    fragment has a name. The index of a call without one is its place among the calls.
    """

    calls: list[ToolCall] = Factory(list)
    _newest: dict[tuple[int | None, str], ToolCall] = Factory(dict)
    """The newest call by (index, id), by (index, "") and (None, id), and of all: (None, "").

    A response may have thousands of calls, so no fragment searches all of them.
    """

    def find(self, fragment: dict[str, Any], name: str) -> ToolCall:
        """Return the call that a fragment belongs to, which may be a new one."""
        call_id, index = as_string(fragment.get("id")), fragment.get("index")
        index = index if type(index) is int else None
        call = self._newest.get((index, ""))
        waits_for_id = index is not None and call and not call.backend_id
        if call_id and not waits_for_id:
            call = self._newest.get((index, call_id)) or (None if name else call)
        # `complete` last: it reads all arguments of the call.
        if call is None or (name and not call_id and call.complete):
            call = ToolCall(index=len(self.calls) if index is None else index)
            self.calls.append(call)
            self._newest[None, ""] = self._newest[call.index, ""] = call
        if call_id and not call.backend_id:
            call.backend_id = call_id
            self._newest[None, call_id] = self._newest[call.index, call_id] = call
        return call
