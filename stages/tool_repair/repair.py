"""Repair the tool calls of a weak model in the chunks of a Chat Completions response.

One object serves one response, streamed or whole. Text is forwarded at once, except for a possible
call; text as a list of parts, which few backends send, is not scanned. The backend's own calls are
buffered until their arguments are complete: until text follows and they are JSON, otherwise until
the response ends. Cut arguments are not repaired: half a command is another command.

A chunk becomes one or more. The last is the chunk itself with the remaining delta, so its other
members (usage, finish reason) keep their place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from attrs import Factory, define

from stages.chat_completions.chunks import (
    REASONING_MEMBERS,
    DeltaReader,
    choices_of,
    error_in_chunk,
    plain_text_delta,
)
from stages.chat_completions.finish_reasons import Finish, meaning
from stages.chat_completions.json_values import as_array, as_object, as_string
from stages.chat_completions.opaque_members import OpaqueFragments, pop_members
from stages.chat_completions.stop_sequences import reported_stop_sequence
from stages.chat_completions.think_tags import Kind, ThinkTags
from stages.chat_completions.tool_calls import MAX_BUFFERED, ToolCall, ToolCalls
from stages.events import ChatRequest
from stages.messages_api.errors import InternalError
from stages.tool_repair.argument_schema import ToolSchema
from stages.tool_repair.arguments import JsonRepair, RepairOutcome, ends_as_json, repair_arguments
from stages.tool_repair.formats import FoundCall
from stages.tool_repair.scanner import FoundCalls, ToolCallScanner

_REPLACED_MEMBERS = ("content", "tool_calls", "function_call")
#: Members that separate the text before them from the text after them, besides calls.
_SEPARATING_MEMBERS = (*REASONING_MEMBERS, "reasoning_details", "refusal")

Delta = dict[str, Any]


def tool_schemas(request: ChatRequest) -> dict[str, Any]:
    """The schemas of the tools that the model may call, by the names in the request."""
    choice = request.resolved.request.tool_choice
    if choice and choice.type == "none":  # the backend may not support `none`
        return {}
    functions = [
        as_object(as_object(each).get("function"))
        for each in as_array(request.options.get("tools"))
    ]
    return {as_string(each.get("name")): each.get("parameters") for each in functions if each}


@define
class ResponseRepair:
    """Repairs one response. Call `repair_chunk` for each chunk, then `finish` once."""

    request: ChatRequest
    tools: dict[str, Any]
    outcomes: list[str] = Factory(list)
    """For each call: `found` if it was in the text, and the outcome for its arguments."""
    _repairs: JsonRepair = Factory(JsonRepair)
    _schemas: dict[str, ToolSchema] = Factory(dict)
    """The schemas used so far."""
    _text: ToolCallScanner = Factory(
        lambda self: ToolCallScanner(self.tools, self._repairs), takes_self=True
    )
    _think_tags: ThinkTags = Factory(
        lambda self: ThinkTags(self.request.think_tags), takes_self=True
    )
    _calls: ToolCalls = Factory(ToolCalls)
    _in_calls: bool = False
    """Whether a fragment of a backend's call came last."""
    max_buffered: int = MAX_BUFFERED
    """Limit on the characters of calls that are buffered because they are incomplete."""
    _buffered: int = 0
    _calls_sent: int = 0
    _complete: bool | None = None
    """Whether the response ended normally, by its finish reason; None before that."""
    _deltas: DeltaReader = Factory(DeltaReader)

    def repair_chunk(self, data: Any) -> list[Any]:
        """The chunks to forward for one chunk of the backend."""
        if more := plain_text_delta(data):
            is_plain = self._think_tags.state == "outside" and not self._in_calls
            if is_plain and self._text.is_plain_text(more):
                return [data]
            return _with_deltas(data, list(self._take_text(more)))
        choices = choices_of(data) if isinstance(data, dict) else []
        if isinstance(data, dict) and error_in_chunk(data, choices):
            return [*_chunks(self._flush_text(whole=False)), data]
        if not choices:
            return [data]
        if len(choices) > 1:
            *before, choice = choices
            chunks = [{"choices": [other]} for other in before] + [_with_choice(data, choice)]
            return [repaired for chunk in chunks for repaired in self.repair_chunk(chunk)]
        (choice,) = choices
        deltas = list(self._take(choice))
        if reason := as_string(choice.get("finish_reason")):
            sequences = self.request.resolved.request.stop_sequences
            stop = reported_stop_sequence(choice, sequences)  # perhaps within a call
            self._complete = meaning(reason) is Finish.END and not stop
            deltas += self._flush(self._complete)
            if "found" in self.outcomes and reason == "stop":
                data = _with_choice(data, {**choice, "finish_reason": "tool_calls"})
        return _with_deltas(data, deltas)

    def finish(self, done: bool) -> list[Any]:
        """The chunks to forward at the end. `done`: the backend marked the stream as complete."""
        return _chunks(self._flush(done if self._complete is None else self._complete))

    def _take(self, choice: dict[str, Any]) -> Iterator[Delta]:
        delta = self._deltas.delta(choice)
        content = delta.get("content")
        if (content and not isinstance(content, str)) or any(map(delta.get, _SEPARATING_MEMBERS)):
            yield from self._flush_text(whole=False)
        other_members = {
            name: value for name, value in delta.items() if name not in _REPLACED_MEMBERS
        }
        if as_array(content):
            other_members["content"] = content
        if other_members:
            yield other_members
        yield from self._take_text(as_string(content).removeprefix(self.request.echoed_prefill))
        for fragment in self._deltas.tool_call_fragments(choice, delta):
            yield from self._take_call(fragment)

    def _take_text(self, more: str) -> Iterator[Delta]:
        if self._in_calls and more.strip():
            self._in_calls = False
            if all(call.complete for call in self._calls.calls):
                yield from self._flush_backend_calls(whole=True)
        yield from self._split_think_tags(self._think_tags.feed(more))

    def _flush_text(self, whole: bool) -> Iterator[Delta]:
        yield from self._split_think_tags(self._think_tags.finish())
        yield from self._repair_text(self._text.finish(whole))

    def _split_think_tags(self, parts: Iterable[tuple[Kind, str]]) -> Iterator[Delta]:
        """Move reasoning to its own member, and scan only the text for calls."""
        for kind, part in parts:
            if kind == "thinking":
                yield {"reasoning_content": part}
            else:
                yield from self._repair_text(self._text.feed(part))

    def _take_call(self, fragment: dict[str, Any]) -> Iterator[Delta]:
        yield from self._flush_text(whole=False)
        self._text.text_is_not_first()
        self._in_calls = True
        function = as_object(fragment.get("function"))
        name = as_string(function.get("name"))
        call = self._calls.find(fragment, name)
        self._buffered += call.add(name, function.get("arguments"))
        opaque = {each: fragment[each] for each in fragment if each in self.request.opaque.of_calls}
        if opaque:
            call.attached = call.attached or OpaqueFragments()
            self._buffered += call.attached.add(opaque)
        if self._buffered > self.max_buffered:
            raise InternalError(
                f"backend `{self.request.resolved.target.backend}` sent tool calls of more than "
                f"{self.max_buffered} characters: ask for a shorter response"
            )

    def _flush(self, whole: bool) -> Iterator[Delta]:
        """Yield the buffered text and calls, at the end of the response."""
        yield from self._flush_text(whole)
        yield from self._flush_backend_calls(whole)

    def _flush_backend_calls(self, whole: bool) -> Iterator[Delta]:
        calls, self._calls, self._buffered = self._calls.calls, ToolCalls(), 0
        for call in calls:
            yield self._backend_call(call, whole)

    def _backend_call(self, call: ToolCall, whole: bool) -> Delta:
        """Repair a call from the backend."""
        arguments, outcome = call.arguments, ""
        cut = (
            call.truncated and self.request.resolved.request.stop_sequences
        )  # perhaps cut by one of them
        if whole and not cut and call.name in self.tools:
            arguments, outcome = self._repair_arguments(call.name, arguments)
        if outcome:
            self.outcomes.append(outcome)
        return self._call(call.name, arguments, call.backend_id, pop_members(call.attached))

    def _repair_text(self, parts: Iterable[str | FoundCalls]) -> Iterator[Delta]:
        """Yield text, and the calls found in it, unless one of them is beyond repair."""
        for part in parts:
            if isinstance(part, str):
                yield {"content": part}
                continue
            calls = [
                (each, *self._repair_arguments(each.name, each.arguments)) for each in part.calls
            ]
            if not all(_is_sure(call, outcome) for call, _, outcome in calls):
                self._text.give_up()
                yield {"content": part.text}
                continue
            for call, arguments, outcome in calls:
                self.outcomes += [
                    "found",
                    *([outcome] if outcome else ["repaired"] if call.is_repaired else []),
                ]
                yield self._call(call.name, arguments)
            if part.text_after:
                yield {"content": part.text_after}

    def _repair_arguments(self, name: str, arguments: str) -> tuple[str, RepairOutcome]:
        if name not in self._schemas:
            self._schemas[name] = ToolSchema(self.tools[name])
        return repair_arguments(arguments, self._schemas[name], self._repairs)

    def _call(
        self, name: str, arguments: str, identity: str = "", opaque: dict[str, Any] | None = None
    ) -> Delta:
        function = {"name": name, "arguments": arguments}
        call = {"index": self._calls_sent, "id": identity, "type": "function", "function": function}
        self._calls_sent += 1
        return {"tool_calls": [{**call, **(opaque or {})}]}


def _is_sure(call: FoundCall, outcome: RepairOutcome) -> bool:
    """Whether the text is certainly a call, without other words in it."""
    if call.is_repaired or call.is_bare:
        return outcome in ("", "coerced")
    return outcome != "broken" and (outcome != "repaired" or ends_as_json(call.arguments))


def _chunks(deltas: Iterable[Delta]) -> list[Any]:
    return [{"choices": [{"index": 0, "delta": each}]} for each in deltas]


def _with_deltas(data: dict[str, Any], deltas: list[Delta]) -> list[Any]:
    """`data` with its delta replaced by these: a chunk for each."""
    *before, last = deltas or [{}]
    choice = {**choices_of(data)[0], "delta": last}
    choice.pop("message", None)
    return [*_chunks(before), _with_choice(data, choice)]


def _with_choice(data: dict[str, Any], choice: dict[str, Any]) -> dict[str, Any]:
    return {**data, "choices": [choice]}
