"""The output limit: what is sent for the client's `max_tokens`, and what a full window means.

The newest Messages API accepts a `max_tokens` that does not fit after the prompt, answers with
what does, and ends with `model_context_window_exceeded`.

2026-11: no estimate of the prompt lowers the limit. It did where `context_window` is declared, and
an estimate that was twice too high cut answers short. Now the backend gets what the client asked
for, refuses it if it must, and is asked again with what fits by its own count: OutputLimitError.
"""

from __future__ import annotations

from stages.events import ChatRequest, LoweredBy
from stages.messages_api.usage import Usage

#: Backends stop at the last token of the window, or some tokens before it.
_MARGIN = 8
#: What a model can put out is declared as a multiple of one of these: 4,096, 16,384, 8,000, 64,000.
_ROUND = (256, 1000)


def output_limit(asked: int, window: int | None) -> int:
    """What to send where `asked` was; `window` is in tokens.

    0 only warms the prompt cache, and backends do that for no less than 1. More than the whole
    window without the prompt's one token at least is more than any answer can have.
    """
    if window is not None:
        asked = min(asked, window - 1)
    return max(1, asked)


def window_is_full(request: ChatRequest, used: Usage, lowered: LoweredBy) -> bool:
    """Whether an answer that was cut ended at the window, and not at the client's limit.

    `used` is what the backend reports, `lowered` by what it was given less than the client's limit.

    An answer with fewer tokens than asked for ended at the window, or at a limit of the backend's
    own. Where the window is declared, it decides. Where it is not, a limit of the backend's own is
    a round number, and what a prompt leaves of a window is round only by chance. Such an answer
    says `max_tokens`, which does the least harm: a client goes on, and if the window was full after
    all, it is refused as too long, and compacts.
    """
    asked = request.resolved.request.max_tokens or 0
    output = used.output_tokens
    if output >= asked or lowered == "model":
        return False
    if lowered == "window":
        return True
    if not output or not used.prompt_tokens:  # not reported
        return False
    if request.context_window is not None:
        return used.prompt_tokens + output >= request.context_window - _MARGIN
    return output == 1 or not any(min(output % each, -output % each) <= 1 for each in _ROUND)
