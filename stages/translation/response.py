"""The chunks of a Chat Completions answer as stream events of the Messages API.

One translator serves one answer, streamed or whole: a completion is one big chunk. It is
pure: chunks in, events out, and ApiError where the backend failed.

    state      chunk                  end, with a finish_reason       end, without one
    --------   --------------------   -----------------------------   --------------------------
    silent     with its first         error: no answer                error: no answer
               choice: message_start
               if it is not announced,
               then as answering
    answering  deltas of the live     rest of all parts, then         error, unless `[DONE]` came
               part (see blocks.py)   message_delta, message_stop;    after something was said,
                                      error where the reason is a     and nothing else but chunks
                                      failure                         after it
    answering  with a stop sequence   (the backend is not read any further)
               that is looked for
               here: as at the end;
               then stopped
    stopped    nothing                nothing                         nothing

A `ping` may be asked for in the first two; in the silent one it announces the answer, with
message_start, once.

An error in a chunk is raised in every other state; the open block is then left open, because a
client would take a closed one for a whole answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import Factory, define

from stages.chat_completions.chunks import (
    REASONING_MEMBERS,
    DeltaReader,
    choices_of,
    error_in_chunk,
    message_without_choices,
    plain_text_delta,
    reasoning_text,
)
from stages.chat_completions.errors import error_from_object, error_in
from stages.chat_completions.finish_reasons import Finish
from stages.chat_completions.json_values import as_array, as_object, as_string
from stages.chat_completions.stop_sequences import StopScanner
from stages.chat_completions.think_tags import Kind, ThinkTags
from stages.events import ChatRequest, LoweredBy
from stages.messages_api import stream_events as e
from stages.messages_api.errors import InternalError
from stages.messages_api.usage import Usage
from stages.translation.content_blocks import MAX_HELD, BlockQueue
from stages.translation.parts import TextPart, ThinkingPart
from stages.translation.response_end import ResponseEnd
from stages.wire.ids import new_message_id

_LEFT_OUT = ("audio", "images")


@define
class ResponseTranslator:
    """Translates one answer. Call `chunk` for each chunk, then `end` once.

    `announced`: message_start was sent, perhaps for another attempt at the same answer.
    """

    request: ChatRequest
    announced: bool = False
    max_held: int = MAX_HELD
    """Characters that are kept, at most, because they cannot be sent yet."""
    _blocks: BlockQueue = Factory(
        lambda self: BlockQueue(self.request, self.max_held), takes_self=True
    )
    _think_tags: ThinkTags = Factory(
        lambda self: ThinkTags(self.request.think_tags), takes_self=True
    )
    _stops: StopScanner = Factory(
        lambda self: StopScanner(self.request.scanned_stop_sequences), takes_self=True
    )
    _begun: bool = False
    _deltas: DeltaReader = Factory(DeltaReader)
    _stray: str | None = None
    """What an object that is no chunk said, where no choice came after it."""
    _ending: ResponseEnd = Factory(lambda self: ResponseEnd(self.request), takes_self=True)
    _text: TextPart | None = None
    """The part that any text which comes next belongs to, where that is sure."""
    left_out: frozenset[str] = frozenset()
    """Members of what the backend has answered for which the Messages API has no place."""
    _live: bool = False
    """Whether that is the open block, and all that waits to be sent."""

    def chunk(self, data: Any, followed: bool = False) -> list[e.StreamEvent]:
        """The events one chunk leads to. Raises ApiError when it carries an error.

        Of chunks that arrived together, only the last one is not `followed`: what they say
        leaves together too.
        """
        if self._text and (more := plain_text_delta(data)):
            # What the rest comes to. It costs 5 us and this 1, of the 13 us that a delta may
            # cost beyond passing its bytes on.
            if self._live:
                self._text.add(more)
                return [] if followed else self._more(self._text)
            self._blocks.add(TextPart, more)
            return [] if followed else self.flush()
        self._text, self._live = None, False
        if self.stopped:
            return []
        started = self._take(data)
        if self.stopped:
            return [*started, *self._finished()]
        return started if followed or not self._begun else [*started, *self.flush()]

    def _take(self, data: Any) -> list[e.StreamEvent]:
        """Take in a chunk. The events are those that announce the answer."""
        if not isinstance(data, dict):
            raise InternalError(f"backend `{self._backend}` sent a chunk that is no JSON object")
        choices = choices_of(data)
        if failed := error_in_chunk(data, choices):
            error = error_in(self._backend, data)
            raise error or error_from_object(self._backend, failed)
        self._ending.take(data, choices)
        if not choices:
            words = message_without_choices(data)
            self._stray = self._stray if words is None else words
            return []
        self._stray = None
        started = self._announcement()
        self._begun = True  # an answer begins with its first choice
        for choice in choices:
            if not self.stopped:
                self._take_choice(choice)
        if self._think_tags.state == "outside" and not self.request.scanned_stop_sequences:
            self._text = self._blocks.last_text
        return started

    def flush(self) -> list[e.StreamEvent]:
        """The events for what was taken in and not sent so far."""
        events = list(self._blocks.send(last=False))
        self._live = self._text is not None and self._blocks.is_live(self._text)
        return events

    def _more(self, live: TextPart) -> list[e.StreamEvent]:
        return [self._blocks.delta(kind, more) for kind, more in live.take(last=False)]

    def ping(self) -> list[e.StreamEvent]:
        """The events that tell the client of a stream that there will be more of it."""
        return [*self._announcement(), e.Ping()]

    def end(self, done: bool, lowered: LoweredBy = None) -> list[e.StreamEvent]:
        """The events that end the answer. `done`: the backend said itself that it was over.

        `lowered`: it was given a lower limit than the request says.

        Raises InternalError when the answer is not whole.
        """
        if self.stopped:
            return []
        if not self._begun:
            raise self._ending.no_answer(self._blocks, self._stray)
        self._ending.check(self._blocks, self._stray, done)
        return self._finished(lowered)

    def usage_so_far(self) -> Usage | None:
        """The tokens of a response that ends here; None, if the backend has not responded yet."""
        return self._ending.usage_so_far(self._blocks) if self._begun else None

    @property
    def stopped(self) -> bool:
        """Whether the answer is over although the backend may go on: a stop sequence came."""
        return self._stops.matched is not None

    @property
    def unknown_finish(self) -> str:
        """The finish reason, if nobody knows what it means; else empty."""
        return self._ending.reason if self._ending.finish is Finish.UNKNOWN else ""

    def _finished(self, lowered: LoweredBy = None) -> list[e.StreamEvent]:
        self._end_text()
        if self.request.resolved.request.stop_sequences and self._ending.complete:
            self._blocks.leave_out_half_calls()
        rest = list(self._blocks.send(last=True))
        return [
            *rest,
            self._ending.delta(self._blocks, self._stops.matched, lowered),
            e.MessageStop(),
        ]

    @property
    def _backend(self) -> str:
        return self.request.resolved.target.backend

    def _announcement(self) -> list[e.StreamEvent]:
        if self.announced:
            return []
        self.announced = True
        request = self.request.resolved.request
        start = e.MessageStart(
            id=new_message_id(),
            model=request.model,
            usage=Usage(input_tokens=self.request.estimate, output_tokens=1),
            request=request,
            exchange=self.request.exchange,
        )
        return [start]

    def _take_choice(self, choice: dict[str, Any]) -> None:
        if self.request.cache_warmup:
            return
        delta = self._deltas.delta(choice)
        for name in _LEFT_OUT:
            if name in delta and delta[name]:  # noqa: RUF019 - `get` is a call for each delta
                self.left_out |= {name}
        self._take_reasoning(delta)
        if not self.request.opaque.of_messages.isdisjoint(delta):
            self._attach(delta)
        content = delta.get("content")
        if self.request.echoed_prefill:
            content = as_string(content).removeprefix(self.request.echoed_prefill)
        self._take_content(content)
        if self.stopped:
            return
        self._take_refusal(as_string(delta.get("refusal")))
        for fragment in self._deltas.tool_call_fragments(choice, delta):
            self._end_text()
            self._blocks.add_call(fragment)

    def _take_reasoning(self, delta: dict[str, Any]) -> None:
        """Reasoning, in whichever of the fields; two may carry the same text.

        Where the client wants none, it is as if none had come: it parts no text.
        """
        if not self._blocks.thinking_allowed:
            return
        if thought := reasoning_text(delta):
            self._end_text()
            self._blocks.add(ThinkingPart, thought)

    def _attach(self, delta: dict[str, Any]) -> None:
        """Keep what the backend needs again. Of thinking that is shown, the block has the text."""
        shown = REASONING_MEMBERS if self._blocks.thinking_allowed else ()
        names = sorted(self.request.opaque.of_messages.intersection(delta).difference(shown))
        if members := {name: delta[name] for name in names if delta[name]}:
            self._blocks.attach(members)

    def _take_content(self, content: Any) -> None:
        """Text, or a list of parts, as some backends send it."""
        if more := as_string(content):
            self._show(self._think_tags.feed(more))
        for part in map(as_object, as_array(content)):
            self._show(self._think_tags.finish())
            self._take_part(part)

    def _show(self, pieces: Iterable[tuple[Kind, str]]) -> None:
        """Text goes to the client up to a stop sequence; thinking has none."""
        for kind, piece in pieces:
            if kind == "thinking":
                self._blocks.add(ThinkingPart, piece)
            else:
                self._blocks.add(TextPart, self._stops.feed(piece))

    def _end_text(self) -> None:
        """What was held back as the beginning of something is none: something else follows."""
        self._show(self._think_tags.finish())
        self._blocks.add(TextPart, self._stops.finish())

    def _take_part(self, part: dict[str, Any]) -> None:
        """One part; reasoning is a `summary` on Databricks, and `thinking` of Mistral."""
        self._show([("text", as_string(part.get("text")))])
        if self.stopped:
            return
        for thought in (*as_array(part.get("summary")), *as_array(part.get("thinking"))):
            self._blocks.add(ThinkingPart, as_string(as_object(thought).get("text")))
        if part.get("type") in self.request.opaque.items:
            self._blocks.attach({"content": [part]})
        self._take_refusal(as_string(part.get("refusal")))

    def _take_refusal(self, refusal: str) -> None:
        if refusal:
            self._ending.refused = True
            self._end_text()
            self._blocks.add(TextPart, refusal)
