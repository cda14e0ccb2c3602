"""Refusals because of a prompt that is too long, complete, from each provider."""

from __future__ import annotations

import json
from typing import Any

from tests.stages.chat_completions.support import openai

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
