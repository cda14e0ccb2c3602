"""Overrides of shipped profiles for models, by patterns of their names."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.structuring import make_converter
from stages.backends.backend import Backend
from stages.backends.config import register_hooks
from stages.exchange import Target
from stages.profiles.profile import profiles
from stages.translation.request import chat_request
from tests.cases import for_each
from tests.support import request, resolved

PATTERNS = [(name, item) for name in profiles() for item in profiles()[name].get("models", ())]
TOOL = {"name": "f", "input_schema": {"type": "object"}}
ADAPTIVE = {"thinking": {"type": "adaptive"}}
BUDGET = {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 4000}
OFF = {"thinking": {"type": "disabled"}}
FORCED: dict[str, Any] = {"tools": [TOOL], "tool_choice": {"type": "any"}}


def backend(name: str) -> Backend:
    """A backend of a shipped profile, as it is configured."""
    converter = make_converter()
    register_hooks(converter)
    result: Backend = converter.structure(
        {"base_url": "http://b.invalid/v1", "profile": name}, Backend
    )
    return result


def sent(name: str, model: str, **asked: Any) -> dict[str, Any]:
    options = backend(name).profile_for(Target("b", model))
    return chat_request(resolved(**asked), options).options


@for_each(("name", "pattern"), PATTERNS)
def test_each_pattern_changes_its_profile(name: str, pattern: str) -> None:
    """A name that matches is the pattern with something in place of its wildcards."""
    result = backend(name)
    model = pattern.replace("*", "x")
    while "[" in model:
        before, _, remaining = model.partition("[")
        model = before + remaining[0] + remaining.partition("]")[2]
    assert result.profile_for(Target("b", model)) != result.profile
    assert result.profile_for(Target("b", "no-such-model")) is result.profile


@for_each("model", ["llama3.2", "qwen2.5-coder:7b", "gemma3"])
@for_each("asked", [ADAPTIVE, OFF, {"output_config": {"effort": "high"}}])
def test_row_b8_a_model_that_cannot_think_is_not_asked_to(model: str, asked: Any) -> None:
    assert "reasoning_effort" not in sent("ollama", model, **asked)
    assert sent("ollama", "qwen3", **ADAPTIVE)["reasoning_effort"] == "high"


@for_each("name", ["openai", "azure"])
@for_each("model", ["gpt-5.4", "gpt-5.4-mini", "gpt-5.6-terra"])
@for_each("asked", [ADAPTIVE, OFF, {}])
def test_row_b9_tools_go_without_reasoning(name: str, model: str, asked: Any) -> None:
    assert sent(name, model, tools=[TOOL], **asked)["reasoning_effort"] == "none"
    assert sent(name, model, **ADAPTIVE)["reasoning_effort"] == "high"
    assert sent(name, "gpt-5.1", tools=[TOOL], **ADAPTIVE)["reasoning_effort"] == "high"


@for_each(
    ("name", "model"),
    [
        ("openrouter", "google/gemini-2.5-pro"),
        ("gemini", "models/gemini-3-pro-preview"),
        ("zai", "glm-5.3"),
        ("moonshot", "kimi-k3"),
        ("xai", "grok-4.5"),
        ("minimax", "MiniMax-M2.7"),
    ],
)
def test_row_b10_a_model_that_always_reasons_gets_no_off_switch(name: str, model: str) -> None:
    result = sent(name, model, **OFF)
    assert not {"reasoning", "reasoning_effort", "thinking"}.intersection(result)


@for_each(
    ("name", "model", "asked", "expected"),
    [
        ("deepseek", "deepseek-v4-pro", OFF, {"thinking": {"type": "disabled"}}),
        (
            "deepseek",
            "deepseek-v4-pro",
            {**ADAPTIVE, "output_config": {"effort": "max"}},
            {"thinking": {"type": "enabled"}, "reasoning_effort": "max"},
        ),
        ("moonshot", "kimi-k2.6", OFF, {"thinking": {"type": "disabled"}}),
        *(
            (name, model, asked, {"thinking": {"type": "enabled"}})
            for name, model in (("moonshot", "kimi-k2.6"), ("zai", "glm-4.7"))
            for asked in (ADAPTIVE, BUDGET)
        ),
        *(
            (name, model, {**FORCED, **asked}, expected)
            for name, model, expected in (
                ("moonshot", "kimi-k2.6", {"thinking": {"type": "disabled"}}),
                ("deepseek", "deepseek-v4-pro", {"thinking": {"type": "disabled"}}),
                ("dashscope", "qwen3.5-plus", {"enable_thinking": False}),
            )
            for asked in ({}, ADAPTIVE)
        ),
        ("moonshot", "kimi-k3", ADAPTIVE, {"reasoning_effort": "high"}),
        ("zai", "glm-4.7", OFF, {"thinking": {"type": "disabled"}, "tool_stream": True}),
        ("minimax", "MiniMax-M3", ADAPTIVE, {"thinking": {"type": "adaptive"}}),
        ("groq", "qwen/qwen3-32b", ADAPTIVE, {"reasoning_effort": "default"}),
        ("groq", "openai/gpt-oss-120b", ADAPTIVE, {"reasoning_effort": "high"}),
        ("together", "zai-org/GLM-5.1", ADAPTIVE, {"reasoning": {"enabled": True}}),
        ("together", "zai-org/GLM-5.1", OFF, {"reasoning": {"enabled": False}}),
        ("dashscope", "qwen3.5-plus", OFF, {"enable_thinking": False}),
        (
            "nvidia",
            "deepseek-ai/deepseek-v3.1",
            ADAPTIVE,
            {"chat_template_kwargs": {"thinking": True}},
        ),
        ("mistral", "mistral-small-latest", OFF, {"reasoning_effort": "none"}),
    ],
)
def test_row_b16_reasoning_is_requested_as_each_has_it(
    name: str, model: str, asked: Any, expected: dict[str, Any]
) -> None:
    result = sent(name, model, **asked)
    assert {key: result.get(key) for key in expected} == expected


PREFILL = {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "The"}]}


@for_each("name", ["llamacpp", "llama-swap"])
@for_each("asked", [{}, ADAPTIVE, OFF, {"stream": True}, {"output_config": {"effort": "high"}}])
def test_row_b18_a_prefill_turns_thinking_off(name: str, asked: Any) -> None:
    switch = {"enable_thinking": False}
    assert sent(name, "qwen3", **PREFILL, **asked)["chat_template_kwargs"] == switch
    plain = sent(name, "qwen3", **ADAPTIVE)["chat_template_kwargs"]
    assert plain == {"enable_thinking": True}


BASH = {"type": "bash_20250124", "name": "bash"}


@for_each("name", ["lmstudio", "llamacpp", "llama-swap", "embedded"])
@for_each("chosen", ["weather", "bash"])
@for_each("more", [{}, {"disable_parallel_tool_use": True}])
def test_row_b19_a_tool_by_name_is_the_only_one(name: str, chosen: str, more: Any) -> None:
    tools = [TOOL, {**TOOL, "name": "weather"}, BASH]
    choice = {"type": "tool", "name": chosen, **more}
    options = sent(name, "some-model", tools=tools, tool_choice=choice)
    assert options["tool_choice"] == "required"
    assert [tool["function"]["name"] for tool in options["tools"]] == [chosen]


@pytest.mark.parametrize(
    ("name", "model"),
    [("openai", "gpt-5"), ("openai", "o3"), ("moonshot", "kimi-k2.6"), ("github", "openai/gpt-5")],
)
def test_a_model_whose_sampling_is_fixed_is_given_none(name: str, model: str) -> None:
    result = sent(name, model, temperature=0.5, top_p=0.5)
    assert not {"temperature", "top_p"}.intersection(result)


@pytest.mark.parametrize(
    ("name", "model", "field"),
    [
        ("github", "openai/gpt-5", "max_completion_tokens"),
        ("github", "meta/llama-3.3", "max_tokens"),
        ("moonshot", "kimi-k2.6", "max_completion_tokens"),
        ("mistral", "devstral", "max_tokens"),
    ],
)
def test_the_output_limit_has_the_models_name(name: str, model: str, field: str) -> None:
    assert sent(name, model)[field] == request().max_tokens
