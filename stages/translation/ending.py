"""How an answer ended: its finish reason and usage, as `message_delta` tells them."""

from __future__ import annotations

from typing import Any

from attrs import Factory, define, evolve

from stages.events import ChatRequest
from stages.translation.blocks import Blocks
from stages.translation.limits import window_is_full
from stages.translation.shapes import mapping, text
from stages.translation.stops import met
from stages.translation.usage import completed, usage
from stages.wire import events as e

_STOP_REASONS = {"length": "max_tokens", "content_filter": "refusal"}
_FAILED = ("error", "abort")
_KNOWN = ("", "stop", "length", "content_filter", "tool_calls", "function_call")
_CUT = ("length", "stop")  # one after the other: it was cut all the same


@define
class Ending:
    """What the chunks of one answer say of its end. `refused`: in place of what was asked for."""

    request: ChatRequest
    finish: str = ""
    refused: bool = False
    _usage: dict[str, Any] = Factory(dict)
    _stop_sequence: str | None = None

    def take(self, data: dict[str, Any], choice: dict[str, Any]) -> None:
        """Take in a chunk and its choice, which is empty where it has none."""
        used = mapping(data.get("usage")) or mapping(choice.get("usage"))  # Moonshot has it there
        self._usage = used or self._usage
        if (reason := text(choice.get("finish_reason"))) and (self.finish, reason) != _CUT:
            self.finish = reason
        stop = met(choice, self.request.resolved.request.stop_sequences)
        self._stop_sequence = stop or self._stop_sequence

    @property
    def failed(self) -> bool:
        """Whether the backend says that it broke off."""
        return self.finish in _FAILED

    @property
    def unknown(self) -> str:
        """The finish reason, if it is one that Chat Completions does not have; else empty."""
        return "" if self.finish in _KNOWN else self.finish

    def delta(self, blocks: Blocks, matched: str | None, lowered: bool) -> e.MessageDelta:
        """The event. `matched` is the stop sequence that was found in what was sent.

        `lowered`: the backend was given a lower limit than the request says.
        """
        told = usage(self._usage)
        used = completed(told, self.request.estimate, blocks.characters)
        if self.request.warms:  # the token that made the backend read the prompt is no answer
            used, reason = evolve(used, output_tokens=0, thinking_tokens=0), "max_tokens"
        elif matched is not None:
            reason = "stop_sequence"
        elif self.finish == "length" and window_is_full(self.request, told, lowered):
            reason = "model_context_window_exceeded"
        else:
            reason = _STOP_REASONS.get(self.finish) or self._complete(blocks)
        refused = {"type": "refusal", "category": None, "explanation": None}
        return e.MessageDelta(
            stop_reason=reason,
            stop_sequence=(matched or self._stop_sequence) if reason == "stop_sequence" else None,
            stop_details=refused if reason == "refusal" else None,
            usage=used,
        )

    def _complete(self, blocks: Blocks) -> str:
        """Why an answer ended that was not cut: by what is in it, whatever the backend calls it."""
        if blocks.used_tool:
            return "tool_use"
        if self.refused:
            return "refusal"
        return "stop_sequence" if self._stop_sequence else "end_turn"
