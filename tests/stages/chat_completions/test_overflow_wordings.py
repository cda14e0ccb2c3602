"""Refusals as each provider writes them, whole, and what the client is told of each."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from stages.chat_completions.account_wordings import KEYS, QUOTAS, UNSUPPORTED
from stages.chat_completions.errors import error_from_status, error_in
from stages.chat_completions.output_wordings import CAPS
from stages.chat_completions.overflow import lower_limit, overflow
from stages.chat_completions.overflow_wordings import PROMPTS, SUMS
from stages.chat_completions.wording import Wording, match_wording
from stages.messages_api.errors import (
    ApiError,
    InternalError,
    InvalidRequestError,
    OutputLimitError,
    PromptTooLongError,
)
from stages.routing.error_kinds import blames_target, error_kind, is_transient


def refused(status: int, body: Any) -> ApiError:
    """The error for a refusal with this status and body."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_from_status("local", status, {}, data)


def openai(message: str, **members: Any) -> dict[str, Any]:
    """An error as OpenAI and most others write it."""
    return {"error": {"message": message, "param": None, **members}}


LM_STUDIO = (
    "The number of tokens to keep from the initial prompt is greater than the context length"
    "{}. Try to load the model with a larger context length, or provide a shorter {}"
)
GEMINI = "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576)."
DASHSCOPE = "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 983616]"
MISTRAL = (
    "Prompt contains 159202 tokens and 0 draft tokens, too large for model with 131072 maximum "
    "context length"
)
GITHUB = "Request body too large for gpt-4o model. Max size: 8000 tokens."
LITELLM = (
    "litellm.ContextWindowExceededError: litellm.BadRequestError: ContextWindowExceededError: "
    "OpenAIException - This model's maximum context length is 4096 tokens. However, your messages "
    "resulted in 4200 tokens. Please reduce the length of the messages.\nmodel=gpt. "
    "context_window_fallbacks=None. fallbacks=None."
)

# The status, the whole body, and the numbers that clients read; "": there are none.
PROMPT_BODIES: dict[str, tuple[int, Any, str]] = {
    "LM Studio": (
        400,
        {"error": LM_STUDIO.format(" (n_keep: 10247 >= n_ctx: 4096)", "prompt.")},
        "10247 tokens > 4096",
    ),
    "LM Studio, without numbers": (400, {"error": LM_STUDIO.format("", "input")}, ""),
    "LM Studio, truncation": (
        400,
        {"error": "Cannot truncate prompt with n_keep (15028) >= n_ctx (7424)"},
        "15028 tokens > 7424",
    ),
    "LM Studio, overflow policy": (
        400,
        {
            "error": "Trying to keep the first 111490 tokens when context the overflows. However, "
            "the model is loaded with context length of only 32768 tokens, which is not enough. "
            "Try to load the model with a larger context length, or provide a shorter input"
        },
        "111490 tokens > 32768",
    ),
    "Gemini, a list": (
        400,
        [{"error": {"code": 400, "message": GEMINI, "status": "INVALID_ARGUMENT"}}],
        "1200293 tokens > 1048576",
    ),
    "Gemini, through a gateway": (
        400,
        openai(
            json.dumps({"error": {"code": 400, "message": GEMINI, "status": "INVALID_ARGUMENT"}}),
            code=400,
            status="Bad Request",
        ),
        "1200293 tokens > 1048576",
    ),
    "Gemini, without a count": (
        400,
        openai(
            "The input token count exceeds the maximum number of tokens allowed (1048576).",
            code=400,
        ),
        "",
    ),
    "Vertex": (
        400,
        openai(
            "Unable to submit request because the input token count is 32825 but model only "
            "supports up to 32768. Reduce the input token count and try again.",
            code=400,
        ),
        "32825 tokens > 32768",
    ),
    "DashScope": (
        400,
        {
            **openai(DASHSCOPE, type="invalid_request_error", code="invalid_parameter_error"),
            "request_id": "81a373d6-28bd-9968-8335-e22a2127c41b",
        },
        "",
    ),
    "MiniMax": (
        400,
        {
            "type": "error",
            "error": {
                "type": "bad_request_error",
                "message": "invalid params, context window exceeds limit (2013)",
                "http_code": "400",
            },
            "request_id": "05fd",
        },
        "",
    ),
    "Mistral": (
        400,
        {
            "object": "error",
            "message": MISTRAL,
            "type": "invalid_request_invalid_args",
            "param": None,
            "code": "3051",
            "raw_status_code": 400,
        },
        "159202 tokens > 131072",
    ),
    "Copilot": (
        400,
        openai("prompt token count of 93854 exceeds the limit of 90000", code="", type=""),
        "93854 tokens > 90000",
    ),
    "GitHub Models": (
        413,
        {"error": {"code": "tokens_limit_reached", "message": GITHUB, "details": GITHUB}},
        "",
    ),
    "vLLM, its engine": (
        400,
        {
            "object": "error",
            "message": "The decoder prompt (length 21535) is longer than the maximum model length "
            "of 16384. Make sure that `max_model_len` is no smaller than the number of text tokens",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        "21535 tokens > 16384",
    ),
    "vLLM, images": (
        400,
        openai(
            "The prompt (total length 25938) is too long to fit into the model (context length "
            "4096). Make sure that `max_model_len` is no smaller than the number of text tokens "
            "plus multimodal tokens.",
            type="BadRequestError",
            code=400,
        ),
        "25938 tokens > 4096",
    ),
    "vLLM 0.11, the prompt alone": (
        400,
        openai(
            "This model's maximum context length is 512 tokens. However, your request has 945 "
            "input tokens. Please reduce the length of the input messages.",
            code=400,
        ),
        "945 tokens > 512",
    ),
    "OpenRouter, the prompt alone": (
        400,
        openai(
            "This endpoint's maximum context length is 32768 tokens. However, you requested about "
            "42832 tokens (42832 of text input). Please reduce the length of either one",
            code=400,
        ),
        "42832 tokens > 32768",
    ),
    "OpenRouter, with tools": (
        400,
        openai(
            "This endpoint's maximum context length is 32768 tokens. However, you requested about "
            "42832 tokens (42000 of text input, 832 of tool input). Please reduce the length",
            code=400,
        ),
        "42832 tokens > 32768",
    ),
    "OpenRouter, Poolside": (
        400,
        openai(
            "Provider returned error",
            code=400,
            metadata={
                "raw": "Input length 131393 exceeds the maximum allowed input length of 131040 "
                "tokens.",
                "provider_name": "Poolside",
            },
        ),
        "131393 tokens > 131040",
    ),
    "OpenRouter, a provider's JSON": (
        400,
        openai(
            "Provider returned error",
            code=400,
            metadata={"raw": json.dumps(openai(MISTRAL)), "provider_name": "Mistral"},
        ),
        "159202 tokens > 131072",
    ),
    "TGI, the prompt alone": (
        422,
        {
            "error": "Input validation error: `inputs` must have less than 1024 tokens. Given: "
            "1872",
            "error_type": "validation",
        },
        "1872 tokens > 1024",
    ),
    "LiteLLM": (400, openai(LITELLM, type=None, code="400"), "4200 tokens > 4096"),
    "LiteLLM, a message it does not know": (
        400,
        openai("litellm.ContextWindowExceededError: CohereException - no", code="400"),
        "",
    ),
    "an SDK's text": (
        400,
        openai(f"Error code: 400 - {{'error': {{'message': \"{MISTRAL}\", 'type': 'x'}}}}"),
        "159202 tokens > 131072",
    ),
    "Bedrock's SDK": (
        400,
        {
            "message": "An error occurred (ValidationException) when calling the InvokeModel "
            "operation: Input is too long for requested model."
        },
        "",
    ),
    "Databricks": (
        400,
        {
            "error_code": "BAD_REQUEST",
            "message": json.dumps({"message": "Input is too long for requested model."}),
        },
        "",
    ),
    "xAI": (
        400,
        {
            "code": "Client specified an invalid argument",
            "error": "This model's maximum prompt length is 131072 but the request contains 149617 "
            "tokens.",
        },
        "149617 tokens > 131072",
    ),
    "xAI, cut": (400, openai("This model's maximum prompt length is 131072 but"), ""),
    "Kimi": (
        400,
        openai(
            "Invalid request: Your request exceeded model token limit: 262144 (requested: 300000)",
            type="invalid_request_error",
        ),
        "300000 tokens > 262144",
    ),
    "Kimi, cut": (400, openai("Your request exceeded model token limit: 8192"), ""),
    "OpenAI, o-series": (
        400,
        openai(
            "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in "
            "300001 tokens. Please reduce the length of the messages.",
            code="context_length_exceeded",
        ),
        "300001 tokens > 272000",
    ),
    "OpenAI, o-series, cut": (400, openai("Input tokens exceed the configured limit"), ""),
    "ds4-server": (
        400,
        openai("Prompt has 256,468 tokens, but the configured context size is 256,000 tokens"),
        "256468 tokens > 256000",
    ),
    "Z.ai": (400, openai("no", code="model_context_window_exceeded"), ""),
    "FastAPI": (
        422,
        {"detail": [{"loc": ["body"], "msg": "Value error, prompt is too long", "input": {}}]},
        "",
    ),
    "a bare window": (400, openai("maximum context length is 4097 tokens. You asked 5000"), ""),
    "a bare window of words": (400, openai("maximum context length is exceeded"), ""),
    "llama.cpp, until 2025": (
        400,
        openai(
            "the request exceeds the available context size. try increasing the context size or "
            "enable context shift",
            type="invalid_request_error",
            code=400,
        ),
        "",
    ),
    "llama.cpp": (
        400,
        openai(
            "request (144055 tokens) exceeds the available context size (131072 tokens), try "
            "increasing it",
            type="exceed_context_size_error",
        ),
        "144055 tokens > 131072",
    ),
    "llama.cpp, long ago": (500, openai("Context size has been exceeded.", code=500), ""),
    "OpenAI": (
        400,
        openai(
            "This model's maximum context length is 8192 tokens. However, your messages resulted "
            "in 9001 tokens. Please reduce the length of the messages.",
            code="context_length_exceeded",
        ),
        "9001 tokens > 8192",
    ),
    "OpenAI, Responses": (
        400,
        openai("Your input exceeds the context window of this model."),
        "",
    ),
    "SGLang": (
        400,
        openai(
            "The input (233864 tokens) is longer than the model's context length (202752 tokens)."
        ),
        "233864 tokens > 202752",
    ),
    "SGLang, long ago": (
        400,
        openai("Input length (5000) exceeds model's maximum context length (4096)."),
        "5000 tokens > 4096",
    ),
    "SGLang, of the sum": (
        400,
        openai("Requested token count exceeds the model's maximum of 8192 tokens"),
        "",
    ),
    "Ollama": (
        500,
        openai("prompt too long; exceeded max context length by 7 tokens", type="api_error"),
        "",
    ),
    "Groq": (
        400,
        openai("Please reduce the length of the messages or completion."),
        "",
    ),
    "Anthropic": (400, openai("prompt is too long: 7 tokens > 5 maximum"), "7 tokens > 5"),
    "Ollama's cloud": (
        400,
        {"error": "The prompt is too long: 262960, model maximum context length: 262144"},
        "262960 tokens > 262144",
    ),
    "Z.ai, 1261": (400, openai("Prompt exceeds max length", code="1261"), ""),
    "Z.ai, by its code": (400, openai("Prompt 超长", code="1261"), ""),
    "Z.ai, 1210": (400, openai("tokens in request more than max tokens allowed", code="1210"), ""),
    "mlx-serve": (400, openai("Prompt exceeds maximum context length"), ""),
    "Cohere": (
        400,
        {
            "message": "too many tokens: total number of tokens in the prompt cannot exceed 4081 - "
            "received 4292. Try using a shorter prompt"
        },
        "4292 tokens > 4081",
    ),
    "Cohere, by how much": (
        400,
        {"message": "too many tokens: size limit exceeded by 11326 tokens. Try using shorter"},
        "",
    ),
}


@pytest.mark.parametrize(("status", "body", "numbers"), PROMPT_BODIES.values(), ids=PROMPT_BODIES)
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


def test_row_b24_tgi_s_output_limit_is_lowered_where_the_prompt_alone_fits() -> None:
    body = {"error": TGI.format(1512, 1000, 1024), "error_type": "validation"}
    error = refused(422, body)
    assert isinstance(error, OutputLimitError)
    assert error.message.startswith("input length and `max_tokens` exceed context limit: 1000 + 1")
    assert lower_limit({"max_tokens": 1024}, error) == {"max_tokens": 511}
    alone = refused(422, {"error": TGI.format(1512, 1600, 10), "error_type": "validation"})
    assert alone.message == "prompt is too long: 1600 tokens > 1512 maximum"


@pytest.mark.parametrize("code", ["5021", "3010"])
def test_row_b24_cloudflare_s_sum_lowers_the_output_limit_by_what_is_too_much(code: str) -> None:
    error = refused(413, {"errors": [{"message": f"{code}: {CLOUDFLARE}", "code": int(code)}]})
    assert isinstance(error, OutputLimitError)
    assert "input length and `max_tokens` exceed context limit: 35000 > 24000" in error.message
    assert lower_limit({"max_tokens": 16000, "temperature": 1}, error) == {
        "max_tokens": 4999,
        "temperature": 1,
    }
    assert lower_limit({"max_completion_tokens": 8000}, error) == {"max_completion_tokens": 1}


def test_row_b24_cloudflare_s_limit_of_the_output_is_told_as_one() -> None:
    said = "max_completion_tokens is too large: 1298829. This model supports at most 1048576"
    error = overflow(f"AiError: {said}")
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
# What is said, and the most that the model puts out.
CAPS_SAID = {
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


@pytest.mark.parametrize(("words", "maximum"), CAPS_SAID.values(), ids=CAPS_SAID)
def test_row_b24_a_limit_over_what_the_model_puts_out_is_lowered(words: str, maximum: int) -> None:
    error = refused(400, openai(words))
    assert isinstance(error, OutputLimitError)
    assert not error.by_window
    assert lower_limit({"max_tokens": 200_000}, error) == {"max_tokens": maximum}
    assert error.message.endswith("which is the maximum allowed number of output tokens")


def test_row_b24_openai_s_oldest_words_tell_prompt_and_output_apart() -> None:
    error = overflow(
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
SUMS_SAID = (
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


def texts(value: Any) -> list[str]:
    """All texts in a body, and in JSON within texts."""
    if isinstance(value, str):
        nested = texts(json.loads(value)) if value.startswith("{") else []
        return [value, *nested]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inner for text in texts(each)]


def test_row_b24_each_row_of_the_tables_has_an_example_that_meets_it_first() -> None:
    examples = [*SUMS_SAID, *(t for t, _ in CAPS_SAID.values())]
    examples += [*(t for _, body, _ in PROMPT_BODIES.values() for t in texts(body))]
    rows = (*CAPS, *SUMS, *PROMPTS)
    first = {
        id(next((row for row in rows if row.numbers(match_wording(each)) is not None), None))
        for each in examples
    }
    # Some say the same with less: they are met where the words go on otherwise.
    general = {"prompt [is ]too long"}
    unmet = [r.template for r in rows if id(r) not in first and r.template not in general]
    assert unmet == []


# A4: where a backend quotes a request

QUOTED: dict[str, tuple[int, Any]] = {
    "a body": (
        400,
        openai(
            "unknown field 'foo' in request {'messages': [{'role': 'user', 'content': 'fix the "
            "bug: prompt is too long'}]}"
        ),
    ),
    "an input": (
        422,
        openai("bad value for messages.0.content, input: 'the error says: input is too long'"),
    ),
    "a prompt": (500, openai("failed for prompt: 'why context_length_exceeded?'")),
    "FastAPI's input": (
        422,
        {
            "detail": [
                {
                    "type": "string_type",
                    "loc": ["body", "messages", 0, "content"],
                    "msg": "Input should be a valid string",
                    "input": "prompt is too long: 9 tokens > 8 maximum",
                    "ctx": {"error": "context_length_exceeded"},
                }
            ]
        },
    ),
    "vLLM's list of errors": (
        400,
        openai(
            "[{'type': 'string_type', 'loc': ('body',), 'msg': 'Input should be a string', "
            "'input': 'Context size has been exceeded. prompt is too long'}]"
        ),
    ),
    "words in the middle": (400, openai("The title you sent is: prompt is too long")),
    "what an error says": (400, openai("the error says: input is too long")),
    "behind LiteLLM": (
        400,
        openai("litellm.BadRequestError: OpenAIException - bad role in 'prompt is too long'"),
    ),
    "a key in a prompt": (400, openai("cannot parse 'Invalid API key', Insufficient balance")),
}


@pytest.mark.parametrize(("status", "body"), QUOTED.values(), ids=QUOTED)
def test_row_a4_what_is_quoted_from_a_request_is_no_refusal_of_its_kind(
    status: int, body: Any
) -> None:
    error = refused(status, body)
    expected = InternalError if status == 500 else InvalidRequestError
    assert type(error) is expected
    assert error.message.startswith(f"backend `local` answered {status}: ")


def test_row_a4_fastapi_s_input_is_not_told_to_the_client_again() -> None:
    _, body = QUOTED["FastAPI's input"]
    told = refused(422, body).message
    assert told == (
        "backend `local` answered 422: Input should be a valid string (body.messages.0.content)"
    )


# A2: linear work

LONG = {
    "a phrase": "maximum context length is 1 tokens ",
    "a phrase and its gap": "maximum context length is 1 tokens requested 2 tokens (",
    "labels": "Error: ",
    "codes": "400 ",
    "words": "word ",
    "digits": "1",
    "commas": "1,1",
    "quotes": "{'error': {'message': '",
    "keys": "key: sk-",
}


@pytest.mark.parametrize("phrase", LONG.values(), ids=LONG)
def test_row_a2_no_more_than_the_beginning_of_a_message_is_read(phrase: str) -> None:
    short, long = (phrase * (n // len(phrase)) for n in (8_000, 1_000_000))
    assert match_wording(long) == match_wording(short)
    assert len(match_wording(long).words) <= 4000
    assert type(overflow(long)) is type(overflow(short))


def test_row_a2_a_row_tries_a_gap_no_further_than_it_may_be_wide() -> None:
    row = Wording("a test", "a…b {n}", "")
    assert row.numbers(match_wording("a" + "x" * 80 + "b 1")) == {}
    assert row.numbers(match_wording("a" + "x" * 81 + "b 1")) is None


# B25: other shapes

SHAPES: dict[str, tuple[Any, int, str]] = {
    "a list": ([{"error": {"code": 503, "message": "Overloaded."}}], 529, "Overloaded."),
    "MiniMax": (
        {
            "id": "x",
            "choices": None,
            "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"},
        },
        402,
        "insufficient balance",
    ),
    "MiniMax, too fast": (
        {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
        429,
        "rate limit",
    ),
    "MiniMax, unknown": ({"base_resp": {"status_code": 9, "status_msg": "Oh"}}, 500, "Oh"),
    "OpenRouter, a choice": (
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": ""},
                    "finish_reason": "error",
                    "error": {"code": 502, "message": "Upstream error from Chutes"},
                }
            ]
        },
        529,
        "Upstream error from Chutes",
    ),
    "OpenRouter, a later choice": (
        {"choices": [{"index": 0}, {"index": 1, "error": {"code": 429, "message": "Slow"}}]},
        429,
        "Slow",
    ),
    "old vLLM, flat": ({"object": "error", "message": "Bad", "code": 400}, 400, "Bad"),
    "a text": ({"error": "Oh"}, 500, "Oh"),
}


ALIBABA = "<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 8192]"


@pytest.mark.parametrize(
    "body",
    [
        f'event:error\ndata:{{"code":"InvalidParameter","message":"{ALIBABA}"}}\n\n',
        f'id:1\nevent:error\n:HTTP_STATUS/400\ndata:{{"message":"{ALIBABA}"}}',
        f'data: {{"error":{{"code":"invalid_parameter_error","message":"{ALIBABA}"}}}}\r\n\r\n',
        ALIBABA,
    ],
    ids=["event", "whole head", "OpenAI", "text"],
)
def test_row_b25_a_refusal_is_found_in_an_event_and_in_text_with_an_angle(body: str) -> None:
    error = refused(400, body.encode())  # musistudio/claude-code-router#1327, opencode#40770
    assert isinstance(error, OutputLimitError)
    assert error.limit == 8192


@pytest.mark.parametrize("body", ["<html>Bad Request</html>", " \n<!DOCTYPE html><p>max</p>"])
def test_row_b25_a_page_says_nothing(body: str) -> None:
    assert refused(400, body.encode()).message.endswith("no reason was given")


@pytest.mark.parametrize(("value", "status", "words"), SHAPES.values(), ids=SHAPES)
def test_row_b25_an_error_is_found_in_any_document_of_a_200(
    value: Any, status: int, words: str
) -> None:
    error = error_in("local", value)
    assert error is not None
    assert error.status == status
    assert error.message.endswith(f": {words}")


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        7,
        None,
        "error",
        {"error": None, "choices": [{"delta": {"content": "x"}}]},
        {"base_resp": {"status_code": 0, "status_msg": ""}, "choices": [{"error": None}]},
        {"choices": "no"},
        {"base_resp": "no", "choices": [7]},
    ],
    ids=str,
)
def test_row_b25_an_answer_is_no_error(value: Any) -> None:
    assert error_in("local", value) is None


# B26: whose fault a 403 is

KEY_BODIES: dict[str, tuple[int, Any]] = {
    "OpenAI": (
        401,
        openai("Incorrect API key provided: sk-…. You can find it", code="invalid_api_key"),
    ),
    "OpenAI, without one": (
        401,
        openai("You didn't provide an API key. You need to provide your API key in an Auth"),
    ),
    "xAI": (
        400,
        {
            "code": "Client specified an invalid argument",
            "error": "Incorrect API key provided: xa***f1. You can obtain an API key",
        },
    ),
    "Gemini": (
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": "API key not valid. Please pass a valid API key.",
                    "status": "INVALID_ARGUMENT",
                    "details": [{"@type": "x", "reason": "API_KEY_INVALID"}],
                }
            }
        ],
    ),
    "Gemini, a code alone": (
        400,
        [{"error": {"code": 400, "message": "", "details": [{"reason": "API_KEY_INVALID"}]}}],
    ),
    "Gemini, expired": (400, openai("API key expired. Please renew the API key.")),
    "Gemini, leaked": (
        403,
        openai("Your API key was reported as leaked. Please use another API key.", code=403),
    ),
    "Gemini, without one": (
        403,
        openai(
            "Method doesn't allow unregistered callers (callers without established identity). "
            "Please use API Key or other form of API consumer identity to call this API.",
            code=403,
        ),
    ),
    "Databricks": (403, {"error_code": "403", "message": "Invalid access token."}),
    "Groq": (401, openai("Invalid API Key", type="invalid_request_error", code="invalid_api_key")),
    "LM Studio": (403, openai("Missing API key")),
    "Moonshot": (401, openai("Invalid Authentication", type="invalid_authentication_error")),
    "OpenRouter": (401, openai("No auth credentials found", code=401)),
    "DeepSeek": (401, openai("Authentication Fails, Your api key is invalid")),
    "a gateway": (403, b"Unauthorized"),
    "another gateway": (403, {"detail": "Invalid credentials"}),
    "MiniMax": (403, openai("no", type="authentication_error")),
}


@pytest.mark.parametrize(("status", "body"), KEY_BODIES.values(), ids=KEY_BODIES)
def test_row_b26_a_refused_key_is_the_operator_s_and_is_not_tried_again(
    status: int, body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "llm_proxy"):
        error = refused(status, body)
    assert (error.status, error.type) == (500, "api_error")
    assert error.headers == {"x-should-retry": "false"}
    assert "refuses the proxy's credentials, see its `api_key`" in error.message
    (line,) = caplog.messages
    assert line == "backend `local` refuses its key: set backends.local.api_key"


FORBIDDEN: dict[str, Any] = {
    "xAI": {
        "code": "The caller does not have permission to execute the specified operation",
        "error": "Content violates usage guidelines. Team: 1, API key ID: 2, Model: grok-4, Failed "
        "check: SAFETY_CHECK_TYPE_BIO",
    },
    "OpenRouter": openai(
        "openai/gpt-4o requires moderation on OpenAI. Your input was flagged for violence",
        code=403,
        metadata={"reasons": ["violence"], "flagged_input": "…", "provider_name": "OpenAI"},
    ),
    "Databricks": {"error_code": "PERMISSION_DENIED", "message": "User has no CAN QUERY"},
    "nothing": b"",
}


@pytest.mark.parametrize("body", FORBIDDEN.values(), ids=FORBIDDEN)
def test_row_b26_another_403_is_the_request_s(body: Any, caplog: pytest.LogCaptureFixture) -> None:
    error = refused(403, body)
    assert (error.status, error.type) == (403, "permission_error")
    assert "credentials" not in error.message
    assert caplog.messages == []
    assert error_kind(error) == "permission"
    assert not is_transient(error)
    assert not blames_target(error)  # a client whose requests are flagged opens no circuit


# B27: an empty account

QUOTA_BODIES: dict[str, tuple[int, Any]] = {
    "OpenAI": (
        429,
        openai(
            "You exceeded your current quota, please check your plan and billing details.",
            type="insufficient_quota",
            code="insufficient_quota",
        ),
    ),
    "OpenAI, not active": (
        429,
        openai("Your account is not active", type="billing_not_active", code="billing_not_active"),
    ),
    "Z.ai": (
        429,
        {
            "error": {
                "code": "1113",
                "message": "Insufficient balance or no resource package. Please recharge.",
            },
            "request_id": "202603142338501da90b7ebe1d473d",
        },
    ),
    "Z.ai, in Chinese": (
        429,
        {"error": {"code": "1113", "message": "您的账户已欠费"}},
    ),
    "Z.ai, without its code": (429, openai("Insufficient balance or no resource package.")),
    "Moonshot": (
        429,
        openai(
            "Your account org-1 <ak-1> is suspended due to insufficient balance, please recharge",
            type="exceeded_current_quota_error",
        ),
    ),
    "Moonshot, through a gateway": (
        429,
        openai(
            "Error from provider: Your account org-1 <ak-1> is suspended due to insufficient "
            "balance, please recharge your account",
            code=429,
        ),
    ),
    "DashScope": (400, openai("Access denied, please make sure", code="Arrearage")),
    "DeepSeek": (402, openai("Insufficient Balance", type="unknown_error")),
    "OpenRouter": (402, openai("Insufficient credits. Add more using https://…", code=402)),
    "OpenRouter, a key's limit": (403, openai("Key limit exceeded. Manage it using", code=403)),
    "Anthropic": (400, openai("Your credit balance is too low to access the API")),
    "SiliconFlow": (403, {"code": 30011, "message": "The selected model requires paid balance"}),
}


@pytest.mark.parametrize(("status", "body"), QUOTA_BODIES.values(), ids=QUOTA_BODIES)
def test_row_b27_an_empty_account_is_billing_and_is_not_tried_again(status: int, body: Any) -> None:
    error = refused(status, body)
    assert (error.status, error.type) == (402, "billing_error")
    assert error.headers == {"x-should-retry": "false"}
    assert not is_transient(error)


@pytest.mark.parametrize(
    "body",
    [
        # Gemini's limit per minute, in OpenAI's words for an empty account.
        [{"error": {"code": 429, "message": "You exceeded your current quota, please check"}}],
        {"error": {"code": "1302", "message": "High concurrency usage of this API"}},
        openai("Rate limit reached for requests", type="rate_limit_reached_error"),
    ],
    ids=["Gemini", "Z.ai", "Moonshot"],
)
def test_row_b27_a_limit_of_requests_is_none(body: Any) -> None:
    error = refused(429, body)
    assert (error.status, error.type) == (429, "rate_limit_error")
    assert error.headers == {}


def test_row_b27_each_row_of_the_tables_has_an_example() -> None:
    bodies = [*KEY_BODIES.values(), *QUOTA_BODIES.values(), *IMAGES.values()]
    examples = [
        match_wording(each)
        for _, body in bodies
        for each in ([body.decode()] if isinstance(body, bytes) else texts(body))
    ]
    rows = (*KEYS, *QUOTAS, *UNSUPPORTED)
    unmet = [r.template for r in rows if all(r.numbers(each) is None for each in examples)]
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
def test_row_l5_where_a_backend_stopped_counting_there_is_no_number_to_shorten_by(
    words: str,
) -> None:
    error = refused(400, openai(words, type="BadRequestError", code=400))
    assert isinstance(error, PromptTooLongError)
    assert error.maximum == 2048
    assert error.message == f"prompt is too long ({words})"


# L6: llama.cpp's images

IMAGE = "image input is not supported - hint: if this is unexpected, you may need to provide the mm"
IMAGES: dict[str, tuple[int, Any]] = {
    "image": (500, openai(IMAGE, type="server_error", code=500)),
    "audio": (500, openai("audio input is not supported - hint: if this is unexpected")),
    "within JSON": (500, {"error": json.dumps(openai(IMAGE))}),
}


@pytest.mark.parametrize(("status", "body"), IMAGES.values(), ids=IMAGES)
def test_row_l6_an_input_that_the_model_does_not_take_is_the_request_s_fault(
    status: int, body: Any
) -> None:
    error = refused(status, body)
    assert (error.status, error.type) == (400, "invalid_request_error")
    assert "input is not supported" in error.message
    assert error_kind(error) == "unsupported"  # so `fallback` asks one that has eyes
