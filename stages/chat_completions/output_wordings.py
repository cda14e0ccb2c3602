"""What backends say when the output limit is over what the model puts out; see wording.py."""

from __future__ import annotations

from stages.chat_completions.wording import Wording

#: `asked` is missing where the backend does not repeat it.
CAPS = (
    Wording(
        "OpenAI, Cloudflare",
        "max_[completion_]tokens is too large: {asked}. This model supports at most {maximum}",
        "anomalyco/models.dev PR 4422",
    ),
    Wording(
        "Anthropic, and Claude on Databricks",
        "max_tokens: {asked} > {maximum}, which is the maximum allowed number of output tokens",
        "anthropics/claude-code#24451",
    ),
    Wording(
        "Groq",
        "[`]max_[completion_]tokens[`] must be less than or equal to [`]{maximum}[`]",
        "Alishahryar1/free-claude-code#1354, #955",
    ),
    Wording(
        "Groq, of a model",
        "max_tokens for {word} must be less than or equal to {maximum}",
        "skapadia3214/groq-moa#8",
    ),
    Wording(
        "DeepSeek",
        "Invalid max_tokens value, the valid range of max_tokens is {word} {maximum}",  # [1, 8192]
        "deepseek-ai/DeepSeek-V3#69",
    ),
    Wording(
        "DashScope",
        "Range of max_[completion_]tokens should be {word} {maximum}",  # [1, 8192]
        "musistudio/claude-code-router#184",
    ),
    Wording(
        "Cohere",
        "[too many tokens: ]max tokens must be less than or equal to {maximum}, the maximum output "
        "[length ]for this model - received {asked}",
        "docs.cohere.com/reference/errors",
    ),
    Wording(
        "Bedrock",
        "The maximum tokens you requested exceeds the model limit of {maximum}",
        "sigoden/aichat PR 813",
    ),
)
