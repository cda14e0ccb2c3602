"""The meaning of each provider's finish reasons.

Chat Completions has five. Providers add their own, and gateways pass them on, in upper or lower
case. The sources: the API references of OpenAI, DeepSeek, Z.ai, Mistral, Xiaomi (MiMo) and
Gemini (`FinishReason`); the source of vLLM (`FINISH_REASON_STRINGS`), SGLang and TGI; public issues
for what Gemini's endpoint makes of them: `function_call_filter: MALFORMED_FUNCTION_CALL`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from stages.chat_completions.json_values import as_string


class Finish(IntEnum):
    """How a response ended. If several are reported, the highest counts."""

    NONE = 0
    END = 1
    UNKNOWN = 2
    """Perhaps the text was cut. The client gets it as a normal end; the log names the reason."""
    CUT = 3
    LENGTH = 4
    """At the output limit, or at the end of the window if the backend does not distinguish."""
    WINDOW = 5
    REFUSED = 6
    FAILED = 7


_REASONS = {
    Finish.END: (
        "stop tool_calls function_call "  # OpenAI
        "tool_call tool_use end_turn stop_sequence pause_turn "  # Anthropic, Cohere, gateways
        "eos eos_token end_of_text complete completed done"  # TGI, Together, local servers
    ),
    Finish.CUT: "repetition repetition_truncation",  # vLLM, MiMo: the model repeated itself
    Finish.LENGTH: "length max_tokens max_output_tokens max_length max_tokens_reached",
    Finish.WINDOW: (
        "model_context_window_exceeded "  # Anthropic, Z.ai
        "model_length "  # Mistral
        "context_length_exceeded context_window_exceeded"
    ),
    Finish.REFUSED: (
        "content_filter content-filter content_filtered refusal sensitive "
        "safety blocklist prohibited_content recitation spii language model_armor "  # Gemini
        "image_safety image_prohibited_content image_recitation "
        "guardrail_intervened guardrails"  # Bedrock
    ),
    Finish.FAILED: (
        "error abort aborted cancel cancelled canceled timeout failed "
        "network_error "  # Z.ai
        "insufficient_system_resource "  # DeepSeek
        "malformed_function_call unexpected_tool_call too_many_tool_calls malformed_response "
        "missing_thought_signature function_call_filter "  # Gemini
        "engine_overloaded over_capacity server_error internal_error"
    ),
}
_MEANINGS = {name: finish for finish, names in _REASONS.items() for name in names.split()}
_MEANINGS[""] = Finish.NONE


def meaning(reason: str) -> Finish:
    """The meaning of a finish reason, which may be `kind: reason`."""
    if reason in _MEANINGS:
        return _MEANINGS[reason]
    kind, _, detail = reason.lower().partition(":")
    return _MEANINGS.get(detail.strip()) or _MEANINGS.get(kind.strip(), Finish.UNKNOWN)


def finish_of(choice: dict[str, Any]) -> tuple[Finish, str]:
    """How a choice ended, and the reason in the backend's words.

    OpenRouter writes `stop` for reasons it does not know. `native_finish_reason` is the backend's
    own; it counts if its meaning is known and worse.
    """
    reason, native = (
        as_string(choice.get("finish_reason")),
        as_string(choice.get("native_finish_reason")),
    )
    own, other = meaning(reason), meaning(native)
    return (other, native) if other > max(own, Finish.UNKNOWN) else (own, reason)
