"""Errors for requests that exceed a backend's window or output limit, from its message.

what is too long          becomes
-----------------------   ---------------------------------------------------------------
the prompt                "prompt is too long": clients then shorten the conversation
prompt and output limit   OutputLimitError: the request is sent again with a limit that fits
the output limit          the same
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from stages.chat_completions.error_patterns import split_labels
from stages.chat_completions.output_limit_patterns import OUTPUT_LIMIT_TOO_HIGH
from stages.chat_completions.overflow_patterns import (
    PROMPT_TOO_LONG,
    PROMPT_TOO_LONG_CODES,
    SUM_TOO_LONG,
)
from stages.messages_api.errors import ApiError, OutputLimitError, PromptTooLongError
from stages.profiles.profile import OUTPUT_LIMITS

_MAX_QUOTED = 300
#: The smallest thinking budget that Claude accepts, in tokens.
_LEAST_BUDGET = 1024
_WORD = re.compile(r"\w+")


def lower_limit(options: dict[str, Any], error: OutputLimitError) -> dict[str, Any]:
    """Return the options of a call with an output limit that fits."""
    lowered = {name: value for name, value in options.items() if name not in OUTPUT_LIMITS}
    for name in OUTPUT_LIMITS:
        if name in options and error.excess is not None:
            lowered[name] = max(1, options[name] - error.excess)
        elif name in options and error.limit is not None:
            lowered[name] = min(error.limit, options[name])
    return _with_less_thinking(lowered)


def _with_less_thinking(options: dict[str, Any]) -> dict[str, Any]:
    """Lower the thinking budget below the output limit, as Claude requires."""
    thinking = options.get("thinking") or {}
    limit = min((options[name] for name in OUTPUT_LIMITS if name in options), default=math.inf)
    if thinking.get("budget_tokens", 0) < limit:
        return options
    if limit <= _LEAST_BUDGET:
        return {name: value for name, value in options.items() if name != "thinking"}
    return {**options, "thinking": {**thinking, "budget_tokens": limit - 1}}


def prompt_too_long(tokens: int, maximum: int) -> PromptTooLongError:
    """The error for a prompt of `tokens` tokens. Clients parse both numbers in its message."""
    return PromptTooLongError(f"prompt is too long: {tokens} tokens > {maximum} maximum")


def overflow_error(message: str, codes: Iterable[str] = ()) -> ApiError | None:
    """The error for a refusal because the request is too long; None for other refusals.

    `message` and `codes` are from the backend; see error_body.py.
    """
    labelled = split_labels(message)
    for pattern in OUTPUT_LIMIT_TOO_HIGH:
        if numbers := pattern.numbers(labelled):
            limits = f"{numbers.get('asked', 'more')} > {numbers['maximum']}"
            text = f"max_tokens: {limits}, which is the maximum allowed number of output tokens"
            return OutputLimitError(text, numbers["maximum"], by_window=False)
    for pattern in SUM_TOO_LONG:
        if numbers := pattern.numbers(labelled):
            return _sum(message, **numbers)
    for pattern in PROMPT_TOO_LONG:
        numbers = pattern.numbers(labelled)
        if numbers is not None:
            return _prompt(message, **numbers)
    all_codes = {*(code.lower() for code in codes), *_WORD.findall(labelled.labels)}
    all_codes.update(_WORD.findall(labelled.text[:_MAX_QUOTED].lower())[:1])
    return None if PROMPT_TOO_LONG_CODES.isdisjoint(all_codes) else _prompt(message)


def _prompt(
    message: str, tokens: int = 0, more: int = 0, maximum: int | None = None
) -> PromptTooLongError:
    """The error for a prompt that does not fit.

    Without an exact count it quotes the backend and names no numbers: Claude Code shortens the
    prompt by the difference of the two, which would then be too little.
    """
    if tokens and maximum is not None:
        return prompt_too_long(tokens + more, maximum)
    quoted = message[:_MAX_QUOTED]
    return PromptTooLongError(f"prompt is too long ({quoted})", maximum=maximum, quoted=[quoted])


def _sum(
    message: str, maximum: int, asked: int = 0, tokens: int = 0, more: int = 0, total: int = 0
) -> ApiError:
    """The error for a prompt and an output limit that do not fit together."""
    prompt = tokens + more
    if prompt >= maximum or not (asked or total):
        return _prompt(message, tokens, more, maximum)
    # One less than the remaining window, because some refuse a sum that equals the window.
    remaining = max(1, maximum - prompt - 1) if prompt else None
    counted = str(prompt) if prompt else f"more than {max(0, maximum - asked)}"
    total_text = f"{total}" if total else f"{counted} + {asked}"
    text = f"input length and `max_tokens` exceed context limit: {total_text} > {maximum}"
    text += ", decrease input length or `max_tokens` and try again"
    return OutputLimitError(text, remaining, excess=total - maximum + 1 if total else None)
