"""What does not fit into a backend's window, in each backend's words.

what is too long          becomes
-----------------------   ---------------------------------------------------------------
the prompt                "prompt is too long": clients then shorten the conversation
prompt and output limit   OutputLimitError: the backend is asked again, with what fits
the output limit          the same
"""

from __future__ import annotations

import re
from typing import Any

from stages.backends.profile import OUTPUT_LIMITS
from stages.wire.errors import ApiError, InvalidRequestError

#: Characters that are searched for numbers.
_READ = 4000
# Prompt and output limit together were too long, in each backend's words. Groups: tokens (of the
# prompt), more (of the tools), asked (the output limit), maximum. Without `tokens` the backend
# stopped counting, and tells no more than that the prompt is longer than the rest of the window.
_EXCESS = [
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        (  # OpenAI, vLLM up to 0.10
            r"maximum context length is (?P<maximum>\d+) tokens.{1,40}?requested \d+ tokens "
            r"\((?P<tokens>\d+) in the messages,( (?P<more>\d+) in the functions,)?( and)? "
            r"(?P<asked>\d+) in the completion\)"
        ),
        (  # OpenRouter
            r"maximum context length is (?P<maximum>\d+) tokens.{1,40}?requested about \d+ tokens "
            r"\((?P<tokens>\d+) of text input, ((?P<more>\d+) of tool input, )?"
            r"(?P<asked>\d+) in the output\)"
        ),
        (  # vLLM 0.11 to 0.15
            r"is too large: (?P<asked>\d+)\. This model's maximum context length is "
            r"(?P<maximum>\d+) tokens and your request has (?P<tokens>\d+) input tokens"
        ),
        (  # vLLM 0.16 and 0.17, which cuts the prompt before it counts
            r"you passed \d+ input \w+ and requested (?P<asked>\d+) output tokens\. However, the "
            r"model's context length is only (?P<maximum>\d+) tokens"
        ),
        (  # vLLM since 0.18, where it has counted them all
            r"maximum context length is (?P<maximum>\d+) tokens\. However, you requested "
            r"(?P<asked>\d+) output tokens and your prompt contains (?P<tokens>\d+) input tokens"
        ),
        (  # and where it has not
            r"maximum context length is (?P<maximum>\d+) tokens\. However, you requested "
            r"(?P<asked>\d+) output tokens and your prompt contains (at least )?\d+ (input|char)"
        ),
        (
            r"max_(completion_)?tokens=(?P<asked>\d+) cannot be greater than "
            r"max_model_len=(?P<maximum>\d+)"
        ),
        (  # SGLang
            r"maximum context length of (?P<maximum>\d+) tokens\. You requested a total of \d+ "
            r"tokens: (?P<tokens>\d+) tokens from the input messages and (?P<asked>\d+) tokens"
        ),
        (  # Anthropic
            r"input length and `max_tokens` exceed context limit: "
            r"(?P<tokens>\d+) \+ (?P<asked>\d+) > (?P<maximum>\d+)"
        ),
    )
]
# The output limit alone is over what the model can put out, in OpenAI's words.
_CAP = re.compile(
    r"max_(completion_)?tokens is too large: (?P<asked>\d+)\.\s*"
    r"This model supports at most (?P<maximum>\d+) completion tokens",
    re.IGNORECASE,
)
# The prompt was too long, in each backend's words; groups: tokens, maximum.
_OVERFLOW = [
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"request \((?P<tokens>\d+) tokens\) exceeds the available context size \((?P<maximum>\d+)",
        (
            r"maximum context length is (?P<maximum>\d+) tokens.*?"
            r"(?:prompt contains(?: at least)?|resulted in|request has) (?P<tokens>\d+)"
        ),
        (
            r"passed (?P<tokens>\d+) input tokens.*?"
            r"context length is only (?P<maximum>\d+) tokens"
        ),
        r"maximum context length is (?P<maximum>\d+) tokens|model's context length is only",
        (
            r"input length \((?P<tokens>\d+)\) exceeds model's maximum context length "
            r"\((?P<maximum>\d+)\)"
        ),
        (
            r"input \((?P<tokens>\d+) tokens\) is longer than the model's context length "
            r"\((?P<maximum>\d+)"
        ),
        r"prompt has (?P<tokens>\d+) tokens, but the configured context size is (?P<maximum>\d+)",
        r"context_length_exceeded|exceed_context_size_error|model_max_prompt_tokens_exceeded",
        r"prompt (is )?too long|input is too long|context size has been exceeded",
        r"exceeds the context window|maximum prompt length|exceeded model token limit",
        r"reduce the length of the messages|requested token count exceeds",
        r"ContextWindowExceededError",
    )
]


class PromptTooLongError(InvalidRequestError):
    """The prompt does not fit into the backend's window."""


class OutputLimitError(InvalidRequestError):
    """The output limit is too high for the backend, the prompt as such is not.

    `room` is the limit that fits. None: nobody knows; without a limit, the backend takes what is
    left. `by_window`: because of the window, not of what the model can put out. Its message is
    in the words of the Messages API, which clients know.
    """

    def __init__(self, message: str, room: int | None, by_window: bool = True) -> None:
        super().__init__(message)
        self.room = room
        self.by_window = by_window

    def lowered(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of a call with the limit that fits."""
        kept = {name: value for name, value in options.items() if name not in OUTPUT_LIMITS}
        if self.room is not None:
            limits = (name for name in OUTPUT_LIMITS if name in options)
            kept |= {name: min(self.room, options[name]) for name in limits}
        return kept


def overflow(text: str) -> ApiError | None:
    """The error for a backend's refusal, if that is because something is too long."""
    begin = text[:_READ]
    if match := _CAP.search(begin):
        limits = f"{match['asked']} > {match['maximum']}"
        words = f"max_tokens: {limits}, which is the maximum allowed number of output tokens"
        return OutputLimitError(words, int(match["maximum"]), by_window=False)
    for pattern in _EXCESS:
        if match := pattern.search(begin):
            numbers = {name: int(number) for name, number in match.groupdict("0").items()}
            if found := _excess(**numbers):
                return found
    for pattern in _OVERFLOW:
        if match := pattern.search(text):
            told = match.groupdict()
            if told.get("tokens"):
                return _too_long(told["tokens"], told["maximum"])
            return PromptTooLongError(f"prompt is too long ({text[:300]})", quoted=[text[:300]])
    return None


def _too_long(tokens: int | str, maximum: int | str) -> ApiError:
    return PromptTooLongError(f"prompt is too long: {tokens} tokens > {maximum} maximum")


def _excess(maximum: int, asked: int, tokens: int = 0, more: int = 0) -> ApiError | None:
    prompt = tokens + more
    if prompt >= maximum:
        return _too_long(prompt, maximum)
    if not asked:
        return None
    # One less than what is left, because some refuse a sum that is equal to the window.
    room = max(1, maximum - prompt - 1) if prompt else None
    known = str(prompt) if prompt else f"more than {max(0, maximum - asked)}"
    text = f"input length and `max_tokens` exceed context limit: {known} + {asked} > {maximum}"
    return OutputLimitError(f"{text}, decrease input length or `max_tokens` and try again", room)
