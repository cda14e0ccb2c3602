"""What backends say when they refuse a key, want money, or take no such input; see wording.py."""

from __future__ import annotations

from stages.chat_completions.wording import Wording

#: The backend wants another key.
KEYS = (
    Wording("OpenAI, xAI", "Incorrect API key provided", "platform.openai.com/docs/guides"),
    Wording("OpenAI", "You didn't provide an API key", "platform.openai.com/docs/guides"),
    Wording("Gemini", "API key not valid", "ai.google.dev/gemini-api/docs/troubleshooting"),
    Wording("Gemini", "API key expired", "ai.google.dev/gemini-api/docs/troubleshooting"),
    Wording("Gemini", "Your API key was reported as leaked", "google-gemini/gemini-cli"),
    Wording("Gemini", "Method doesn't allow unregistered callers", "google-gemini/gemini-cli"),
    Wording("Databricks", "Invalid access token", "docs.databricks.com"),
    Wording("Groq and many", "Invalid API[ ][-][_]key", "console.groq.com/docs/errors"),
    Wording("many", "Missing API[ ][-][_]key", "api-docs of LM Studio, Cerebras"),
    Wording("Moonshot", "Invalid Authentication", "platform.moonshot.ai/docs"),
    Wording("many", "Invalid credentials", "RFC 9110"),
    Wording("many", "No [auth ]credentials", "openrouter.ai/docs"),
    Wording("DeepSeek", "Authentication Fails", "api-docs.deepseek.com"),
    Wording("many", "Unauthorized", "RFC 9110"),
)
KEY_CODES = frozenset(
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

#: The account is empty, or may spend no more: waiting does not help.
QUOTAS = (
    Wording("DeepSeek, Z.ai, MiniMax", "Insufficient [account ]balance", "zai-org/feedback#789"),
    Wording("OpenRouter", "Insufficient credits", "openrouter.ai/docs"),
    Wording("OpenRouter", "Key limit [has been ]exceeded", "RooCodeInc/Roo-Code#515"),
    Wording("Anthropic", "Your credit balance is too low", "docs.anthropic.com"),
    Wording(
        "Moonshot",
        "Your account … is suspended due to insufficient balance",
        "continuedev/continue#11443",
    ),
)
QUOTA_CODES = frozenset(
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

#: The model takes no such input, said with a status that asks for another attempt.
UNSUPPORTED = (
    Wording("llama.cpp", "image input is not supported", "tools/server/server-common.cpp"),
    Wording("llama.cpp", "audio input is not supported", "tools/server/server-common.cpp"),
)
