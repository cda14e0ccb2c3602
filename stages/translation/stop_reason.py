"""The end of a response: stop reason, usage and output limit, as `message_delta` has them.

The newest Messages API accepts a `max_tokens` that does not fit after the prompt, generates the
tokens that fit, and ends with `model_context_window_exceeded`.

No estimate of the prompt lowers the limit: an estimate that was twice too high cut responses short.
The backend gets the client's limit. If it refuses this limit (OutputLimitError), the proxy sends
the request again with the limit that fits by the backend's own count.
"""

from __future__ import annotations

from typing import Any

from attrs import Factory, define, evolve

from stages.chat_completions.finish_reasons import Finish, finish_of
from stages.chat_completions.stop_sequences import reported_stop_sequence
from stages.chat_completions.usage import merge_usage, parse_usage, reported_usage, with_estimates
from stages.events import ChatRequest, LoweredBy
from stages.messages_api import stream_events as e
from stages.messages_api.errors import InternalError
from stages.messages_api.usage import Usage
from stages.translation.content_blocks import BlockQueue

_STOP_REASONS = {
    Finish.CUT: "max_tokens",
    Finish.LENGTH: "max_tokens",
    Finish.WINDOW: "model_context_window_exceeded",
    Finish.REFUSED: "refusal",
}
#: Backends stop at the last token of the window, or at most this many tokens before it.
_MARGIN = 8
#: The output limits of models are multiples of one of these: 4,096, 16,384, 8,000, 64,000.
_ROUND = (256, 1000)


def output_limit(max_tokens: int, context_window: int | None) -> int:
    """Return the limit to send for the client's `max_tokens`. Both are in tokens.

    0 only warms the prompt cache, for which backends need at least 1. No response can be longer
    than the window without one token of prompt.
    """
    if context_window is not None:
        max_tokens = min(max_tokens, context_window - 1)
    return max(1, max_tokens)


def window_is_full(request: ChatRequest, counts: Usage, limit_lowered: LoweredBy) -> bool:
    """Whether a cut response ended at the context window, not at the client's limit.

    `counts` is the usage that the backend reported. `limit_lowered`: see ChatEnd.

    A response with fewer tokens than the client's limit ended at the window, or at a limit of the
    backend itself. If `context_window` is set, it decides. Otherwise a round number of tokens is
    taken for a limit of the backend: the part of a window after the prompt is round only by
    chance. Such a response gets `max_tokens`, which does less harm if it is wrong. The client
    continues. If the window was full, its next request is refused as too long, and it compacts.
    """
    max_tokens = request.resolved.request.max_tokens or 0
    output = counts.output_tokens
    if output >= max_tokens or limit_lowered == "model":
        return False
    if limit_lowered == "window":
        return True
    if not output or not counts.prompt_tokens:  # not reported
        return False
    if request.context_window is not None:
        return counts.prompt_tokens + output >= request.context_window - _MARGIN
    return output == 1 or not any(min(output % unit, -output % unit) <= 1 for unit in _ROUND)


@define
class ResponseEnd:
    """Collects from the chunks of one response how it ends.

    `refused`: the model refused, with a text in place of the response.
    """

    request: ChatRequest
    finish: Finish = Finish.NONE
    reason: str = ""
    """The backend's word for `finish`."""
    refused: bool = False
    _usage: dict[str, Any] = Factory(dict)
    _stop_sequence: str | None = None

    def add_chunk(self, data: dict[str, Any], choices: list[dict[str, Any]]) -> None:
        """Read a chunk and its choices."""
        if counts := reported_usage(data, choices):
            self._usage = merge_usage(self._usage, counts)
        sequences = self.request.resolved.request.stop_sequences
        for choice in choices:
            if choice.get("finish_reason") or choice.get("native_finish_reason"):
                self.finish, self.reason = max((self.finish, self.reason), finish_of(choice))
            if sequences:
                self._stop_sequence = (
                    reported_stop_sequence(choice, sequences) or self._stop_sequence
                )

    @property
    def complete(self) -> bool:
        """Whether the model was not cut, as far as the backend reports."""
        return self.finish <= Finish.UNKNOWN

    def usage_so_far(self, blocks: BlockQueue) -> Usage:
        """Return the usage that the backend reported, with estimates for missing counts."""
        return with_estimates(parse_usage(self._usage), self.request.estimate, blocks.characters)

    def check(self, blocks: BlockQueue, message_text: str | None, done: bool) -> None:
        """Raise InternalError unless the response is complete.

        `done`: the backend itself ended the response. `message_text`: the message of the last
        object, if it was not a chunk.
        """
        if self.finish is Finish.NONE:
            self._check_without_reason(blocks, message_text, done)
        if self.finish is Finish.FAILED:
            reason = self.reason[:40]
            message = f"backend `{self._backend}` broke off its response ({reason}): try again"
            raise InternalError(message, quoted=[reason])
        if self.finish <= Finish.UNKNOWN and blocks.has_nameless_call:
            message = f"backend `{self._backend}` sent a tool call without a name: try again"
            raise InternalError(message)

    def _check_without_reason(
        self, blocks: BlockQueue, message_text: str | None, done: bool
    ) -> None:
        """Raise InternalError unless a response without a finish reason may be complete.

        Old servers send no reason, so `[DONE]` (or the end of a JSON document) is enough after some
        content. It is not enough within a tool call, or after an object that is not a chunk: some
        backends report a failure as such an object.
        """
        if not done:
            raise InternalError(f"backend `{self._backend}` closed the stream early")
        if self.request.cache_warmup:
            return
        if message_text is not None or blocks.is_empty:
            raise self.no_response(blocks, message_text)
        if blocks.has_truncated_call:
            raise InternalError(
                f"backend `{self._backend}` broke off its response within a tool call: try again"
            )

    def no_response(self, blocks: BlockQueue, message_text: str | None) -> InternalError:
        """Return the error for a response without content, or with an error after some content."""
        quoted = f": {message_text[:200]}" if message_text else ""
        problem = "no response" if blocks.is_empty else "half a response, and then a failure"
        return InternalError(f"backend `{self._backend}` sent {problem}{quoted}", quoted=[quoted])

    @property
    def _backend(self) -> str:
        return self.request.resolved.target.backend

    def message_delta(
        self, blocks: BlockQueue, matched: str | None, limit_lowered: LoweredBy
    ) -> e.MessageDelta:
        """Return the event. `matched` is the scanned stop sequence that ended the response.

        `limit_lowered`: see ChatEnd.
        """
        counts = parse_usage(self._usage)
        used = with_estimates(counts, self.request.estimate, blocks.characters)
        if self.request.cache_warmup:  # the one token it generated is not part of a response
            used, reason = evolve(used, output_tokens=0, thinking_tokens=0), "max_tokens"
        elif matched is not None or blocks.dropped_truncated_call:
            reason = "stop_sequence"
        elif self.finish is Finish.LENGTH and window_is_full(self.request, counts, limit_lowered):
            reason = "model_context_window_exceeded"
        else:
            reason = _STOP_REASONS.get(self.finish) or self._complete_reason(blocks)
        refusal = {"type": "refusal", "category": None, "explanation": None}
        return e.MessageDelta(
            stop_reason=reason,
            stop_sequence=self._sequence(matched) if reason == "stop_sequence" else None,
            stop_details=refusal if reason == "refusal" else None,
            usage=used,
        )

    def _sequence(self, matched: str | None) -> str | None:
        """Return the stop sequence that ended the response; None if it may be one of several."""
        sequences = self.request.resolved.request.stop_sequences
        only = sequences[0] if len(sequences) == 1 else None
        return matched or self._stop_sequence or only

    def _complete_reason(self, blocks: BlockQueue) -> str:
        """Return why a complete response ended. Its content decides, not `finish_reason`."""
        if blocks.used_tool:
            return "tool_use"
        if self.refused:
            return "refusal"
        return "stop_sequence" if self._stop_sequence else "end_turn"
