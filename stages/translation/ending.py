"""How an answer ended: its finish reason and usage, as `message_delta` has them."""

from __future__ import annotations

from typing import Any

from attrs import Factory, define, evolve

from stages.events import ChatRequest, Lowered
from stages.translation.blocks import Blocks
from stages.translation.finish_reasons import Finish, finish_of
from stages.translation.limits import window_is_full
from stages.translation.stops import met
from stages.translation.usage import completed, merged, reported, usage
from stages.wire import events as e

_STOP_REASONS = {
    Finish.CUT: "max_tokens",
    Finish.LENGTH: "max_tokens",
    Finish.WINDOW: "model_context_window_exceeded",
    Finish.REFUSED: "refusal",
}


@define
class Ending:
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
        if more := reported(data, choices):
            self._usage = merged(self._usage, more)
        sequences = self.request.resolved.request.stop_sequences
        for choice in choices:
            if choice.get("finish_reason") or choice.get("native_finish_reason"):
                self.finish, self.reason = max((self.finish, self.reason), finish_of(choice))
            if sequences:
                self._stop_sequence = met(choice, sequences) or self._stop_sequence

    @property
    def complete(self) -> bool:
        """Whether the model came to an end, as far as the backend says: it was not cut."""
        return self.finish <= Finish.UNKNOWN

    def delta(self, blocks: Blocks, matched: str | None, lowered: Lowered) -> e.MessageDelta:
        """The event. `matched` is the stop sequence that was found in what was sent.

        `lowered`: the backend was given a lower limit than the request says.
        """
        told = usage(self._usage)
        used = completed(told, self.request.estimate, blocks.characters)
        if self.request.warms:  # the token that made the backend read the prompt is no answer
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

    def _sequence(self, matched: str | None) -> str | None:
        """The stop sequence that ended the answer; None where it may be one of several."""
        sequences = self.request.resolved.request.stop_sequences
        only = sequences[0] if len(sequences) == 1 else None
        return matched or self._stop_sequence or only

    def _complete(self, blocks: Blocks) -> str:
        """Why an answer ended that was not cut: by what is in it, whatever the backend calls it."""
        if blocks.used_tool:
            return "tool_use"
        if self.refused:
            return "refusal"
        return "stop_sequence" if self._stop_sequence else "end_turn"
