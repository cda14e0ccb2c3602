"""Error messages about an output limit above the model's maximum; see error_patterns.py."""

from __future__ import annotations

from stages.chat_completions.error_patterns import ErrorPattern

#: Without `asked`: the backend does not repeat the limit.
OUTPUT_LIMIT_TOO_HIGH = (
    ErrorPattern(
        "OpenAI, Cloudflare",
        "max_[completion_]tokens is too large: {asked}. This model supports at most {maximum}",
        "anomalyco/models.dev PR 4422",
    ),
    ErrorPattern(
        "Anthropic, and Claude on Databricks",
        "max_tokens: {asked} > {maximum}, which is the maximum allowed number of output tokens",
        "anthropics/claude-code#24451",
    ),
    ErrorPattern(
        "Groq",
        "[`]max_[completion_]tokens[`] must be less than or equal to [`]{maximum}[`]",
        "Alishahryar1/free-claude-code#1354, #955",
    ),
    ErrorPattern(
        "Groq, of a model",
        "max_tokens for {word} must be less than or equal to {maximum}",
        "skapadia3214/groq-moa#8",
    ),
    ErrorPattern(
        "DeepSeek",
        "Invalid max_tokens value, the valid range of max_tokens is {word} {maximum}",  # [1, 8192]
        "deepseek-ai/DeepSeek-V3#69",
    ),
    ErrorPattern(
        "DashScope",
        "Range of max_[completion_]tokens should be {word} {maximum}",  # [1, 8192]
        "musistudio/claude-code-router#184",
    ),
    ErrorPattern(
        "Cohere",
        "[too many tokens: ]max tokens must be less than or equal to {maximum}, the maximum output "
        "[length ]for this model - received {asked}",
        "docs.cohere.com/reference/errors",
    ),
    ErrorPattern(
        "Bedrock",
        "The maximum tokens you requested exceeds the model limit of {maximum}",
        "sigoden/aichat PR 813",
    ),
)
