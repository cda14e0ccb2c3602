"""What backends say when a request is too long for them; see wording.py."""

from __future__ import annotations

from stages.chat_completions.wording import Wording

_OPENAI = "[This model's ]maximum context length is {maximum} tokens"
_OPENROUTER = (
    "This endpoint's maximum context length is {maximum} tokens…requested about {n} tokens "
)
#: Prompt and output limit together are too long.
SUMS = (
    Wording(
        "OpenAI, DeepSeek, vLLM up to 0.10",
        _OPENAI + "…requested {n} tokens ({tokens} in the messages, {asked} in the completion)",
        "evalstate/fast-agent#621",
    ),
    Wording(
        "OpenAI, with tools",
        _OPENAI + "…requested {n} tokens ({tokens} in the messages, {more} in the functions, "
        "and {asked} in the completion)",
        "Azure OpenAI, and its answers to tools",
    ),
    Wording(
        "OpenAI, long ago",
        _OPENAI + "…requested {n} tokens ({tokens} in your prompt; {asked} for the completion)",
        "acheong08/ChatGPT#501",
    ),
    Wording(
        "OpenRouter",
        _OPENROUTER + "({tokens} of text input, {asked} in the output)",
        "openrouter.ai/docs/api/reference/errors-and-debugging",
    ),
    Wording(
        "OpenRouter, with tools",
        _OPENROUTER + "({tokens} of text input, {more} of tool input, {asked} in the output)",
        "openrouter.ai/docs/api/reference/errors-and-debugging",
    ),
    Wording(
        "vLLM 0.11 to 0.15",
        "'max_tokens' or 'max_completion_tokens' is too large: {asked}. This model's maximum "
        "context length is {maximum} tokens and your request has {tokens} input tokens",
        "vllm/entrypoints/openai/serving_engine.py",
    ),
    Wording(  # it cuts the prompt before it counts
        "vLLM 0.16 and 0.17",
        "You passed {n} input {word} and requested {asked} output tokens. However, the model's "
        "context length is only {maximum} tokens",
        "vllm/renderers/params.py",
    ),
    Wording(
        "vLLM since 0.18",
        _OPENAI + ". However, you requested {asked} output tokens and your prompt contains "
        "{tokens} input tokens",
        "earendil-works/pi#5930",
    ),
    Wording(
        "vLLM since 0.18, where it stopped counting",
        _OPENAI + ". However, you requested {asked} output tokens and your prompt contains "
        "at least {n} input tokens",
        "earendil-works/pi#5930, cloudflare/cloudflare-docs#29731",
    ),
    Wording(
        "vLLM since 0.18, where it counted no tokens",
        _OPENAI + ". However, you requested {asked} output tokens and your prompt contains "
        "{n} characters",
        "vLLM 0.32, seen live",
    ),
    Wording(
        "vLLM, of the limit alone",
        "max_[completion_]tokens={asked} cannot be greater than "
        "max_model_len=[max_total_tokens=]{maximum}",
        "vllm/renderers/params.py",
    ),
    Wording(
        "SGLang, Cloudflare",
        "Requested token count exceeds the model's maximum context length of {maximum} tokens. You "
        "requested a total of {n} tokens: {tokens} tokens from the input messages and "
        "{asked} tokens",
        "anomalyco/models.dev PR 4422",
    ),
    Wording(
        "Anthropic, Bedrock",
        "input length and `max_tokens` exceed context limit: {tokens} + {asked} > {maximum}",
        "egoist/chatwise-releases#917",
    ),
    Wording(
        "Cloudflare",
        "The estimated number of input and maximum output tokens ({total}) exceeded this model "
        "context window limit ({maximum})",
        "developers.cloudflare.com/workers-ai, codes 5021 and 3010",
    ),
    Wording(
        "TGI",
        "`inputs` tokens + `max_new_tokens` must be <= {maximum}. Given: {tokens} `inputs` tokens "
        "and {asked} `max_new_tokens`",
        "huggingface/text-generation-inference#628",
    ),
)

_KEEP = "The number of tokens to keep from the initial prompt is greater than the context length"
#: The prompt alone is too long.
PROMPTS = (
    Wording("Anthropic", "prompt is too long: {tokens} tokens > {maximum} maximum", "its API"),
    Wording(
        "llama.cpp",
        "request ({tokens} tokens) exceeds the available context size ({maximum}",
        "tontinton/maki PR 319",
    ),
    Wording("llama.cpp, until 2025", "the request exceeds the available context size", "ibidem"),
    Wording("llama.cpp, long ago", "Context size has been exceeded", "ggml-org/llama.cpp"),
    Wording(
        "OpenAI",
        _OPENAI + "…your messages resulted in {tokens} tokens",
        "smol-ai/developer#7",
    ),
    Wording(
        "OpenAI's reasoning models",
        "Input tokens exceed the configured limit of {maximum} tokens. Your messages resulted in "
        "{tokens} tokens",
        "langchain_openai/chat_models/base.py",
    ),
    Wording("OpenAI", "Input tokens exceed the configured limit", "ibidem"),
    Wording("OpenAI's Responses", "Your input exceeds the context window", "openai/codex"),
    Wording(
        "OpenRouter",
        _OPENROUTER + "({tokens} of text input)",
        "refly-ai/refly#1177",
    ),
    Wording(
        "OpenRouter, with tools",
        _OPENROUTER + "({tokens} of text input, {more} of tool input)",
        "refly-ai/refly#1177",
    ),
    Wording(
        "vLLM 0.11 to 0.15",
        _OPENAI + "…your request has {tokens}",
        "vllm/entrypoints/openai/serving_engine.py",
    ),
    Wording(
        "vLLM, SGLang",
        "Input length ({tokens}) exceeds model's maximum context length ({maximum})",
        "sglang/srt/managers/tokenizer_manager.py",
    ),
    Wording(
        "vLLM 0.8 to 0.10",
        "The {word} prompt (length {tokens}) is longer than the maximum model length of {maximum}",
        "xorbitsai/inference#3785",
    ),
    Wording(
        "vLLM 0.6 and 0.7",
        "The prompt (total length {tokens}) is too long to fit into the model (context length "
        "{maximum})",
        "vllm-project/vllm#12165",
    ),
    Wording(
        "SGLang, Together",
        "The input ({tokens} tokens) is longer than the model's context length ({maximum}",
        "fuergaosi233/claude-code-proxy#60",
    ),
    Wording(
        "TGI",
        "`inputs` must have less than {maximum} tokens. Given: {tokens}",
        "huggingface/text-generation-inference#937",
    ),
    Wording("LM Studio", _KEEP + " (n_keep: {tokens}[ ]>= n_ctx: {maximum})", "openhuman#3550"),
    Wording("LM Studio", _KEEP, "lmstudio-ai/lmstudio-bug-tracker#2205"),
    Wording(
        "LM Studio",
        "Cannot truncate prompt with n_keep ({tokens}) >= n_ctx ({maximum})",
        "anomalyco/opencode#11141",
    ),
    Wording(
        "LM Studio, until 0.3",
        "Trying to keep the first {tokens} tokens when context the overflows. However, the model "
        "is loaded with context length of only {maximum} tokens",
        "lmstudio-ai/lmstudio-bug-tracker#546",
    ),
    Wording(
        "ds4-server",
        "Prompt has {tokens} tokens, but the configured context size is {maximum}",
        "earendil-works/pi#6262",
    ),
    Wording("Ollama", "prompt too long; exceeded max[imum] context length", "openclaw PR 36074"),
    Wording("Bedrock, Databricks", "Input is too long", "harbor-framework/harbor PR 1619"),
    Wording(
        "xAI",
        "This model's maximum prompt length is {maximum} but the request contains {tokens} tokens",
        "docs.x.ai",
    ),
    Wording("xAI", "This model's maximum prompt length is {maximum}", "docs.x.ai"),
    Wording(
        "Kimi",
        "Your request exceeded model token limit: {maximum} (requested: {tokens})",
        "platform.moonshot.ai/docs",
    ),
    Wording("Kimi", "Your request exceeded model token limit", "platform.moonshot.ai/docs"),
    Wording(
        "Gemini",
        "The input token count ({tokens}) exceeds the maximum number of tokens allowed ({maximum})",
        "google-gemini/gemini-cli#6678",
    ),
    Wording(
        "Gemini",
        "The input token count exceeds the maximum number of tokens allowed ({maximum})",
        "arkavo-org/arkavo-edge#371",
    ),
    Wording(
        "Vertex",
        "Unable to submit request because the input token count is {tokens} but [the ]model only "
        "supports up to {maximum}",
        "cloud.google.com/vertex-ai",
    ),
    Wording(
        "DashScope",
        "Range of input length should be {word} {maximum}",  # [1, 129024]
        "QwenLM/qwen-code#98",
    ),
    Wording(
        "Ollama's cloud, Fireworks",
        "The prompt is too long: {tokens}, model maximum context length: {maximum}",
        "anomalyco/models.dev PR 6508",
    ),
    Wording("Z.ai, mlx-serve", "Prompt exceeds max[imum context] length", "earendil-works/pi#9805"),
    Wording(
        "Z.ai",
        "tokens in request more than max tokens allowed",
        "NousResearch/hermes-agent PR 61728",
    ),
    Wording(
        "Cohere",
        "too many tokens: total number of tokens in the prompt cannot exceed {maximum} - received "
        "{tokens}",
        "docs.cohere.com/reference/errors",
    ),
    Wording(
        "Cohere",
        "too many tokens: size limit exceeded by {n} tokens",
        "docs.cohere.com/reference/errors",
    ),
    Wording("MiniMax", "context window exceeds limit", "MiniMax-AI/MiniMax-M2#119"),
    Wording(
        "Mistral",
        "Prompt contains {tokens} tokens…too large for model with {maximum} maximum context length",
        "docs.mistral.ai, code 3051",
    ),
    Wording(
        "Copilot",
        "prompt token count of {tokens} exceeds the limit of {maximum}",
        "jjleng/copilot-more#35",
    ),
    Wording(
        "GitHub Models",
        "Request body too large for {word} model. Max size: {maximum} tokens",
        "eslint/tsc-meetings PR 593",
    ),
    Wording(
        "Poolside and Baseten, on OpenRouter",
        "Input length {tokens} exceeds the maximum allowed input length of {maximum} tokens",
        "badlogic/pi-mono, packages/ai/src/utils/overflow.ts",
    ),
    Wording("Groq", "Please reduce the length of the messages", "console.groq.com/docs/errors"),
    Wording("SGLang", "Requested token count exceeds the model's maximum", "sgl-project/sglang"),
    Wording("many", _OPENAI, "OpenAI"),
    Wording("many", "[This model's ]maximum context length is", "OpenAI"),
    Wording("many", "prompt [is ]too long", "Anthropic"),
)
#: The same as `code` or `type`, in lower case.
PROMPT_CODES = frozenset(
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
