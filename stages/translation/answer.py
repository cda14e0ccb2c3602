"""The chunks of a Chat Completions answer as stream events of the Messages API.

One translator serves one answer, streamed or whole: a completion is one big chunk. It is
pure: chunks in, events out, and ApiError where the backend failed.

    state      chunk                  end, with a finish_reason       end, without one
    --------   --------------------   -----------------------------   ----------------
    silent     with its first         error: no answer                error
               choice: message_start,
               then as answering
    answering  deltas of the live     rest of all parts, then         error
               part (see parts.py)    message_delta, message_stop

An error in a chunk is raised in every state; the open block is then left open, because a
client would take a closed one for a whole answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import Factory, define, evolve

from stages.backends.errors import error_in_answer
from stages.events import ChatRequest
from stages.translation.parts import Prose, Thought, ToolCall, ToolCalls
from stages.translation.shapes import items, mapping, text
from stages.translation.think_tags import ThinkTags
from stages.translation.usage import estimated_input, estimated_output, usage
from stages.wire import events as e
from stages.wire.errors import InternalError
from stages.wire.ids import new_message_id

_STOP_REASONS = {"length": "max_tokens", "content_filter": "refusal"}
_FAILED = ("error", "abort")


@define
class AnswerTranslator:
    """Translates one answer. Call `chunk` for each chunk, then `end` once."""

    request: ChatRequest
    _queue: list[Prose | ToolCall] = Factory(list)
    _calls: ToolCalls = Factory(ToolCalls)
    _think_tags: ThinkTags = Factory(ThinkTags)
    _begun: bool = False
    _said: str = ""
    _open: bool = False
    _index: int = 0
    _characters: int = 0
    _used_tool: bool = False
    _finish: str = ""
    _stop_sequence: str | None = None
    _refused: bool = False
    _usage: dict[str, Any] = Factory(dict)
    _estimate: int = 0

    def chunk(self, data: Any) -> list[e.StreamEvent]:
        """The events one chunk leads to. Raises ApiError when it carries an error."""
        if not isinstance(data, dict):
            raise InternalError(f"backend `{self._backend}` sent a chunk that is no JSON object")
        if data.get("error"):
            raise error_in_answer(self._backend, data["error"])
        self._usage = mapping(data.get("usage")) or self._usage
        choices = map(mapping, items(data.get("choices")))
        choice = next((each for each in choices if each.get("index") in (0, None)), {})
        if not choice and not self._begun:  # an answer begins with its first choice
            self._said = text(data.get("message")) or text(data.get("detail")) or self._said
            return []
        started = [] if self._begun else [self._start()]
        self._begun = True
        self._take_choice(choice)
        return [*started, *self._send(last=False)]

    def end(self, done: bool) -> list[e.StreamEvent]:
        """The events that end the answer. `done`: the backend said itself that it was over.

        Raises InternalError when the answer is not whole.
        """
        if not self._begun:
            said = f": {self._said[:200]}" if self._said else ""
            raise InternalError(f"backend `{self._backend}` sent no answer{said}")
        if not self._finish and not done:
            raise InternalError(f"backend `{self._backend}` closed the stream early")
        if self._finish in _FAILED:
            raise InternalError(f"backend `{self._backend}` broke off its answer")
        self._end_text()
        return [*self._send(last=True), self._message_delta(), e.MessageStop()]

    @property
    def _backend(self) -> str:
        return self.request.resolved.target.backend

    def _start(self) -> e.StreamEvent:
        request = self.request.resolved.request
        self._estimate = estimated_input(self.request)
        return e.MessageStart(
            id=new_message_id(),
            model=request.model,
            usage=e.Usage(input_tokens=self._estimate, output_tokens=1),
            streamed=request.stream,
            notes=self.request.notes,
        )

    def _take_choice(self, choice: dict[str, Any]) -> None:
        delta = mapping(choice.get("delta")) or mapping(choice.get("message"))
        self._take_reasoning(delta)
        content = delta.get("content")
        self._take_text(text(content))
        for part in items(content):
            self._end_text()
            self._take_part(mapping(part))
        if refusal := text(delta.get("refusal")):
            self._refused = True
            self._end_text()
            self._add(Prose, refusal)
        for position, call in enumerate(items(delta.get("tool_calls"))):
            whole = {} if "delta" in choice else {"index": position}  # each one a call of its own
            self._take_call({**mapping(call), **whole})
        if legacy := mapping(delta.get("function_call")):
            self._take_call({"index": 0, "function": legacy})
        self._finish = text(choice.get("finish_reason")) or self._finish
        self._stop_sequence = text(choice.get("stop_reason")) or self._stop_sequence

    def _take_reasoning(self, delta: dict[str, Any]) -> None:
        """Reasoning, in whichever of the fields; two may carry the same text."""
        details = [each for each in items(delta.get("reasoning_details")) if mapping(each)]
        told = "".join(text(d.get("text")) or text(d.get("summary")) for d in details)
        plain = text(delta.get("reasoning_content")) or text(delta.get("reasoning"))
        if plain or told:
            self._end_text()
        thought = self._add(Thought, plain or told, bool(details))
        if isinstance(thought, Thought):
            thought.details += details

    def _take_text(self, more: str) -> None:
        if not more or not self.request.think_tags:
            self._add(Prose, more)
            return
        for kind, piece in self._think_tags.feed(more):
            self._add(Thought if kind == "thinking" else Prose, piece)

    def _end_text(self) -> None:
        """What was held back as the beginning of a tag is none: something else follows."""
        for kind, piece in self._think_tags.finish():
            self._add(Thought if kind == "thinking" else Prose, piece)

    def _take_part(self, part: dict[str, Any]) -> None:
        """A member of a content list, as some backends send it."""
        self._add(Prose, text(part.get("text")))
        for summary in items(part.get("summary")):
            self._add(Thought, text(mapping(summary).get("text")))

    def _take_call(self, fragment: dict[str, Any]) -> None:
        self._end_text()
        function = mapping(fragment.get("function"))
        name = text(function.get("name"))
        call = self._calls.find(fragment, name)
        if self.request.one_call and call is not self._calls.first_named(call):
            return
        if call not in self._queue and not call.opened:
            self._queue.append(call)
        call.add(name, function.get("arguments"))

    def _add(self, kind: type[Prose], more: str, anyway: bool = False) -> Prose | None:
        """Add to the last part, or begin one; thinking only if the client asked for it."""
        thinking = self.request.resolved.request.thinking
        unwanted = kind is Thought and not (thinking and thinking.wanted)
        if unwanted or not (more or anyway):
            return None
        last = self._queue[-1] if self._queue else None
        if type(last) is not kind:
            last = kind()
            if isinstance(last, Thought) and thinking:
                last.backend, last.hidden = self._backend, thinking.display == "omitted"
            self._queue.append(last)
        last.add(more)
        return last

    def _send(self, last: bool) -> Iterator[e.StreamEvent]:
        """What can be sent now: the live part's news, and that of parts it makes way for."""
        while self._queue:
            part = self._queue[0]
            followed = any(later.ready for later in self._queue[1:])
            leaving = last or (followed and part.complete)
            yield from self._send_part(part, leaving)
            if not leaving:
                return
            del self._queue[0]

    def _send_part(self, part: Prose | ToolCall, leaving: bool) -> Iterator[e.StreamEvent]:
        worth_it = part.ready or (leaving and isinstance(part, ToolCall) and part.name)
        if not self._open and worth_it:
            self._open = True
            self._used_tool |= isinstance(part, ToolCall)
            yield e.BlockStart(self._index, self._block(part))
        if not self._open:
            return
        for kind, fragment in part.take(leaving):
            self._characters += len(fragment)
            yield e.BlockDelta(self._index, kind, fragment)
        if leaving:
            yield e.BlockStop(self._index)
            self._open = False
            self._index += 1

    def _block(self, part: Prose | ToolCall) -> dict[str, Any]:
        block = part.block()
        if isinstance(part, ToolCall):
            block |= self.request.renamed.get(part.name, {})
        return block

    def _message_delta(self) -> e.MessageDelta:
        reason = _STOP_REASONS.get(self._finish, "end_turn")
        if reason == "end_turn":
            reason = self._ended()
        refused = {"type": "refusal", "category": None, "explanation": None}
        return e.MessageDelta(
            stop_reason=reason,
            stop_sequence=self._stop_sequence if reason == "stop_sequence" else None,
            stop_details=refused if reason == "refusal" else None,
            usage=self._final_usage(),
        )

    def _ended(self) -> str:
        """Why an answer ended that was not cut: by what is in it, whatever the backend calls it."""
        if self._used_tool:
            return "tool_use"
        if self._refused:
            return "refusal"
        return "stop_sequence" if self._stop_sequence else "end_turn"

    def _final_usage(self) -> e.Usage:
        told = usage(self._usage)
        if not told.prompt_tokens:
            told = evolve(told, input_tokens=self._estimate)
        return evolve(told, output_tokens=told.output_tokens or estimated_output(self._characters))
