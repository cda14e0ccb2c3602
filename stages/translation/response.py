"""Translates the chunks of a Chat Completions response to stream events of the Messages API.

One translator serves one response. A response without a stream is one big chunk. The translator
does no I/O: it takes chunks, returns events, and raises an ApiError if the backend failed.

    state       input                            result
    ----------  -------------------------------  -----------------------------------------------
    begin       a chunk without a choice         nothing
    begin       a chunk with a choice            message_start, then as in state responding
    begin       the end                          error: no response
    responding  a chunk                          the events that can be sent now (content_blocks.py)
    responding  a chunk with a scanned stop      the events of the end; state stopped
                sequence
    responding  the end, with a finish_reason    the buffered parts, message_delta, message_stop.
                                                 Error if the reason is a failure. Error if a tool
                                                 call has no name (see below)
    responding  the end, without a               if the response counts as complete (see below): the
                finish_reason                    same as in the row above; otherwise error
    stopped     a chunk, or the end              nothing

A tool call may lack its name if the finish_reason says that the response was cut (Finish.CUT,
Finish.LENGTH or Finish.WINDOW) or refused (Finish.REFUSED).

A response without a finish_reason counts as complete if all of these are true: The backend marked
the end. The response has content. Each tool call is whole and has a name. After the last choice,
only chunks came (some backends report a failure there, as an object of another kind). For a cache
warm-up (`max_tokens: 0`) in state responding, it is enough that the backend marked the end.

In the states begin and responding, the caller may also call `ping`. message_start is sent once: at
the first choice or at the first ping.

In state stopped, `translate` ignores a chunk that reports an error. In the other states it raises
the error. It does not close the open block: if it did, a client would take the block for complete.
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
    reasoning_text,
)
from stages.chat_completions.errors import error_from_object, error_in_document
from stages.chat_completions.finish_reasons import Finish
from stages.chat_completions.json_values import as_array, as_object, as_string
from stages.chat_completions.stop_sequences import StopScanner
from stages.chat_completions.think_tags import Kind, ThinkTags
from stages.chat_completions.tool_calls import MAX_BUFFERED
from stages.events import ChatRequest, LoweredBy
from stages.messages_api import stream_events as e
from stages.messages_api.errors import InternalError
from stages.messages_api.usage import Usage
from stages.translation.content_blocks import BlockQueue
from stages.translation.content_parts import TextPart, ThinkingPart
from stages.translation.stop_reason import ResponseEnd
from stages.translation.text_fast_path import TextFastPath
from stages.wire.ids import new_message_id

_UNSUPPORTED_MEMBERS = ("audio", "images")


@define
class ResponseTranslator:
    """Translates one response. Call `translate` for each chunk, then `end` once.

    `message_started`: message_start was sent. An earlier attempt may have sent it.
    """

    request: ChatRequest
    message_started: bool = False
    max_buffered: int = MAX_BUFFERED
    """The maximum number of characters that are buffered because they cannot be sent yet."""
    _blocks: BlockQueue = Factory(
        lambda self: BlockQueue(self.request, self.max_buffered), takes_self=True
    )
    _think_tags: ThinkTags = Factory(
        lambda self: ThinkTags(self.request.think_tags), takes_self=True
    )
    _stop_scanner: StopScanner = Factory(
        lambda self: StopScanner(self.request.scanned_stop_sequences), takes_self=True
    )
    _has_choice: bool = False
    _deltas: DeltaReader = Factory(DeltaReader)
    _message_text: str | None = None
    """The message of the last object that is no chunk, such as an error text; empty if it has none.

    Only objects after the last choice count. None: there was no such object.
    """
    _response_end: ResponseEnd = Factory(lambda self: ResponseEnd(self.request), takes_self=True)
    _fast_path: TextFastPath | None = None
    """Translates the next chunks as long as they only continue the text."""
    dropped_members: frozenset[str] = frozenset()
    """Members of the response that have no place in the Messages API."""

    def translate(self, data: Any, more_buffered: bool = False) -> list[e.StreamEvent]:
        """Return the events of one chunk. Raises the ApiError that a chunk reports.

        `more_buffered`: the next chunk has already arrived. The deltas of this chunk are returned
        with those of the next.
        """
        events = self.continue_text(data, more_buffered)
        if events is not None:
            return events
        if self.stopped:
            return []
        started = self._add_chunk(data)
        if self.stopped:
            return [*started, *self._finish()]
        return started if more_buffered or not self._has_choice else [*started, *self.flush()]

    def continue_text(self, data: Any, more_buffered: bool = False) -> list[e.StreamEvent] | None:
        """Return the events of a chunk that only continues the text; None for another chunk.

        After None, pass the chunk to `translate`.
        """
        if self._fast_path is not None:
            events = self._fast_path.events(data, more_buffered)
            if events is not None:
                return events
            self._fast_path = None
        return None

    def _add_chunk(self, data: Any) -> list[e.StreamEvent]:
        """Add a chunk to the blocks.

        Return message_start if the chunk has a choice and message_start was not sent before.
        """
        if not isinstance(data, dict):
            raise InternalError(f"backend `{self._backend}` sent a chunk that is not a JSON object")
        choices = choices_of(data)
        if failed := error_in_chunk(data, choices):
            error = error_in_document(self._backend, data)
            raise error or error_from_object(self._backend, failed)
        self._response_end.add_chunk(data, choices)
        if not choices:
            text = message_without_choices(data)
            self._message_text = self._message_text if text is None else text
            return []
        self._message_text = None
        started = self._start()
        self._has_choice = True
        for choice in choices:
            if not self.stopped:
                self._add_choice(choice)
        if self._think_tags.state == "outside" and not self.request.scanned_stop_sequences:
            part = self._blocks.last_text
            self._fast_path = TextFastPath(self._blocks, part) if part else None
        return started

    def flush(self) -> list[e.StreamEvent]:
        """Return the events of earlier chunks that were not returned yet."""
        return list(self._blocks.send(last=False))

    def ping(self) -> list[e.StreamEvent]:
        """Return the events that keep a silent stream alive."""
        return [*self._start(), e.Ping()]

    def end(self, done: bool, limit_lowered: LoweredBy = None) -> list[e.StreamEvent]:
        """Return the last events. Raises InternalError if the response is not complete.

        `done` and `limit_lowered`: see ChatEnd.
        """
        if self.stopped:
            return []
        if not self._has_choice:
            raise self._response_end.no_response(self._blocks, self._message_text)
        self._response_end.check(self._blocks, self._message_text, done)
        return self._finish(limit_lowered)

    def usage_so_far(self) -> Usage | None:
        """Return the usage of the chunks so far; None before the first choice."""
        return self._response_end.usage_so_far(self._blocks) if self._has_choice else None

    @property
    def stopped(self) -> bool:
        """Whether a scanned stop sequence ended the response. The backend may still send chunks."""
        return self._stop_scanner.matched is not None

    @property
    def unknown_finish(self) -> str:
        """The finish reason if its meaning is unknown, otherwise an empty string."""
        return self._response_end.reason if self._response_end.finish is Finish.UNKNOWN else ""

    def _finish(self, limit_lowered: LoweredBy = None) -> list[e.StreamEvent]:
        self._flush_text()
        if self.request.resolved.request.stop_sequences and self._response_end.complete:
            self._blocks.drop_truncated_calls()
        events = list(self._blocks.send(last=True))
        delta = self._response_end.message_delta(
            self._blocks, self._stop_scanner.matched, limit_lowered
        )
        return [*events, delta, e.MessageStop()]

    @property
    def _backend(self) -> str:
        return self.request.resolved.target.backend

    def _start(self) -> list[e.StreamEvent]:
        if self.message_started:
            return []
        self.message_started = True
        request = self.request.resolved.request
        start = e.MessageStart(
            id=new_message_id(),
            model=request.model,
            usage=Usage(input_tokens=self.request.estimate, output_tokens=1),
            request=request,
            exchange=self.request.exchange,
        )
        return [start]

    def _add_choice(self, choice: dict[str, Any]) -> None:
        if self.request.cache_warmup:
            return
        delta = self._deltas.delta(choice)
        for name in _UNSUPPORTED_MEMBERS:
            if name in delta and delta[name]:  # noqa: RUF019 - `get` would add a call per delta
                self.dropped_members |= {name}
        self._add_reasoning(delta)
        if not self.request.opaque.of_messages.isdisjoint(delta):
            self._attach(delta)
        content = delta.get("content")
        if self.request.echoed_prefill:
            content = as_string(content).removeprefix(self.request.echoed_prefill)
        self._add_content(content)
        if self.stopped:
            return
        if refusal := as_string(delta.get("refusal")):
            self._add_refusal(refusal)
        for fragment in self._deltas.tool_call_fragments(choice, delta):
            self._flush_text()
            self._blocks.add_call(fragment)

    def _add_reasoning(self, delta: dict[str, Any]) -> None:
        """Add the reasoning of a delta as thinking. If several members repeat it, add it once.

        If the client allows no thinking blocks, it does not get the reasoning. The text before and
        after it stays one block.
        """
        if not self._blocks.thinking_allowed:
            return
        if thinking := reasoning_text(delta):
            self._flush_text()
            self._blocks.add(ThinkingPart, thinking)

    def _attach(self, delta: dict[str, Any]) -> None:
        """Keep the opaque members of a delta, except reasoning that becomes a thinking block."""
        shown = REASONING_MEMBERS if self._blocks.thinking_allowed else ()
        names = sorted(self.request.opaque.of_messages.intersection(delta).difference(shown))
        if members := {name: delta[name] for name in names if delta[name]}:
            self._blocks.attach(members)

    def _add_content(self, content: Any) -> None:
        """Add `content`: a string, or a list of parts, which some backends send."""
        if text := as_string(content):
            self._add_text(self._think_tags.feed(text))
        for part in map(as_object, as_array(content)):
            self._add_text(self._think_tags.finish())
            self._add_part(part)

    def _add_text(self, segments: Iterable[tuple[Kind, str]]) -> None:
        """Add segments of text and thinking. Only text is scanned for stop sequences."""
        for kind, text in segments:
            if kind == "thinking":
                self._blocks.add(ThinkingPart, text)
            else:
                self._blocks.add(TextPart, self._stop_scanner.feed(text))

    def _flush_text(self) -> None:
        """Add text that was buffered because it may begin a tag or a stop sequence.

        Called before other content, and at the end.
        """
        self._add_text(self._think_tags.finish())
        self._blocks.add(TextPart, self._stop_scanner.finish())

    def _add_part(self, part: dict[str, Any]) -> None:
        """Add a content part. Its `summary` (Databricks) or `thinking` (Mistral) is reasoning."""
        self._add_text([("text", as_string(part.get("text")))])
        if self.stopped:
            return
        for entry in (*as_array(part.get("summary")), *as_array(part.get("thinking"))):
            self._blocks.add(ThinkingPart, as_string(as_object(entry).get("text")))
        if part.get("type") in self.request.opaque.part_types:
            self._blocks.attach({"content": [part]})
        if refusal := as_string(part.get("refusal")):
            self._add_refusal(refusal)

    def _add_refusal(self, refusal: str) -> None:
        self._response_end.refused = True
        self._flush_text()
        self._blocks.add(TextPart, refusal)
