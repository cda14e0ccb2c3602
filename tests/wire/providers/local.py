"""Local servers."""

from __future__ import annotations

from tests.wire.providers import shapes as s
from tests.wire.providers.provider import Provider, Rule, effort

UNSUPPORTED = "Unsupported parameter: 'temperature' is not supported with this model."
_LMSTUDIO_LONG = (
    "Trying to keep the first 300000 tokens when context the overflows. However, the model is "
    "loaded with context length of only 4096 tokens, which is not enough."
)
VLLM_LONG = (
    "This model's maximum context length is 131072 tokens. However, you requested 5000 output "
    "tokens and your prompt contains 300000 input tokens, for a total of 305000 tokens."
)
TOGETHER_LONG = (
    "The input (300000 tokens) is longer than the model's context length (262144 tokens)."
)
_LLAMACPP_LONG = "request (300000 tokens) exceeds the available context size (8192 tokens), try it"

LOCAL = (
    Provider(
        "ollama",
        "smol",
        rules=(
            Rule(effort, '"smol" does not support thinking'),
            s.no_temperature("invalid option provided: temperature"),
        ),
        overflow=Rule(bool, "prompt too long; exceeded max context length by 4096 tokens"),
        shows_reasoning=False,
    ),
    Provider(
        "lmstudio",
        "qwen3-4b",
        rules=(
            Rule(
                lambda body: isinstance(body.get("tool_choice"), dict),
                "Invalid tool_choice type: 'object'. Supported string values: none, auto, required",
            ),
            Rule(
                s.null_content,
                "Invalid 'content': 'content' field must be a string or an array of objects.",
            ),
            s.no_temperature("'temperature' is not supported"),
        ),
        error=s.as_text,
        overflow=Rule(bool, _LMSTUDIO_LONG),
        thinks=s.always,
        reasoning=s.as_tags,
    ),
    Provider(
        "vllm",
        "qwen3",
        rules=(s.no_temperature(UNSUPPORTED),),
        error=s.vllm,
        overflow=Rule(bool, VLLM_LONG),
        reasoning=s.as_reasoning,
    ),
    Provider(
        "sglang",
        "qwen3",
        rules=(s.no_temperature(UNSUPPORTED),),
        error=s.vllm,
        overflow=Rule(bool, TOGETHER_LONG),
        thinks=s.by_switch("enable_thinking"),
    ),
    *(
        Provider(
            name,
            "qwen3",
            rules=(s.no_temperature(UNSUPPORTED),),
            error=s.llamacpp,
            overflow=Rule(bool, _LLAMACPP_LONG),
            thinks=s.by_switch("enable_thinking"),
        )
        for name in ("llamacpp", "llama-swap")
    ),
    Provider(
        "mlx",
        "qwen3",
        rules=(
            Rule(s.null_content, "'NoneType' object is not iterable"),
            s.no_temperature("temperature is not supported"),
        ),
        error=s.as_text,
        thinks=s.by_switch("enable_thinking"),
        reasoning=s.as_reasoning,
    ),
    Provider(
        "koboldcpp",
        "koboldcpp",
        rules=(
            Rule(s.null_content, "content must not be null"),
            Rule(s.follows("tool", "user"), "roles must alternate user/assistant/user/assistant"),
            s.no_temperature("temperature is not supported"),
        ),
        error=s.as_text,
        thinks=s.always,
        reasoning=s.as_tags,
    ),
)
