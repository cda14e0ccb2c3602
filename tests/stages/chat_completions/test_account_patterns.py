"""Errors about keys, quotas and unsupported input, from each provider."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from stages.chat_completions.account_patterns import INVALID_KEY, QUOTA_EXHAUSTED, UNSUPPORTED_INPUT
from stages.chat_completions.error_patterns import split_labels
from stages.routing.error_kinds import blames_target, error_kind, is_transient
from tests.cases import for_each
from tests.stages.chat_completions.support import openai, refused, texts

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
def test_row_b26_a_refused_key_is_not_retried(
    status: int, body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "llm_proxy"):
        error = refused(status, body)
    assert (error.status, error.type) == (500, "api_error")
    assert error.headers == {"x-should-retry": "false"}
    assert "refuses the proxy's credentials, check its `api_key`" in error.message
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


@for_each(("status", "body"), QUOTA_BODIES.values(), ids=QUOTA_BODIES)
def test_row_b27_an_empty_account_is_billing_and_is_not_retried(status: int, body: Any) -> None:
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
def test_row_b27_a_rate_limit_is_no_empty_account(body: Any) -> None:
    error = refused(429, body)
    assert (error.status, error.type) == (429, "rate_limit_error")
    assert error.headers == {}


def test_row_b27_each_row_of_the_tables_has_an_example() -> None:
    bodies = [*KEY_BODIES.values(), *QUOTA_BODIES.values(), *IMAGES.values()]
    examples = [
        split_labels(item)
        for _, body in bodies
        for item in ([body.decode()] if isinstance(body, bytes) else texts(body))
    ]
    rows = (*INVALID_KEY, *QUOTA_EXHAUSTED, *UNSUPPORTED_INPUT)
    unmet = [r.template for r in rows if all(r.numbers(item) is None for item in examples)]
    assert unmet == []


# L6: llama.cpp's images

IMAGE = "image input is not supported - hint: if this is unexpected, you may need to provide the mm"
IMAGES: dict[str, tuple[int, Any]] = {
    "image": (500, openai(IMAGE, type="server_error", code=500)),
    "audio": (500, openai("audio input is not supported - hint: if this is unexpected")),
    "within JSON": (500, {"error": json.dumps(openai(IMAGE))}),
}


@pytest.mark.parametrize(("status", "body"), IMAGES.values(), ids=IMAGES)
def test_row_l6_an_unsupported_input_is_the_request_s_fault(status: int, body: Any) -> None:
    error = refused(status, body)
    assert (error.status, error.type) == (400, "invalid_request_error")
    assert "input is not supported" in error.message
    assert error_kind(error) == "unsupported"  # so `fallback` asks one that has eyes
