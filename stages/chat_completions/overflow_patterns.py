"""Error messages about a request that exceeds the context window; see error_patterns.py."""

from __future__ import annotations

from stages.chat_completions.error_patterns import ErrorPattern

_OPENAI = "[This model's ]maximum context length is {maximum} tokens"
_OPENROUTER = (
    "This endpoint's maximum context length is {maximum} tokens…requested about {n} tokens "
)
#: Prompt and output limit together are too long.
SUM_TOO_LONG = (
    ErrorPattern(
        "OpenAI, DeepSeek, vLLM up to 0.10",
        _OPENAI + "…requested {n} tokens ({tokens} in the messages, {asked} in the completion)",
        "evalstate/fast-agent#621",
    ),
    ErrorPattern(
        "OpenAI, with tools",
        _OPENAI + "…requested {n} tokens ({tokens} in the messages, {more} in the functions, "
        "and {asked} in the completion)",
        "Azure OpenAI, and its responses to tools",
    ),
    ErrorPattern(
        "OpenAI, long ago",
        _OPENAI + "…requested {n} tokens ({tokens} in your prompt; {asked} for the completion)",
        "acheong08/ChatGPT#501",
    ),
    ErrorPattern(
        "OpenRouter",
        _OPENROUTER + "({tokens} of text input, {asked} in the output)",
        "openrouter.ai/docs/api/reference/errors-and-debugging",
    ),
    ErrorPattern(
        "OpenRouter, with tools",
        _OPENROUTER + "({tokens} of text input, {more} of tool input, {asked} in the output)",
        "openrouter.ai/docs/api/reference/errors-and-debugging",
    ),
    ErrorPattern(
        "vLLM 0.11 to 0.15",
        "'max_tokens' or 'max_completion_tokens' is too large: {asked}. This model's maximum "
        "context length is {maximum} tokens and your request has {tokens} input tokens",
        "vllm/entrypoints/openai/serving_engine.py",
    ),
    ErrorPattern(  # it cuts the prompt before it counts
        "vLLM 0.16 and 0.17",
        "You passed {n} input {word} and requested {asked} output tokens. However, the model's "
        "context length is only {maximum} tokens",
        "vllm/renderers/params.py",
    ),
    ErrorPattern(
        "vLLM since 0.18",
        _OPENAI + ". However, you requested {asked} output tokens and your prompt contains "
        "{tokens} input tokens",
        "earendil-works/pi#5930",
    ),
    ErrorPattern(
        "vLLM since 0.18, where it stopped counting",
        _OPENAI + ". However, you requested {asked} output tokens and your prompt contains "
        "at least {n} input tokens",
        "earendil-works/pi#5930, cloudflare/cloudflare-docs#29731",
    ),
    ErrorPattern(
        "vLLM since 0.18, where it counted no tokens",
        _OPENAI + ". However, you requested {asked} output tokens and your prompt contains "
        "{n} characters",
        "vLLM 0.32, seen live",
    ),
    ErrorPattern(
        "vLLM, of the limit alone",
        "max_[completion_]tokens={asked} cannot be greater than "
        "max_model_len=[max_total_tokens=]{maximum}",
        "vllm/renderers/params.py",
    ),
    ErrorPattern(
        "SGLang, Cloudflare",
        "Requested token count exceeds the model's maximum context length of {maximum} tokens. You "
        "requested a total of {n} tokens: {tokens} tokens from the input messages and "
        "{asked} tokens",
        "anomalyco/models.dev PR 4422",
    ),
    ErrorPattern(
        "Anthropic, Bedrock",
        "input length and `max_tokens` exceed context limit: {tokens} + {asked} > {maximum}",
        "egoist/chatwise-releases#917",
    ),
    ErrorPattern(
        "Cloudflare",
        "The estimated number of input and maximum output tokens ({total}) exceeded this model "
        "context window limit ({maximum})",
        "developers.cloudflare.com/workers-ai, codes 5021 and 3010",
    ),
    ErrorPattern(
        "TGI",
        "`inputs` tokens + `max_new_tokens` must be <= {maximum}. Given: {tokens} `inputs` tokens "
        "and {asked} `max_new_tokens`",
        "huggingface/text-generation-inference#628",
    ),
)

_KEEP = "The number of tokens to keep from the initial prompt is greater than the context length"
#: The prompt alone is too long.
PROMPT_TOO_LONG = (
    ErrorPattern("Anthropic", "prompt is too long: {tokens} tokens > {maximum} maximum", "its API"),
    ErrorPattern(
        "llama.cpp",
        "request ({tokens} tokens) exceeds the available context size ({maximum}",
        "tontinton/maki PR 319",
    ),
    ErrorPattern(
        "llama.cpp, until 2025", "the request exceeds the available context size", "ibidem"
    ),
    ErrorPattern("llama.cpp, long ago", "Context size has been exceeded", "ggml-org/llama.cpp"),
    ErrorPattern(
        "OpenAI",
        _OPENAI + "…your messages resulted in {tokens} tokens",
        "smol-ai/developer#7",
    ),
    ErrorPattern(
        "OpenAI's reasoning models",
        "Input tokens exceed the configured limit of {maximum} tokens. Your messages resulted in "
        "{tokens} tokens",
        "langchain_openai/chat_models/base.py",
    ),
    ErrorPattern("OpenAI", "Input tokens exceed the configured limit", "ibidem"),
    ErrorPattern("OpenAI's Responses", "Your input exceeds the context window", "openai/codex"),
    ErrorPattern(
        "OpenRouter",
        _OPENROUTER + "({tokens} of text input)",
        "refly-ai/refly#1177",
    ),
    ErrorPattern(
        "OpenRouter, with tools",
        _OPENROUTER + "({tokens} of text input, {more} of tool input)",
        "refly-ai/refly#1177",
    ),
    ErrorPattern(
        "vLLM 0.11 to 0.15",
        _OPENAI + "…your request has {tokens}",
        "vllm/entrypoints/openai/serving_engine.py",
    ),
    ErrorPattern(
        "vLLM, SGLang",
        "Input length ({tokens}) exceeds model's maximum context length ({maximum})",
        "sglang/srt/managers/tokenizer_manager.py",
    ),
    ErrorPattern(
        "vLLM 0.8 to 0.10",
        "The {word} prompt (length {tokens}) is longer than the maximum model length of {maximum}",
        "xorbitsai/inference#3785",
    ),
    ErrorPattern(
        "vLLM 0.6 and 0.7",
        "The prompt (total length {tokens}) is too long to fit into the model (context length "
        "{maximum})",
        "vllm-project/vllm#12165",
    ),
    ErrorPattern(
        "SGLang, Together",
        "The input ({tokens} tokens) is longer than the model's context length ({maximum}",
        "fuergaosi233/claude-code-proxy#60",
    ),
    ErrorPattern(
        "TGI",
        "`inputs` must have less than {maximum} tokens. Given: {tokens}",
        "huggingface/text-generation-inference#937",
    ),
    ErrorPattern(
        "LM Studio", _KEEP + " (n_keep: {tokens}[ ]>= n_ctx: {maximum})", "openhuman#3550"
    ),
    ErrorPattern("LM Studio", _KEEP, "lmstudio-ai/lmstudio-bug-tracker#2205"),
    ErrorPattern(
        "LM Studio",
        "Cannot truncate prompt with n_keep ({tokens}) >= n_ctx ({maximum})",
        "anomalyco/opencode#11141",
    ),
    ErrorPattern(
        "LM Studio, until 0.3",
        "Trying to keep the first {tokens} tokens when context the overflows. However, the model "
        "is loaded with context length of only {maximum} tokens",
        "lmstudio-ai/lmstudio-bug-tracker#546",
    ),
    ErrorPattern(
        "ds4-server",
        "Prompt has {tokens} tokens, but the configured context size is {maximum}",
        "earendil-works/pi#6262",
    ),
    ErrorPattern(
        "Ollama", "prompt too long; exceeded max[imum] context length", "openclaw PR 36074"
    ),
    ErrorPattern("Bedrock, Databricks", "Input is too long", "harbor-framework/harbor PR 1619"),
    ErrorPattern(
        "xAI",
        "This model's maximum prompt length is {maximum} but the request contains {tokens} tokens",
        "docs.x.ai",
    ),
    ErrorPattern("xAI", "This model's maximum prompt length is {maximum}", "docs.x.ai"),
    ErrorPattern(
        "Kimi",
        "Your request exceeded model token limit: {maximum} (requested: {tokens})",
        "platform.moonshot.ai/docs",
    ),
    ErrorPattern("Kimi", "Your request exceeded model token limit", "platform.moonshot.ai/docs"),
    ErrorPattern(
        "Gemini",
        "The input token count ({tokens}) exceeds the maximum number of tokens allowed ({maximum})",
        "google-gemini/gemini-cli#6678",
    ),
    ErrorPattern(
        "Gemini",
        "The input token count exceeds the maximum number of tokens allowed ({maximum})",
        "arkavo-org/arkavo-edge#371",
    ),
    ErrorPattern(
        "Vertex",
        "Unable to submit request because the input token count is {tokens} but [the ]model only "
        "supports up to {maximum}",
        "cloud.google.com/vertex-ai",
    ),
    ErrorPattern(
        "DashScope",
        "Range of input length should be {word} {maximum}",  # [1, 129024]
        "QwenLM/qwen-code#98",
    ),
    ErrorPattern(
        "Ollama's cloud, Fireworks",
        "The prompt is too long: {tokens}, model maximum context length: {maximum}",
        "anomalyco/models.dev PR 6508",
    ),
    ErrorPattern(
        "Z.ai, mlx-serve", "Prompt exceeds max[imum context] length", "earendil-works/pi#9805"
    ),
    ErrorPattern(
        "Z.ai",
        "tokens in request more than max tokens allowed",
        "NousResearch/hermes-agent PR 61728",
    ),
    ErrorPattern(
        "Cohere",
        "too many tokens: total number of tokens in the prompt cannot exceed {maximum} - received "
        "{tokens}",
        "docs.cohere.com/reference/errors",
    ),
    ErrorPattern(
        "Cohere",
        "too many tokens: size limit exceeded by {n} tokens",
        "docs.cohere.com/reference/errors",
    ),
    ErrorPattern("MiniMax", "context window exceeds limit", "MiniMax-AI/MiniMax-M2#119"),
    ErrorPattern(
        "Mistral",
        "Prompt contains {tokens} tokens…too large for model with {maximum} maximum context length",
        "docs.mistral.ai, code 3051",
    ),
    ErrorPattern(
        "Copilot",
        "prompt token count of {tokens} exceeds the limit of {maximum}",
        "jjleng/copilot-more#35",
    ),
    ErrorPattern(
        "GitHub Models",
        "Request body too large for {word} model. Max size: {maximum} tokens",
        "eslint/tsc-meetings PR 593",
    ),
    ErrorPattern(
        "Poolside and Baseten, on OpenRouter",
        "Input length {tokens} exceeds the maximum allowed input length of {maximum} tokens",
        "badlogic/pi-mono, packages/ai/src/utils/overflow.ts",
    ),
    ErrorPattern(
        "Groq", "Please reduce the length of the messages", "console.groq.com/docs/errors"
    ),
    ErrorPattern(
        "SGLang", "Requested token count exceeds the model's maximum", "sgl-project/sglang"
    ),
    ErrorPattern("many", _OPENAI, "OpenAI"),
    ErrorPattern("many", "[This model's ]maximum context length is", "OpenAI"),
    ErrorPattern("many", "prompt [is ]too long", "Anthropic"),
)
#: The same as `code` or `type`, in lower case.
PROMPT_TOO_LONG_CODES = frozenset(
    {
        "context_length_exceeded",  # OpenAI and many
        "exceed_context_size_error",  # llama.cpp
        "model_max_prompt_tokens_exceeded",  # Copilot
        "model_context_window_exceeded",  # Z.ai
        "1261",  # Z.ai, docs.z.ai/api-reference/api-code
        "tokens_limit_reached",  # GitHub Models
        "contextwindowexceedederror",  # LiteLLM
    }
)
