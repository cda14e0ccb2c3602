"""What does not fit into a backend's window, in its words; see wordings.py, output_wordings.py.

what is too long          becomes
-----------------------   ---------------------------------------------------------------
the prompt                "prompt is too long": clients then shorten the conversation
prompt and output limit   OutputLimitError: the backend is asked again, with what fits
the output limit          the same
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from stages.chat_completions.output_wordings import CAPS
from stages.chat_completions.overflow_wordings import PROMPT_CODES, PROMPTS, SUMS
from stages.chat_completions.wording import match_wording
from stages.messages_api.errors import ApiError, OutputLimitError, PromptTooLongError
from stages.profiles.profile import OUTPUT_LIMITS

_SHOWN = 300
#: The least budget of thinking that Claude takes, in tokens.
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
    """Options in which the budget of thinking is below the output limit, as Claude wants it."""
    thinking = options.get("thinking") or {}
    limit = min((options[name] for name in OUTPUT_LIMITS if name in options), default=math.inf)
    if thinking.get("budget_tokens", 0) < limit:
        return options
    if limit <= _LEAST_BUDGET:
        return {name: value for name, value in options.items() if name != "thinking"}
    return {**options, "thinking": {**thinking, "budget_tokens": limit - 1}}


def too_long(tokens: int, maximum: int) -> PromptTooLongError:
    """The error for a prompt of so many tokens. Clients read both numbers out of its message."""
    return PromptTooLongError(f"prompt is too long: {tokens} tokens > {maximum} maximum")


def overflow(message: str, codes: Iterable[str] = ()) -> ApiError | None:
    """The error for a backend's refusal, if that is because something is too long.

    `message` and `codes` are the backend's own; see reason.py.
    """
    words = match_wording(message)
    for wording in CAPS:
        if found := wording.numbers(words):
            limits = f"{found.get('asked', 'more')} > {found['maximum']}"
            text = f"max_tokens: {limits}, which is the maximum allowed number of output tokens"
            return OutputLimitError(text, found["maximum"], by_window=False)
    for wording in SUMS:
        if found := wording.numbers(words):
            return _sum(message, **found)
    for wording in PROMPTS:
        found = wording.numbers(words)
        if found is not None:
            return _prompt(message, **found)
    said_codes = {*(each.lower() for each in codes), *_WORD.findall(words.labels)}
    said_codes.update(_WORD.findall(words.words[:_SHOWN].lower())[:1])
    return None if PROMPT_CODES.isdisjoint(said_codes) else _prompt(message)


def _prompt(
    message: str, tokens: int = 0, more: int = 0, maximum: int | None = None
) -> PromptTooLongError:
    """The error for a prompt that does not fit.

    Where the backend stopped counting, it is in the backend's own words: Claude Code shortens by
    the difference of the two numbers, and one token less would not do.
    """
    if tokens and maximum is not None:
        return too_long(tokens + more, maximum)
    shown = message[:_SHOWN]
    return PromptTooLongError(f"prompt is too long ({shown})", maximum=maximum, quoted=[shown])


def _sum(
    message: str, maximum: int, asked: int = 0, tokens: int = 0, more: int = 0, total: int = 0
) -> ApiError:
    """The error for a prompt and an output limit that do not fit together."""
    prompt = tokens + more
    if prompt >= maximum or not (asked or total):
        return _prompt(message, tokens, more, maximum)
    # One less than what is left, because some refuse a sum that is equal to the window.
    limit = max(1, maximum - prompt - 1) if prompt else None
    known = str(prompt) if prompt else f"more than {max(0, maximum - asked)}"
    summed = f"{total}" if total else f"{known} + {asked}"
    text = f"input length and `max_tokens` exceed context limit: {summed} > {maximum}"
    text += ", decrease input length or `max_tokens` and try again"
    return OutputLimitError(text, limit, excess=total - maximum + 1 if total else None)
