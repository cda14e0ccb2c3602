"""The providers. Their words are from the pages and threads named in stages/profiles/shipped/."""

from __future__ import annotations

from tests.wire.providers import shapes as s
from tests.wire.providers.local import LOCAL, TOGETHER_LONG, UNSUPPORTED, VLLM_LONG
from tests.wire.providers.provider import Provider, Rule

TOO_LONG = 300_000
_OPENAI_ONE = (
    "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) "
    "value is supported."
)
_OPENAI_LONG = (
    "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 "
    "tokens. Please reduce the length of the messages."
)
_NO_TOOLS_WITH_REASONING = (
    "Function tools with reasoning_effort are not supported for gpt-5.6 in /v1/chat/completions. "
    "To use function tools, use /v1/responses or set reasoning_effort to 'none'."
)
_MAX_TOKENS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
    "'max_completion_tokens' instead."
)
_OPENAI = (
    Rule(s.has("max_tokens"), _MAX_TOKENS),
    Rule(
        lambda body: body.get("tools") and body.get("reasoning_effort") != "none",
        _NO_TOOLS_WITH_REASONING,
    ),
    s.no_temperature(_OPENAI_ONE),
)
_FLAVORED = "tools.function.parameters is not a valid moonshot flavored json schema, details: <{}>"
_FORBIDDEN = "body -> {}\n  Extra inputs are not permitted (type=extra_forbidden)"
_UNLIKE_MISTRAL = "Tool call id was {} but must be a-z, A-Z, 0-9, with a length of 9."

_ALL = (
    Provider(
        "generic",
        "some-model",
        rules=(Rule(s.has("stream_options"), "Unrecognized request argument: stream_options"),),
        overflow=Rule(bool, VLLM_LONG),
        shows_reasoning=False,
        usage_in_streams="never",
    ),
    *(
        Provider(
            name,
            "gpt-5.6",
            rules=_OPENAI,
            overflow=Rule(bool, _OPENAI_LONG),
            shows_reasoning=False,
        )
        for name in ("openai", "azure")
    ),
    Provider(
        "gemini",
        "gemini-3-pro-preview",
        rules=(
            Rule(
                lambda body: any(isinstance(each.get("type"), list) for each in s.schemas(body)),
                "Invalid JSON payload received. Unknown name \"type\" at 'tools[0]': Proto field "
                "is not repeating, cannot start list.",
            ),
            Rule(
                s.keyword("$ref", "$defs", "additionalProperties", "const", "$schema"),
                "Invalid JSON payload received. Unknown name \"$ref\" at 'tools[0]': Cannot find "
                "field.",
            ),
            Rule(
                s.keyword("title"),
                'Invalid JSON payload received. Unknown name "title" at \'tools[0].'
                "function_declarations[0].parameters.properties[0].value': Cannot find field.",
            ),
            Rule(s.has("parallel_tool_calls"), "Parallel tool calls are not supported."),
            Rule(
                s.unsigned("sig-gemini", "skip_thought_signature_validator"),
                "Function call is missing a thought_signature in functionCall parts. This is "
                "required for tools to work correctly",
            ),
            Rule(s.nameless_results, "function_response.name: Name cannot be empty."),
        ),
        error=s.google,
        overflow=Rule(
            bool,
            "The input token count (300000) exceeds the maximum number of tokens allowed "
            "(1048576).",
        ),
        shows_reasoning=False,
        usage=s.reasoning_next_to_completion,
        call={"extra_content": {"google": {"thought_signature": "sig-gemini"}}},
    ),
    Provider(
        "deepseek",
        "deepseek-v4-pro",
        rules=(
            Rule(
                lambda body: s.forced(body) and s.on_unless_disabled(body),
                "Thinking mode does not support this tool_choice",
            ),
            Rule(
                lambda body: "budget_tokens" in body.get("thinking", {}),
                "Failed to deserialize the JSON body into the target type: thinking: unknown field "
                "`budget_tokens`, expected `type`",
            ),
            s.no_temperature("Invalid temperature value, the valid range of temperature is [1, 1]"),
            Rule(s.without_reasoning, "Missing `reasoning_content` field in the assistant message"),
        ),
        error=s.deepseek,
        overflow=Rule(
            bool,
            "This model's maximum context length is 131072 tokens. However, you requested 305000 "
            "tokens (300000 in the messages, 5000 in the completion). Please reduce the length of "
            "the messages or completion.",
        ),
        thinks=s.on_unless_disabled,
    ),
    Provider(
        "moonshot",
        "kimi-k2.6",
        rules=(
            Rule(s.has("temperature"), "invalid temperature: only 1 is allowed for this model"),
            Rule(
                lambda body: s.forced(body) and s.on_unless_disabled(body),
                "tool_choice 'required' is incompatible with thinking enabled",
            ),
            Rule(
                lambda body: any("type" in each and "anyOf" in each for each in s.schemas(body)),
                _FLAVORED.format(
                    "At path 'properties.when': when using anyOf, type should be defined in anyOf "
                    "items instead of the parent schema"
                ),
            ),
            Rule(s.keyword("$ref"), _FLAVORED.format("At path 'root': $ref with siblings")),
            Rule(s.keyword("pattern"), _FLAVORED.format("pattern is not supported")),
            Rule(
                s.without_reasoning,
                "thinking is enabled but reasoning_content is missing in assistant tool call "
                "message at index 2",
            ),
        ),
        error=s.kimi,
        overflow=Rule(
            bool,
            "Invalid request: Your request exceeded model token limit: 262144 (requested: 300000)",
        ),
        thinks=s.on_unless_disabled,
        identity=lambda n: f"get_weather:{n}",
        usage=s.cached_at_the_top,
    ),
    Provider(
        "zai",
        "glm-4.7",
        rules=(
            Rule(
                lambda body: body.get("thinking") == {"type": "disabled"},
                "This model always engages in thinking and cannot be disabled; please use low, "
                "high, or max",
            ),
            Rule(s.forced, "tool_choice only supports auto"),
            s.no_temperature("temperature is not supported by this model"),
        ),
        error=s.zai,
        overflow=Rule(bool, "Prompt exceeds max length: the prompt is too long"),
        thinks=s.on_unless_disabled,
        identity=lambda n: f"call_-8{n}55",
    ),
    Provider(
        "mistral",
        "mistral-small-latest",
        rules=(
            Rule(s.ids_unlike(r"[a-zA-Z0-9]{9}"), _UNLIKE_MISTRAL.format("call_1")),
            Rule(s.follows("tool", "user"), "Unexpected role 'user' after role 'tool'"),
            Rule(s.member("prefix"), "extra_forbidden messages.1.assistant.reasoning_content", 422),
            Rule(
                lambda body: (
                    body["messages"][-1]["role"] == "assistant"
                    and not body["messages"][-1].get("prefix")
                ),
                "Expected last role User or Tool (or Assistant with prefix True) for serving but "
                "got assistant",
            ),
            s.no_temperature("extra_forbidden temperature", 422),
        ),
        known=s.members("max_tokens", "parallel_tool_calls", "reasoning_effort"),
        unknown="extra_forbidden {}",
        unknown_status=422,
        error=s.mistral,
        overflow=Rule(
            bool,
            "Prompt contains 300000 tokens and 0 draft tokens, too large for model with 131072 "
            "maximum context length",
        ),
        reasoning=s.as_part,
        usage_in_streams="always",
        identity=lambda n: f"D681PevK{n}",
    ),
    Provider(
        "xai",
        "grok-next",
        rules=(
            Rule(
                s.has("reasoning_effort"),
                "Model grok-next does not support parameter reasoningEffort.",
            ),
            Rule(s.has("stop"), "Argument not supported on this model: stop"),
            s.no_temperature("Argument not supported on this model: temperature"),
        ),
        error=s.xai,
        overflow=Rule(
            bool,
            "This model's maximum prompt length is 131072 but the request contains 300000 tokens.",
        ),
        shows_reasoning=False,
        usage=s.reasoning_next_to_completion,
    ),
    Provider(
        "groq",
        "qwen/qwen3-32b",
        rules=(
            Rule(
                lambda body: body.get("reasoning_effort", "none") not in ("none", "default"),
                "`reasoning_effort` must be one of `none` or `default`",
            ),
            Rule(
                s.member("reasoning"),
                "'messages.1' : for 'role:assistant' the following must be satisfied[('messages.1' "
                ": property 'reasoning_content' is unsupported)]",
            ),
            s.no_temperature("property 'temperature' is unsupported"),
        ),
        overflow=Rule(bool, "Please reduce the length of the messages or completion."),
        reasoning=s.as_reasoning,
        usage=s.in_x_groq,
        usage_at="x_groq",
    ),
    Provider(
        "cerebras",
        "gpt-oss-120b",
        rules=(
            Rule(
                s.member("reasoning"),
                "messages.2.assistant.reasoning_content: property 'messages.2.assistant."
                "reasoning_content' is unsupported",
            ),
            s.no_temperature("property 'temperature' is unsupported"),
        ),
        known=s.members("max_completion_tokens", "reasoning_effort", "stream_options"),
        unknown="property '{}' is unsupported",
        error=s.cerebras,
        overflow=Rule(
            bool,
            "Please reduce the length of the messages or completion. Current length is 300000 "
            "while limit is 131072",
        ),
        reasoning=s.as_reasoning,
    ),
    Provider(
        "together",
        "zai-org/GLM-5.1",
        rules=(s.no_temperature(UNSUPPORTED),),
        overflow=Rule(bool, TOGETHER_LONG),
        thinks=lambda body: bool(body.get("reasoning", {}).get("enabled", True)),
        reasoning=s.as_reasoning,
    ),
    Provider(
        "fireworks",
        "accounts/fireworks/models/deepseek-v4-pro",
        rules=(
            Rule(
                lambda body: body["max_tokens"] > 4096 and not body["stream"],
                "Requests with max_tokens > 4096 must have stream=true",
            ),
            s.no_temperature(UNSUPPORTED),
        ),
        overflow=Rule(bool, "The prompt is too long: 300000, model maximum context length: 163840"),
    ),
    Provider(
        "dashscope",
        "qwen3.5-plus",
        rules=(
            Rule(
                lambda body: not body["stream"],
                "This model only support stream mode, please enable the stream parameter to access "
                "the model.",
            ),
            Rule(
                lambda body: s.forced(body) and body.get("enable_thinking", True),
                "The tool_choice parameter does not support being set to required or object in "
                "thinking mode",
            ),
            s.no_temperature("temperature is not supported by this model"),
        ),
        error=s.dashscope,
        overflow=Rule(bool, "Range of input length should be [1, 129024]"),
        thinks=lambda body: bool(body.get("enable_thinking", True)),
    ),
    Provider(
        "minimax",
        "MiniMax-M3",
        rules=(
            Rule(s.several_systems, "invalid params, invalid chat setting (2013)"),
            Rule(s.has("tool_choice"), "invalid params, unknown parameter tool_choice (2013)"),
            s.no_temperature("invalid params, temperature is not supported (2013)"),
        ),
        error=s.minimax,
        overflow=Rule(bool, "invalid params, context window exceeds limit (2013)", 200),
        thinks=s.on_unless_disabled,
        reasoning=s.as_details,
        identity=lambda n: f"call_function_g094w5htkgl{n}_1",
    ),
    Provider(
        "nvidia",
        "deepseek-ai/deepseek-v3.1",
        rules=(
            Rule(
                lambda body: body.get("chat_template_kwargs", {}).keys() - {"thinking"},
                _FORBIDDEN.format("chat_template_kwargs.enable_thinking"),
                422,
            ),
            s.no_temperature(_FORBIDDEN.format("temperature"), 422),
        ),
        known=s.members("max_tokens", "chat_template_kwargs"),
        unknown=_FORBIDDEN,
        unknown_status=422,
        error=s.nvidia,
        overflow=Rule(bool, VLLM_LONG),
        thinks=s.by_switch("thinking"),
        usage_in_streams="never",
    ),
    Provider(
        "github",
        "openai/gpt-5",
        rules=(
            Rule(s.has("max_tokens"), _MAX_TOKENS),
            Rule(
                s.keyword("pattern"),
                "Invalid schema for function 'get_weather': In context=('properties', 'city'), "
                "'pattern' is not permitted.",
            ),
        ),
        error=s.github,
        overflow=Rule(bool, "Request body too large for gpt-5 model. Max size: 4000 tokens.", 413),
        shows_reasoning=False,
    ),
    Provider(
        "openrouter",
        "anthropic/claude-next",
        rules=(
            Rule(
                lambda body: body.get("reasoning") == {"enabled": False},
                "Reasoning is mandatory for this endpoint and cannot be disabled.",
            ),
            s.no_temperature(UNSUPPORTED),
        ),
        overflow=Rule(
            bool,
            "This endpoint's maximum context length is 131072 tokens. However, you requested about "
            "305000 tokens (300000 of text input, 5000 in the output).",
        ),
        thinks=s.always,
        reasoning=s.as_details,
    ),
    Provider(
        "databricks",
        "databricks-llama-4-maverick",
        rules=(
            Rule(s.follows("tool", "tool"), "tool messages must follow a call each"),
            Rule(s.keyword("$schema", "format"), "tools: $schema is not supported"),
            Rule(s.null_content, "text content blocks must be non-empty"),
            s.no_temperature("`temperature` is deprecated for this model."),
        ),
        known=s.members("max_tokens", "thinking", "reasoning_effort"),
        unknown="{}: unknown field",
        error=s.databricks,
        overflow=Rule(bool, "Input is too long for requested model."),
        shows_reasoning=False,
        usage_in_streams="never",
    ),
    *LOCAL,
)
#: By the names of their profiles.
PROVIDERS = {each.profile: each for each in _ALL}
