"""The output limit: what is sent for the client's `max_tokens`, and what a full window means.

The newest Messages API accepts a `max_tokens` that does not fit behind the prompt, answers with
what does, and ends with `model_context_window_exceeded`.
"""

from __future__ import annotations

from stages.events import ChatRequest
from stages.wire.events import Usage


def output_limit(asked: int, window: int | None, estimate: int) -> int:
    """What to send where `asked` was; `window` and `estimate` (of the prompt) are in tokens.

    0 only warms the prompt cache, and backends do that for no less than 1. Where by the estimate
    not even the prompt fits, the limit stays: only the backend knows, and when it refuses, it
    says what fits.
    """
    if window is not None and estimate < window:
        asked = min(asked, window - estimate)
    return max(1, asked)


def window_is_full(request: ChatRequest, told: Usage, lowered: bool) -> bool:
    """Whether an answer that was cut ended at the window, and not at the client's limit.

    `told` is what the backend says it has used. `lowered`: it was asked again, with what fits.
    """
    asked = request.resolved.request.max_tokens or 0
    if not asked or told.output_tokens >= asked:
        return False
    used = told.prompt_tokens + told.output_tokens
    window = request.context_window
    full = bool(window and told.output_tokens and used >= window)
    return full or lowered or request.clamped
