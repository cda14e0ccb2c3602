"""How an answer ended: its finish reason and usage, as `message_delta` has them."""

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
from stages.translation.output_limit import window_is_full

_STOP_REASONS = {
    Finish.CUT: "max_tokens",
    Finish.LENGTH: "max_tokens",
    Finish.WINDOW: "model_context_window_exceeded",
    Finish.REFUSED: "refusal",
}


@define
class ResponseEnd:
    """What the chunks of one answer say of its end. `refused`: in place of what was asked for."""

    request: ChatRequest
    finish: Finish = Finish.NONE
    reason: str = ""
    """The backend's own word for it."""
    refused: bool = False
    _usage: dict[str, Any] = Factory(dict)
    _stop_sequence: str | None = None

    def take(self, data: dict[str, Any], choices: list[dict[str, Any]]) -> None:
        """Take in a chunk, and its choices."""
        if more := reported_usage(data, choices):
            self._usage = merge_usage(self._usage, more)
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
        """Whether the model came to an end, as far as the backend says: it was not cut."""
        return self.finish <= Finish.UNKNOWN

    def check(self, blocks: BlockQueue, stray: str | None, done: bool) -> None:
        """Raise InternalError unless the answer is whole.

        `done`: the backend said itself that it was over. `stray` is what an object that is no
        chunk said last.
        """
        if self.finish is Finish.NONE:
            self._check_without_reason(blocks, stray, done)
        if self.finish is Finish.FAILED:
            reason = self.reason[:40]
            message = f"backend `{self._backend}` broke off its answer ({reason}): try again"
            raise InternalError(message, quoted=[reason])
        if self.finish <= Finish.UNKNOWN and blocks.has_nameless_call:
            message = f"backend `{self._backend}` sent a tool call without a name: try again"
            raise InternalError(message)

    def _check_without_reason(self, blocks: BlockQueue, stray: str | None, done: bool) -> None:
        """Raise InternalError unless the end of an answer without a finish reason is one.

        Old servers send none, so `[DONE]` (or the end of a JSON document) is enough for an answer
        that says something. It is not where the last thing said was no chunk, which is how some
        report a failure, nor in the middle of a call.
        """
        if not done:
            raise InternalError(f"backend `{self._backend}` closed the stream early")
        if self.request.cache_warmup:
            return
        if stray is not None or blocks.said_nothing:
            raise self.no_answer(blocks, stray)
        if blocks.has_half_call:
            raise InternalError(
                f"backend `{self._backend}` broke off its answer within a tool call: try again"
            )

    def no_answer(self, blocks: BlockQueue, stray: str | None) -> InternalError:
        """The error of a backend that has not answered."""
        said = f": {stray[:200]}" if stray else ""
        half = "no answer" if blocks.said_nothing else "half an answer, and then a failure"
        return InternalError(f"backend `{self._backend}` sent {half}{said}", quoted=[said])

    @property
    def _backend(self) -> str:
        return self.request.resolved.target.backend

    def delta(self, blocks: BlockQueue, matched: str | None, lowered: LoweredBy) -> e.MessageDelta:
        """The event. `matched` is the stop sequence that was found in what was sent.

        `lowered`: the backend was given a lower limit than the request says.
        """
        told = parse_usage(self._usage)
        used = with_estimates(told, self.request.estimate, blocks.characters)
        if (
            self.request.cache_warmup
        ):  # the token that made the backend read the prompt is no answer
            used, reason = evolve(used, output_tokens=0, thinking_tokens=0), "max_tokens"
        elif matched is not None or blocks.left_out_half_call:
            reason = "stop_sequence"
        elif self.finish is Finish.LENGTH and window_is_full(self.request, told, lowered):
            reason = "model_context_window_exceeded"
        else:
            reason = _STOP_REASONS.get(self.finish) or self._complete(blocks)
        refused = {"type": "refusal", "category": None, "explanation": None}
        return e.MessageDelta(
            stop_reason=reason,
            stop_sequence=self._sequence(matched) if reason == "stop_sequence" else None,
            stop_details=refused if reason == "refusal" else None,
            usage=used,
        )

    def usage_so_far(self, blocks: BlockQueue) -> Usage:
        """The tokens that the backend reported; estimates for those it did not."""
        return with_estimates(parse_usage(self._usage), self.request.estimate, blocks.characters)

    def _sequence(self, matched: str | None) -> str | None:
        """The stop sequence that ended the answer; None where it may be one of several."""
        sequences = self.request.resolved.request.stop_sequences
        only = sequences[0] if len(sequences) == 1 else None
        return matched or self._stop_sequence or only

    def _complete(self, blocks: BlockQueue) -> str:
        """Why an answer ended that was not cut: by what is in it, whatever the backend calls it."""
        if blocks.used_tool:
            return "tool_use"
        if self.refused:
            return "refusal"
        return "stop_sequence" if self._stop_sequence else "end_turn"
