"""An output limit that does not fit, in each backend's words. Prompts are in test_errors.py."""

from __future__ import annotations

from typing import Any

import pytest

from stages.chat_completions.errors import error_from_object, error_from_status
from stages.chat_completions.overflow import lower_limit, overflow_error
from stages.messages_api.errors import OutputLimitError, PromptTooLongError
from stages.wire import json_codec
from tests.cases import for_each

OLD = (
    "This model's maximum context length is {} tokens. However, you requested {} tokens "
    "({} in the messages, {} in the completion). Please reduce the length of the messages or "
    "completion."
)
NEW = (
    "This model's maximum context length is {} tokens. However, you requested {} output tokens "
    "and your prompt contains {} input tokens, for a total of {} tokens. Please reduce the length "
    "of the input prompt or the number of requested output tokens."
)

# The message, and the limit that fits; None: the backend knows.
FITTING: dict[str, tuple[str, int | None]] = {
    "OpenAI, vLLM up to 0.10": (OLD.format(8192, 9000, 1000, 8000), 7191),
    "OpenAI with tools": (
        (
            "This model's maximum context length is 8192 tokens. However, you requested 9050 "
            "tokens (1000 in the messages, 50 in the functions, and 8000 in the completion)."
        ),
        7141,
    ),
    "OpenAI, in lower case": (
        (
            "This model's maximum context length is 4097 tokens, however you requested 4203 tokens "
            "(3703 in the messages, 500 in the completion)."
        ),
        393,
    ),
    "vLLM 0.11 to 0.15": (
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 8192. This model's maximum "
            "context length is 32768 tokens and your request has 24828 input tokens (8192 > 32768 "
            "- 24828)."
        ),
        7939,
    ),
    "vLLM 0.16": (
        (
            "You passed 769 input tokens and requested 256 output tokens. However, the model's "
            "context length is only 1024 tokens, resulting in a maximum input length of 768 tokens."
        ),
        None,
    ),
    "vLLM 0.16, by characters": (
        (
            "You passed 90000 input characters and requested 256 output tokens. However, the "
            "model's context length is only 1024 tokens, resulting in a maximum input length of "
            "768 tokens."
        ),
        None,
    ),
    "vLLM since 0.18, counted": (NEW.format(32768, 8192, 24828, 33020), 7939),
    "vLLM since 0.18, not counted to the end": (
        NEW.format(262144, 32000, "at least 230145", "at least 262145"),
        None,
    ),
    "vLLM since 0.18, by characters": (
        (
            "This model's maximum context length is 1024 tokens. However, you requested 256 output "
            "tokens and your prompt contains 90000 characters (more than 76800 characters, which "
            "is the upper bound for 768 input tokens)."
        ),
        None,
    ),
    "vLLM, a limit over the window": (
        (
            "max_tokens=64000 cannot be greater than max_model_len=max_total_tokens=32768. Please "
            "request fewer output tokens. max_tokens=64000 cannot be greater than "
            "max_model_len=32768."
        ),
        None,
    ),
    "SGLang": (
        (
            "Requested token count exceeds the model's maximum context length of 64000 tokens. You "
            "requested a total of 71897 tokens: 7897 tokens from the input messages and 64000 "
            "tokens for the completion. Please reduce the number of tokens."
        ),
        56102,
    ),
    "OpenRouter": (
        (
            "This endpoint's maximum context length is 32768 tokens. However, you requested about "
            "37623 tokens (21239 of text input, 16384 in the output)."
        ),
        11528,
    ),
    "OpenRouter with tools": (
        (
            "This endpoint's maximum context length is 32768 tokens. However, you requested about "
            "37623 tokens (20239 of text input, 1000 of tool input, 16384 in the output)."
        ),
        11528,
    ),
    "Anthropic": ("input length and `max_tokens` exceed context limit: 100 + 64 > 128, de", 27),
    "space for one token": (OLD.format(8192, 9000, 8191, 8000), 1),
}


@for_each(("message", "space"), FITTING.values(), ids=FITTING)
def test_pitfall_31_a_too_large_limit_is_no_overflow(message: str, space: int | None) -> None:
    body = json_codec.encode({"error": {"message": message, "code": 400}})
    error = error_from_status("local", 400, {}, body)
    assert isinstance(error, OutputLimitError)
    assert (error.limit, error.by_window) == (space, True)
    assert error.message.startswith("input length and `max_tokens` exceed context limit: ")


def test_the_numbers_of_the_backend_are_in_the_message() -> None:
    error = overflow_error(OLD.format(8192, 9000, 1000, 8000))
    assert str(error) == (
        "input length and `max_tokens` exceed context limit: 1000 + 8000 > 8192, decrease input "
        "length or `max_tokens` and try again"
    )
    error = overflow_error(NEW.format(100, 60, "at least 41", "at least 101"))
    assert "more than 40 + 60 > 100" in str(error)


PROMPTS: dict[str, tuple[str, str]] = {
    "OpenAI, vLLM up to 0.10": (OLD.format(16384, 122946, 112946, 10000), "112946 tokens > 16384"),
    "as long as the window": (OLD.format(16384, 26384, 16384, 10000), "16384 tokens > 16384"),
    "vLLM since 0.18": (NEW.format(100, 0, 130, 130), "130 tokens > 100"),
    "vLLM 0.11, the prompt alone": (
        (
            "This model's maximum context length is 512 tokens. However, your request has 945 "
            "input tokens. Please reduce the length of the input messages."
        ),
        "945 tokens > 512",
    ),
}


@pytest.mark.parametrize(("message", "numbers"), PROMPTS.values(), ids=PROMPTS)
def test_pitfall_01_a_prompt_that_does_not_fit_alone_is_too_long(
    message: str, numbers: str
) -> None:
    error = overflow_error(message)
    assert type(error) is PromptTooLongError
    assert error.message == f"prompt is too long: {numbers} maximum"


def test_more_than_the_model_puts_out_is_lowered_to_that() -> None:
    response = (
        "max_tokens is too large: 64000. This model supports at most 16384 completion tokens, "
        "whereas you provided 64000."
    )
    error = error_from_object("local", {"message": response, "code": 400})
    assert isinstance(error, OutputLimitError)
    assert (error.limit, error.by_window) == (16384, False)
    assert error.message.startswith("max_tokens: 64000 > 16384, which is the maximum allowed")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_lowered_limit_keeps_its_name_and_all_else(name: str) -> None:
    options = {"temperature": 1, name: 64_000, "stop": ["x"]}
    error = OutputLimitError("no", limit=100)
    assert lower_limit(options, error) == {"temperature": 1, "stop": ["x"], name: 100}
    assert lower_limit(options, OutputLimitError("no", limit=None)) == {
        "temperature": 1,
        "stop": ["x"],
    }
    assert options[name] == 64_000
    # Some backends only estimate the prompt: no more is asked for than before.
    assert lower_limit(options, OutputLimitError("no", limit=100_000)) == options


def test_numbers_beyond_reason_are_no_failure() -> None:
    response = OLD.format("9" * 5000, 1, 1, 1)
    assert isinstance(overflow_error(response), PromptTooLongError)


@pytest.mark.parametrize(
    ("space", "left"),
    [(9000, {"type": "enabled", "budget_tokens": 8999}), (1024, None), (1, None)],
)
def test_row_b24_a_lowered_limit_exceeds_the_thinking_budget(space: int, left: Any) -> None:
    thinking = {"type": "enabled", "budget_tokens": 31_999}
    error = OutputLimitError("", space)
    lowered = lower_limit({"max_tokens": 32_000, "thinking": thinking}, error)

    assert lowered == {"max_tokens": space, **({"thinking": left} if left else {})}
    kept = lower_limit({"max_tokens": 32_000, "thinking": {"type": "adaptive"}}, error)
    assert kept["thinking"] == {"type": "adaptive"}
