"""A backend's failure as the error the client gets."""

from __future__ import annotations

from typing import Any

import pytest

from stages.chat_completions.errors import error_from_object, error_from_status, error_in_document
from stages.messages_api.errors import (
    ApiError,
    BillingError,
    ConflictError,
    GatewayTimeoutError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    RequestTooLargeError,
)
from tests.cases import for_each
from tests.stages.chat_completions.support import openai, refused

STATUSES: dict[int, type[ApiError]] = {
    302: InternalError,
    400: InvalidRequestError,
    401: InternalError,
    402: BillingError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: InternalError,
    406: InternalError,
    408: GatewayTimeoutError,
    409: ConflictError,
    410: InternalError,
    413: RequestTooLargeError,
    415: InternalError,
    418: InternalError,
    422: InvalidRequestError,
    429: RateLimitError,
    500: InternalError,
    501: InternalError,
    502: OverloadedError,
    503: OverloadedError,
    504: GatewayTimeoutError,
    524: GatewayTimeoutError,
    529: OverloadedError,
    599: InternalError,
}


@for_each(("status", "expected"), STATUSES.items())
def test_each_status_becomes_an_error_of_the_messages_api(
    status: int, expected: type[ApiError]
) -> None:
    error = refused(status, openai("it says why"))
    assert type(error) is expected
    assert "backend `local`" in error.message
    assert "it says why" in error.message


ODD_BODIES = {
    "nothing": b"",
    "json": b'{"error": {"message": "No"}}',
    "odd JSON": b'[{"error": [1]}]',
    "HTML": b"<html><h1>No",
    "no text": b"\xff\xfe\x00",
    "events": b'data: {"error": "No"}\n\n',
}


def test_each_status_with_each_body_is_an_error() -> None:
    headers = {"retry-after": "5", "retry-after-ms": "5000", "location": "http://127.0.0.1:1/"}
    for status in (*range(201, 600), 600, 999):
        for name, body in ODD_BODIES.items():
            error = error_from_status("local", status, headers, body)
            assert error.status >= 400, (status, name)
            assert error.headers.keys() <= {"retry-after", "x-should-retry"}, (status, name)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_pitfall_38_the_proxy_s_credentials_are_no_client_error(status: int) -> None:
    error = refused(status, openai("Invalid API key."))
    assert (error.status, error.type) == (500, "api_error")
    reported = (
        "backend `local` refuses the proxy's credentials, check its `api_key`: Invalid API key."
    )
    assert error.message == reported


BODIES: dict[str, tuple[Any, str]] = {
    "OpenAI": (openai("why", type="server_error", param=None, code=None), "why"),
    "old vLLM": ({"object": "error", "message": "why", "type": "x", "code": 400}, "why"),
    "Ollama": ({"error": "why"}, "why"),
    "llama.cpp": ({"error": {"code": 500, "message": "why", "type": "server_error"}}, "why"),
    "OpenRouter": (
        openai("Provider returned error", code=502, metadata={"provider_name": "p", "raw": "why"}),
        "why",
    ),
    "OpenRouter without raw": (openai("why", metadata={"provider_name": "p"}), "why"),
    "OpenRouter with an empty raw": (openai("why", metadata={"raw": ""}), "why"),
    "OpenRouter with other metadata": (openai("why", metadata=["x"]), "why"),
    "Databricks": ({"error_code": "BAD_REQUEST", "message": "why"}, "why"),
    "FastAPI": ({"detail": "why"}, "why"),
    "FastAPI's validation": (
        {"detail": [{"loc": ["body", "x"], "msg": "why"}]},
        "why (body.x)",
    ),
    "a message that is an object": (openai({"reason": "why"}), '{"reason":"why"}'),
    "a text next to other members": ({"error": "why", "status": 500}, "why"),
    "a JSON string": ("why", "why"),
    "plain text": (b"  why\n", "why"),
    "text that is not UTF-8": (b"why \xff", "why \N{REPLACEMENT CHARACTER}"),
    "nothing": (b"", "no reason was given"),
    "HTML": (b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>", "no reason was given"),
    "an empty object": ({}, "no reason was given"),
    "an empty error": ({"error": {}}, "no reason was given"),
    "a null message": (openai(None), "no reason was given"),
    "a list": ([1, 2], "no reason was given"),
    "a number": (7, "no reason was given"),
    "a code alone": ({"error": {"code": "x"}}, "no reason was given"),
}


@for_each(("body", "words"), BODIES.values(), ids=BODIES)
def test_the_backends_words_are_found_in_any_shape(body: Any, words: str) -> None:
    assert refused(500, body).message == f"backend `local` answered 500: {words}"


@for_each(
    ("location", "place"),
    [
        (
            "https://user:s3cret@x.invalid:8443/v1/chat/completions?token=s3cret#s3cret",
            "https://x.invalid:8443/v1/chat/completions",
        ),
        ("/login?next=s3cret", "/login"),
        ("https://u:s3cret@x.invalid/v1/sk-abcdefgh0123", "https://x.invalid/v1/\u2026"),
        (
            "https://x.invalid/\udcff",
            "https://x.invalid/\\udcff",
        ),  # as aiohttp decodes the byte 0xff
        ("https://x.invalid/" + "a" * 99_999, "https://x.invalid/" + "a" * 1_982),
    ],
)
def test_a_redirect_names_its_target_without_secrets(location: str, place: str) -> None:
    error = error_from_status("fake", 307, {"location": location}, b"")
    assert error.message == f"backend `fake` redirects to {place}: correct its `base_url`"
    assert error.log_message == "backend `fake` redirects to …: correct its `base_url`"
    assert error.headers["x-should-retry"] == "false"


@for_each("location", ["", "?s3cret", "http://[::1", "user:s3cret@x.invalid/v1"])
def test_a_redirect_to_nowhere_is_an_error_with_its_status(location: str) -> None:
    error = error_from_status("fake", 302, {"location": location}, b"")
    assert error.message == "backend `fake` answered 302: no reason was given"


def test_a_long_reason_is_cut() -> None:
    assert len(refused(500, openai("x" * 100_000)).message) < 2100
    assert len(refused(500, b"x" * 100_000).message) < 2100


# The prompt was too long

VLLM = (
    "This model's maximum context length is 262144 tokens. However, you requested 0 output tokens "
    "and your prompt contains at least 262145 input tokens"
)
OPENAI = (
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 "
    "tokens. Please reduce the length of the messages."
)

OVERFLOWS: dict[str, tuple[Any, str]] = {
    "vLLM": (openai(VLLM, code=400), ""),
    "vLLM, flat": ({"object": "error", "message": VLLM}, ""),
    "vLLM, in other words": (
        openai("Input length (5000) exceeds model's maximum context length (4096)."),
        "5000 tokens > 4096 maximum",
    ),
    "OpenAI": (openai(OPENAI, code="context_length_exceeded"), "9001 tokens > 8192 maximum"),
    "OpenAI, only the code": (openai("Too long.", code="context_length_exceeded"), ""),
    "a code next to a type": (
        openai("no", type="context_length_exceeded", code="bad_request"),
        "",
    ),
    "the window alone": (openai("maximum context length is 4097 tokens. You asked 5000"), ""),
    "llama.cpp": (
        openai(
            "request (144055 tokens) exceeds the available context size (131072 tokens), try "
            "increasing it",
            type="exceed_context_size_error",
            n_prompt_tokens=144055,
            n_ctx=131072,
        ),
        "144055 tokens > 131072 maximum",
    ),
    "llama.cpp, only the type": (openai("no", type="exceed_context_size_error"), ""),
    "llama.cpp, long ago": (openai("Context size has been exceeded."), ""),
    "Ollama": ({"error": "prompt too long; exceeded max context length by 7 tokens"}, ""),
    "SGLang": (
        openai(
            "The input (233864 tokens) is longer than the model's context length (202752 tokens)."
        ),
        "233864 tokens > 202752 maximum",
    ),
    "Bedrock": ({"message": "Input is too long for requested model."}, ""),
    "Databricks": (
        {"error_code": "BAD_REQUEST", "message": "Input is too long for requested model."},
        "",
    ),
    "Copilot": (openai("no", code="model_max_prompt_tokens_exceeded"), ""),
    "ds4-server": (
        openai("Prompt has 9000 tokens, but the configured context size is 8192 tokens"),
        "9000 tokens > 8192 maximum",
    ),
    "Anthropic": (openai("prompt is too long: 7 tokens > 5 maximum"), "7 tokens > 5 maximum"),
    "xAI": (openai("This model's maximum prompt length is 131072 but"), ""),
    "Kimi": (openai("Invalid request: Your request exceeded model token limit: 8192"), ""),
    "Gemini": (openai("Requested token count exceeds the model's maximum of 8192 tokens"), ""),
    "Groq": (openai("Please reduce the length of the messages or completion."), ""),
    "LiteLLM": (openai("litellm.ContextWindowExceededError: no"), ""),
    "Responses": (openai("Your input exceeds the context window of this model."), ""),
    "OpenRouter": (openai("Provider returned error", metadata={"raw": OPENAI}), "9001 tokens >"),
    "plain text": (OPENAI.encode(), "9001 tokens > 8192 maximum"),
    "in capitals": (openai(OPENAI.upper()), "9001 tokens > 8192 maximum"),
    "on two lines": (openai(OPENAI.replace(". However", ".\nHowever")), "9001 tokens >"),
}


@for_each(("body", "numbers"), OVERFLOWS.values(), ids=OVERFLOWS)
@for_each("status", [400, 413, 422, 500])
def test_pitfall_01_an_overflow_has_the_words_clients_know(
    status: int, body: Any, numbers: str
) -> None:
    error = refused(status, body)
    assert (error.status, error.type) == (400, "invalid_request_error")
    if numbers:
        assert error.message.startswith(f"prompt is too long: {numbers}")
    else:
        assert error.message.startswith("prompt is too long (")


@pytest.mark.parametrize("status", [400, 500])
def test_pitfall_01_an_overflow_within_a_response_is_one_too(status: int) -> None:
    error = error_from_object("local", {"message": OPENAI, "code": status})
    assert error.message == "prompt is too long: 9001 tokens > 8192 maximum"


NO_OVERFLOWS: dict[str, tuple[int, Any, type[ApiError]]] = {
    "throttled": (429, openai("Too many tokens, please wait before trying again."), RateLimitError),
    "throttled with 400": (
        400,
        openai("Too many tokens, please wait before trying again."),
        InvalidRequestError,
    ),
    "a limit per minute": (
        429,
        openai("Rate limit: maximum context length is 10 tokens per minute"),
        RateLimitError,
    ),
    "a wrong parameter": (400, openai("max_tokens must be at least 1"), InvalidRequestError),
    "a wrong length": (400, openai("stop sequence is too long"), InvalidRequestError),
    "busy": (503, openai("context_length_exceeded"), OverloadedError),
}


@for_each(("status", "body", "expected"), NO_OVERFLOWS.values(), ids=NO_OVERFLOWS)
def test_pitfall_01_similar_messages_are_no_overflow(
    status: int, body: Any, expected: type[ApiError]
) -> None:
    error = refused(status, body)
    assert type(error) is expected
    assert not error.message.startswith("prompt is too long")


# Errors within a response


@for_each(
    ("code", "expected"),
    [
        (429, RateLimitError),
        (402, BillingError),
        (404, NotFoundError),
        (503, OverloadedError),
        (400, InvalidRequestError),
        (401, InternalError),
        (500, InternalError),
        (599, InternalError),
        (600, InternalError),
        (200, InternalError),
        (True, InternalError),
        (-1, InternalError),
        ("429", InternalError),
        (None, InternalError),
        ({}, InternalError),
    ],
    ids=str,
)
def test_the_code_of_an_error_within_a_response_is_its_status(
    code: Any, expected: type[ApiError]
) -> None:
    error = error_from_object("local", {"message": "it says why", "code": code})
    assert type(error) is expected
    assert "it says why" in error.message


@for_each(
    ("body", "expected"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, OverloadedError),
        ({"type": "overloaded_error"}, OverloadedError),
        ({"type": "rate_limit_error", "message": "Too many"}, RateLimitError),
        ({"type": "invalid_request_error", "message": "Wrong"}, InvalidRequestError),
        ({"type": "api_error", "message": "Oops"}, InternalError),
        ({"type": "authentication_error", "message": "Key"}, InternalError),
        ({"type": "billing_error", "message": "Pay"}, BillingError),
        ({"type": "overloaded_error", "code": 429}, RateLimitError),
    ],
    ids=str,
)
def test_the_type_of_an_error_within_a_response_is_its_status(
    body: Any, expected: type[ApiError]
) -> None:
    assert type(error_from_object("local", body)) is expected
    assert type(error_in_document("local", {"type": "error", "error": body})) is expected


@for_each(
    ("body", "words"),
    [
        ("it says why", "it says why"),
        ({"detail": "it says why"}, "it says why"),
        ({"message": "", "metadata": {"raw": "it says why"}}, "it says why"),
        ({"error": {"message": "it says why"}}, "it says why"),
        ([], "no reason was given"),
        (7, "no reason was given"),
        ({"message": 7}, "no reason was given"),
    ],
    ids=["text", "detail", "raw", "nested", "a list", "a number", "a number as message"],
)
def test_an_error_within_a_response_is_found_in_any_shape(body: Any, words: str) -> None:
    assert error_from_object("local", body).message == f"backend `local` answered 500: {words}"
