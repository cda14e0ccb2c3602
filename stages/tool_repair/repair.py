"""The chunks of a Chat Completions answer, with the tool calls of a weak model mended.

One object serves one answer, streamed or whole. Text flows, but for what may be a call; text in
parts, as few backends send it, is not looked at. The backend's own calls are held until their
arguments are whole: where text follows that are JSON by then, else until the answer ends. What was
cut is not repaired: half a command is another one.

A chunk becomes one or more: the last is the chunk itself with what is left of its delta, so that
all else it says (usage, finish reason) comes when it did.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from attrs import Factory, define

from stages.chat_completions.chunks import (
    THOUGHTS,
    DeltaReader,
    choices_of,
    failure,
    plain_text_delta,
)
from stages.chat_completions.finish_reasons import Finish, meaning
from stages.chat_completions.json_values import as_array, as_object, as_string
from stages.chat_completions.stop_sequences import reported_stop_sequence
from stages.chat_completions.think_tags import Kind, ThinkTags
from stages.events import ChatRequest
from stages.messages_api.errors import InternalError
from stages.tool_repair.argument_schema import ToolSchema
from stages.tool_repair.arguments import Outcome, Repairs, ends_as_json, repair_arguments
from stages.tool_repair.formats import FoundCall
from stages.tool_repair.scanner import FoundCalls, ToolCallScanner
from stages.translation.content_blocks import MAX_HELD
from stages.translation.opaque_members import OpaqueFragments, taken
from stages.translation.parts import ToolCall, ToolCalls

_TAKEN = ("content", "tool_calls", "function_call")
#: What parts the text before it from the text behind it, beside calls.
_OTHERS = (*THOUGHTS, "reasoning_details", "refusal")

Delta = dict[str, Any]


def tools(request: ChatRequest) -> dict[str, Any]:
    """The schemas of the tools that the model may call, by the names it knows."""
    choice = request.resolved.request.tool_choice
    if choice and choice.type == "none":  # which the backend may not know
        return {}
    functions = [
        as_object(as_object(each).get("function"))
        for each in as_array(request.options.get("tools"))
    ]
    return {as_string(each.get("name")): each.get("parameters") for each in functions if each}


@define
class ResponseRepair:
    """Repairs one answer. Call `chunk` for each chunk, then `end` once."""

    request: ChatRequest
    tools: dict[str, Any]
    done: list[str] = Factory(list)
    """What was done, for each call: `found` in the text, and what became of its arguments."""
    _repairs: Repairs = Factory(Repairs)
    _schemas: dict[str, ToolSchema] = Factory(dict)
    """Those that were asked."""
    _text: ToolCallScanner = Factory(
        lambda self: ToolCallScanner(self.tools, self._repairs), takes_self=True
    )
    _think_tags: ThinkTags = Factory(
        lambda self: ThinkTags(self.request.think_tags), takes_self=True
    )
    _calls: ToolCalls = Factory(ToolCalls)
    _calling: bool = False
    """Whether a call of the backend's came last."""
    max_held: int = MAX_HELD
    """Characters of calls that are kept, at most, because they are not whole."""
    _held: int = 0
    _sent: int = 0
    _whole: bool | None = None
    """Whether the backend said that it came to an end by itself; None while it has not ended."""
    _deltas: DeltaReader = Factory(DeltaReader)

    def chunk(self, data: Any) -> list[Any]:
        """The chunks to forward for one of the backend's."""
        if more := plain_text_delta(data):
            usual = self._think_tags.state == "outside" and not self._calling
            if usual and self._text.passes(more):
                return [data]
            return _spread(data, list(self._take_text(more)))
        choices = choices_of(data) if isinstance(data, dict) else []
        if isinstance(data, dict) and failure(data, choices):
            return [*_chunks(self._end_text(whole=False)), data]
        if not choices:
            return [data]
        if len(choices) > 1:
            *before, choice = choices
            chunks = [{"choices": [each]} for each in before] + [_with_choice(data, choice)]
            return [made for each in chunks for made in self.chunk(each)]
        (choice,) = choices
        deltas = list(self._take(choice))
        if reason := as_string(choice.get("finish_reason")):
            stop = reported_stop_sequence(
                choice, self.request.resolved.request.stop_sequences
            )  # within a call?
            self._whole = meaning(reason) is Finish.END and not stop
            deltas += self._rest(self._whole)
            if "found" in self.done and reason == "stop":
                data = _with_choice(data, {**choice, "finish_reason": "tool_calls"})
        return _spread(data, deltas)

    def end(self, done: bool) -> list[Any]:
        """The chunks to forward at the end. `done`: the backend said itself that it was over."""
        return _chunks(self._rest(done if self._whole is None else self._whole))

    def _take(self, choice: dict[str, Any]) -> Iterator[Delta]:
        delta = self._deltas.of(choice)
        content = delta.get("content")
        if (content and not isinstance(content, str)) or any(map(delta.get, _OTHERS)):
            yield from self._end_text(whole=False)
        left = {name: value for name, value in delta.items() if name not in _TAKEN}
        if as_array(content):
            left["content"] = content
        if left:
            yield left
        yield from self._take_text(as_string(content).removeprefix(self.request.echoed_prefill))
        for fragment in self._deltas.calls(choice, delta):
            yield from self._take_call(fragment)

    def _take_text(self, more: str) -> Iterator[Delta]:
        if self._calling and more.strip():
            self._calling = False
            if all(call.complete for call in self._calls.all):
                yield from self._own_calls(whole=True)
        yield from self._untagged(self._think_tags.feed(more))

    def _end_text(self, whole: bool) -> Iterator[Delta]:
        yield from self._untagged(self._think_tags.finish())
        yield from self._mend(self._text.finish(whole))

    def _untagged(self, pieces: Iterable[tuple[Kind, str]]) -> Iterator[Delta]:
        """Reasoning, in a field of its own, and text; calls are not looked for in reasoning."""
        for kind, piece in pieces:
            if kind == "thinking":
                yield {"reasoning_content": piece}
            else:
                yield from self._mend(self._text.feed(piece))

    def _take_call(self, fragment: dict[str, Any]) -> Iterator[Delta]:
        yield from self._end_text(whole=False)
        self._text.text_is_not_first()
        self._calling = True
        function = as_object(fragment.get("function"))
        name = as_string(function.get("name"))
        call = self._calls.find(fragment, name)
        self._held += call.add(name, function.get("arguments"))
        opaque = {each: fragment[each] for each in fragment if each in self.request.opaque.of_calls}
        if opaque:
            call.attached = call.attached or OpaqueFragments()
            self._held += call.attached.take(opaque)
        if self._held > self.max_held:
            raise InternalError(
                f"backend `{self.request.resolved.target.backend}` sent tool calls of more than "
                f"{self.max_held} characters: ask for a shorter answer"
            )

    def _rest(self, whole: bool) -> Iterator[Delta]:
        """What was held back, when the answer is over."""
        yield from self._end_text(whole)
        yield from self._own_calls(whole)

    def _own_calls(self, whole: bool) -> Iterator[Delta]:
        calls, self._calls, self._held = self._calls.all, ToolCalls(), 0
        for call in calls:
            yield self._own_call(call, whole)

    def _own_call(self, call: ToolCall, whole: bool) -> Delta:
        """A call of the backend's own."""
        arguments, how = call.arguments, ""
        cut = call.half and self.request.resolved.request.stop_sequences  # perhaps by one of them
        if whole and not cut and call.name in self.tools:
            arguments, how = self._mended(call.name, arguments)
        if how:
            self.done.append(how)
        return self._call(call.name, arguments, call.backend_id, taken(call.attached))

    def _mend(self, pieces: Iterable[str | FoundCalls]) -> Iterator[Delta]:
        """Text, and the calls that were found in it, unless one of them is past mending."""
        for piece in pieces:
            if isinstance(piece, str):
                yield {"content": piece}
                continue
            calls = [(each, *self._mended(each.name, each.arguments)) for each in piece.calls]
            if not all(_is_sure(call, how) for call, _, how in calls):
                self._text.give_up()
                yield {"content": piece.text}
                continue
            for call, arguments, how in calls:
                self.done += ["found", *([how] if how else ["repaired"] if call.repaired else [])]
                yield self._call(call.name, arguments)
            if piece.text_after:
                yield {"content": piece.text_after}

    def _mended(self, name: str, arguments: str) -> tuple[str, Outcome]:
        if name not in self._schemas:
            self._schemas[name] = ToolSchema(self.tools[name])
        return repair_arguments(arguments, self._schemas[name], self._repairs)

    def _call(
        self, name: str, arguments: str, identity: str = "", opaque: dict[str, Any] | None = None
    ) -> Delta:
        function = {"name": name, "arguments": arguments}
        call = {"index": self._sent, "id": identity, "type": "function", "function": function}
        self._sent += 1
        return {"tool_calls": [{**call, **(opaque or {})}]}


def _is_sure(call: FoundCall, how: Outcome) -> bool:
    """Whether what stands in the text is a call, and there are no other words in it."""
    if call.repaired or call.bare:
        return how in ("", "coerced")
    return how != "broken" and (how != "repaired" or ends_as_json(call.arguments))


def _chunks(deltas: Iterable[Delta]) -> list[Any]:
    return [{"choices": [{"index": 0, "delta": each}]} for each in deltas]


def _spread(data: dict[str, Any], deltas: list[Delta]) -> list[Any]:
    """`data` with these deltas in the place of its own: several chunks, if there are several."""
    *before, last = deltas or [{}]
    choice = {**choices_of(data)[0], "delta": last}
    choice.pop("message", None)
    return [*_chunks(before), _with_choice(data, choice)]


def _with_choice(data: dict[str, Any], choice: dict[str, Any]) -> dict[str, Any]:
    return {**data, "choices": [choice]}
