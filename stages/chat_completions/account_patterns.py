"""Error messages about keys, quotas and unsupported input; see error_patterns.py."""

from __future__ import annotations

from stages.chat_completions.error_patterns import ErrorPattern

#: The key is missing or wrong.
INVALID_KEY = (
    ErrorPattern("OpenAI, xAI", "Incorrect API key provided", "platform.openai.com/docs/guides"),
    ErrorPattern("OpenAI", "You didn't provide an API key", "platform.openai.com/docs/guides"),
    ErrorPattern("Gemini", "API key not valid", "ai.google.dev/gemini-api/docs/troubleshooting"),
    ErrorPattern("Gemini", "API key expired", "ai.google.dev/gemini-api/docs/troubleshooting"),
    ErrorPattern("Gemini", "Your API key was reported as leaked", "google-gemini/gemini-cli"),
    ErrorPattern("Gemini", "Method doesn't allow unregistered callers", "google-gemini/gemini-cli"),
    ErrorPattern("Databricks", "Invalid access token", "docs.databricks.com"),
    ErrorPattern("Groq and many", "Invalid API[ ][-][_]key", "console.groq.com/docs/errors"),
    ErrorPattern("many", "Missing API[ ][-][_]key", "api-docs of LM Studio, Cerebras"),
    ErrorPattern("Moonshot", "Invalid Authentication", "platform.moonshot.ai/docs"),
    ErrorPattern("many", "Invalid credentials", "RFC 9110"),
    ErrorPattern("many", "No [auth ]credentials", "openrouter.ai/docs"),
    ErrorPattern("DeepSeek", "Authentication Fails", "api-docs.deepseek.com"),
    ErrorPattern("many", "Unauthorized", "RFC 9110"),
)
INVALID_KEY_CODES = frozenset(
    {
        "invalid_api_key",  # OpenAI, Groq, DashScope
        "api_key_invalid",  # Gemini
        "invalid_authentication_error",  # Moonshot
        "authentication_error",  # DeepSeek, Anthropic
        "authenticationerror",  # LiteLLM
        "unauthenticated",  # Google
        "unauthorized",
        "invalidapikey",  # DashScope
    }
)

#: The account is empty or over its spending limit: waiting does not help.
QUOTA_EXHAUSTED = (
    ErrorPattern(
        "DeepSeek, Z.ai, MiniMax", "Insufficient [account ]balance", "zai-org/feedback#789"
    ),
    ErrorPattern("OpenRouter", "Insufficient credits", "openrouter.ai/docs"),
    ErrorPattern("OpenRouter", "Key limit [has been ]exceeded", "RooCodeInc/Roo-Code#515"),
    ErrorPattern("Anthropic", "Your credit balance is too low", "docs.anthropic.com"),
    ErrorPattern(
        "Moonshot",
        "Your account … is suspended due to insufficient balance",
        "continuedev/continue#11443",
    ),
)
QUOTA_EXHAUSTED_CODES = frozenset(
    {
        "insufficient_quota",  # OpenAI
        "billing_not_active",  # OpenAI
        "billing_hard_limit_reached",  # OpenAI
        "exceeded_current_quota_error",  # Moonshot
        "1113",  # Z.ai
        "arrearage",  # DashScope
        "insufficient_user_quota",  # one-api, new-api
        "30001",  # SiliconFlow
        "30011",  # SiliconFlow, FoundationAgents/OpenManus#438
    }
)

#: The model does not accept such input. The status of the response wrongly asks for a retry.
UNSUPPORTED_INPUT = (
    ErrorPattern("llama.cpp", "image input is not supported", "tools/server/server-common.cpp"),
    ErrorPattern("llama.cpp", "audio input is not supported", "tools/server/server-common.cpp"),
)
