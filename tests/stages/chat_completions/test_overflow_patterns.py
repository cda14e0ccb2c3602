"""Each pattern about prompts and output limits recognises a provider's message."""

from __future__ import annotations

from typing import Any

import pytest

from stages.chat_completions.error_patterns import split_labels
from stages.chat_completions.output_limit_patterns import OUTPUT_LIMIT_TOO_HIGH
from stages.chat_completions.overflow import lower_limit, overflow_error
from stages.chat_completions.overflow_patterns import PROMPT_TOO_LONG, SUM_TOO_LONG
from stages.messages_api.errors import OutputLimitError, PromptTooLongError
from tests.cases import for_each
from tests.stages.chat_completions.prompt_overflows import PROMPT_BODIES
from tests.stages.chat_completions.support import openai, refused, texts


@for_each(("status", "body", "numbers"), PROMPT_BODIES.values(), ids=PROMPT_BODIES)
def test_row_b24_a_prompt_that_is_too_long_in_a_provider_s_words(
    status: int, body: Any, numbers: str
) -> None:
    error = refused(status, body)
    assert type(error) is PromptTooLongError
    if numbers:
        assert error.message == f"prompt is too long: {numbers} maximum"
    else:
        assert error.message.startswith("prompt is too long (")


CLOUDFLARE = (
    "AiError: The estimated number of input and maximum output tokens (35000) exceeded this model "
    "context window limit (24000)"
)
TGI = (
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= {}. Given: {} `inputs` "
    "tokens and {} `max_new_tokens`"
)


def test_row_b24_tgi_s_limit_is_lowered_if_the_prompt_fits() -> None:
    body = {"error": TGI.format(1512, 1000, 1024), "error_type": "validation"}
    error = refused(422, body)
    assert isinstance(error, OutputLimitError)
    assert error.message.startswith("input length and `max_tokens` exceed context limit: 1000 + 1")
    assert lower_limit({"max_tokens": 1024}, error) == {"max_tokens": 511}
    alone = refused(422, {"error": TGI.format(1512, 1600, 10), "error_type": "validation"})
    assert alone.message == "prompt is too long: 1600 tokens > 1512 maximum"


@pytest.mark.parametrize("code", ["5021", "3010"])
def test_row_b24_cloudflare_s_sum_lowers_the_output_limit(code: str) -> None:
    error = refused(413, {"errors": [{"message": f"{code}: {CLOUDFLARE}", "code": int(code)}]})
    assert isinstance(error, OutputLimitError)
    assert "input length and `max_tokens` exceed context limit: 35000 > 24000" in error.message
    assert lower_limit({"max_tokens": 16000, "temperature": 1}, error) == {
        "max_tokens": 4999,
        "temperature": 1,
    }
    assert lower_limit({"max_completion_tokens": 8000}, error) == {"max_completion_tokens": 1}


def test_row_b24_cloudflare_s_output_limit_is_an_output_limit() -> None:
    response = "max_completion_tokens is too large: 1298829. This model supports at most 1048576"
    error = overflow_error(f"AiError: {response}")
    assert isinstance(error, OutputLimitError)
    assert (error.limit, error.by_window) == (1048576, False)


GROQ = (
    "`max_completion_tokens` must be less than or equal to `16384`, the maximum value for "
    "`max_completion_tokens` is less than the `context_window` for this model"
)
COHERE = (
    "max tokens must be less than or equal to 4096, the maximum output{} for this model - "
    "received 8192."
)
# The message, and the largest output of the model.
CAP_WORDINGS = {
    "Anthropic": (
        (
            "max_tokens: 128001 > 64000, which is the maximum allowed number of output tokens for "
            "claude-opus-4-5-20251101"
        ),
        64000,
    ),
    "Groq": (GROQ, 16384),
    "Groq, without quotes": (GROQ.replace("`", ""), 16384),
    "Groq, of a model": (
        "max_tokens for `llama-3.1-8b-instant` must be less than or equal to 8000",
        8000,
    ),
    "DeepSeek": ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8192),
    "DashScope": (
        "<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 8192]",
        8192,
    ),
    "DashScope through OpenRouter": (
        (
            "Upstream error from Alibaba: <400> InternalError.Algo.InvalidParameter: Range of "
            "max_tokens should be [1, 32768]"
        ),
        32768,
    ),
    "Cohere": ("too many tokens: " + COHERE.format(" length"), 4096),
    "Cohere, shorter": (COHERE.format(""), 4096),
    "Bedrock": (
        (
            "An error occurred (ValidationException) when calling the ConverseStream operation: "
            "The maximum tokens you requested exceeds the model limit of 2048. Try again with a "
            "maximum tokens value that is lower than 2048."
        ),
        2048,
    ),
}


@for_each(("words", "maximum"), CAP_WORDINGS.values(), ids=CAP_WORDINGS)
def test_row_b24_a_limit_over_what_the_model_puts_out_is_lowered(words: str, maximum: int) -> None:
    error = refused(400, openai(words))
    assert isinstance(error, OutputLimitError)
    assert not error.by_window
    assert lower_limit({"max_tokens": 200_000}, error) == {"max_tokens": maximum}
    assert error.message.endswith("which is the maximum allowed number of output tokens")


def test_row_b24_openai_s_old_words_split_prompt_and_output() -> None:
    error = overflow_error(
        "This model's maximum context length is 4097 tokens, however you requested 4116 tokens "
        "(1044 in your prompt; 3072 for the completion). Please reduce your prompt"
    )
    assert isinstance(error, OutputLimitError)
    assert error.limit == 4097 - 1044 - 1


# Those of tests/stages/chat_completions/test_overflow.py, one for each row that is not above.
WINDOW = "This model's maximum context length is 9 tokens"
OPENROUTER = (
    "This endpoint's maximum context length is 9 tokens. However, you requested about 9 tokens"
)
ENGINE = f"{WINDOW}. However, you requested 8 output tokens and your prompt contains"
SUM_WORDINGS = (
    f"{WINDOW}. However, you requested 9 tokens (1 in the messages, 8 in the completion).",
    (
        f"{WINDOW}. However, you requested 9 tokens (1 in the messages, 2 in the functions, and 8 "
        "in the completion)."
    ),
    f"{WINDOW}, however you requested 9 tokens (1 in your prompt; 8 for the completion).",
    f"{OPENROUTER} (1 of text input, 8 in the output).",
    f"{OPENROUTER} (1 of text input, 1 of tool input, 8 in the output).",
    (
        f"'max_tokens' or 'max_completion_tokens' is too large: 8. {WINDOW} and your request has 2 "
        "input tokens (8 > 9 - 2)."
    ),
    (
        "You passed 2 input tokens and requested 8 output tokens. However, the model's context "
        "length is only 9 tokens"
    ),
    f"{ENGINE} 2 input tokens",
    f"{ENGINE} at least 2 input tokens",
    f"{ENGINE} 90 characters (more than 10 characters)",
    "max_tokens=64 cannot be greater than max_model_len=max_total_tokens=32.",
    (
        "Requested token count exceeds the model's maximum context length of 9 tokens. You "
        "requested a total of 10 tokens: 2 tokens from the input messages and 8 tokens for the "
        "completion."
    ),
    "input length and `max_tokens` exceed context limit: 1 + 8 > 9, decrease",
    CLOUDFLARE,
    TGI.format(9, 2, 8),
    "max_tokens is too large: 64000. This model supports at most 16384 completion tokens",
)


def test_row_b24_each_row_of_the_tables_has_its_example() -> None:
    examples = [*SUM_WORDINGS, *(t for t, _ in CAP_WORDINGS.values())]
    examples += [*(t for _, body, _ in PROMPT_BODIES.values() for t in texts(body))]
    rows = (*OUTPUT_LIMIT_TOO_HIGH, *SUM_TOO_LONG, *PROMPT_TOO_LONG)
    first = {
        id(next((row for row in rows if row.numbers(split_labels(example)) is not None), None))
        for example in examples
    }
    # Some say the same with less: they are met where the words go on otherwise.
    general = {"prompt [is ]too long"}
    unmet = [r.template for r in rows if id(r) not in first and r.template not in general]
    assert unmet == []


# L5: what is no count of tokens

VLLM = (
    "This model's maximum context length is 2048 tokens. However, you requested 0 output tokens "
    "and your prompt contains {}. Please reduce the length of the input prompt."
)
CHARACTERS = (
    "2000148 characters (more than 165888 characters, which is the upper bound for 2048 input "
    "tokens)"
)
STOPPED = {
    "characters": VLLM.format(CHARACTERS),
    "at least": VLLM.format("at least 2049 input tokens, for a total of at least 2049 tokens"),
    "vLLM 0.16, which cuts before it counts": (
        "You passed 2049 input tokens and requested 0 output tokens. However, the model's context "
        "length is only 2048 tokens"
    ),
}


@pytest.mark.parametrize("words", STOPPED.values(), ids=STOPPED)
def test_row_l5_a_cut_off_count_is_not_used_to_shorten(
    words: str,
) -> None:
    error = refused(400, openai(words, type="BadRequestError", code=400))
    assert isinstance(error, PromptTooLongError)
    assert error.maximum == 2048
    assert error.message == f"prompt is too long ({words})"
