"""Which option a backend's 400 is about, in the words of each backend."""

from __future__ import annotations

from typing import Any

import pytest

from stages.backends.refused_options import RefusedOption, RefusedOptions, find_refused_options
from stages.profiles.profile import Profile, merge_overrides
from stages.translation.request import chat_request
from tests.cases import for_each
from tests.support import profile, resolved

ADAPTIVE = {"type": "adaptive"}
OFF = {"type": "disabled"}
SCHEMA = {
    "type": "object",
    "properties": {"x": {"type": "string", "pattern": "a+", "format": "uri"}},
    "additionalProperties": False,
}
TOOL = {"name": "weather", "input_schema": SCHEMA}
NAMED = {"type": "tool", "name": "weather"}
EFFORT = {
    "reasoning_request": "effort",
    "effort_levels": ("none", "low", "medium", "high", "xhigh"),
    "fields": {"thinking": "map", "output_config.effort": "map"},
}
SWITCH = {"fields": {"thinking": "map"}}

# The words, the facts of the profile, the request, what is refused, and what is sent after that
# in place of the members named.
REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], str, dict[str, Any]]] = [
    (  # Ollama
        '"llama3.2" does not support thinking',
        EFFORT,
        {"thinking": ADAPTIVE},
        "reasoning",
        {"reasoning_effort": None},
    ),
    (  # DashScope: only the budget is left out
        "The thinking_budget parameter must be a positive integer and not greater than 38912",
        {"reasoning_request": "switch", "thinking_budget": True, **SWITCH},
        {"thinking": {"type": "enabled", "budget_tokens": 50_000}},
        "budget of thinking",
        {"enable_thinking": True, "thinking_budget": None},
    ),
    (  # Groq
        "`reasoning_effort` must be one of `low`, `medium`, or `high`",
        EFFORT,
        {"output_config": {"effort": "xhigh"}},
        "level of effort",
        {"reasoning_effort": "high"},
    ),
    (  # OpenAI, of a model that does not reason
        "Unrecognized request argument supplied: reasoning_effort",
        EFFORT,
        {"output_config": {"effort": "low"}},
        "reasoning",
        {"reasoning_effort": None},
    ),
    (
        (
            "Unsupported value: 'reasoning_effort' does not support 'xhigh' with this model. "
            "Supported values are: 'low', 'medium', and 'high'."
        ),
        EFFORT,
        {"output_config": {"effort": "xhigh"}},
        "level of effort",
        {"reasoning_effort": "high"},
    ),
    (
        (
            "Unsupported value: 'reasoning_effort' does not support 'none' with this model. "
            "Supported values are: 'minimal', 'low', 'medium', and 'high'."
        ),
        EFFORT,
        {"thinking": OFF},
        "level of effort",
        {"reasoning_effort": None},
    ),
    (
        (
            "Function tools with reasoning_effort are not supported for gpt-5.6 in "
            "/v1/chat/completions. To use function tools, use /v1/responses or set "
            "reasoning_effort to 'none'."
        ),
        EFFORT,
        {"thinking": ADAPTIVE, "tools": [TOOL]},
        "reasoning with tools",
        {"reasoning_effort": "none"},
    ),
    (  # the same for a request that says nothing of reasoning
        (
            "Function tools with reasoning_effort are not supported for gpt-5.6 in "
            "/v1/chat/completions. To use function tools, use /v1/responses or set "
            "reasoning_effort to 'none'."
        ),
        {},
        {"tools": [TOOL]},
        "reasoning with tools",
        {"reasoning_effort": "none"},
    ),
    (  # OpenRouter
        "Reasoning is mandatory for this endpoint and cannot be disabled.",
        {**SWITCH, "reasoning_request": "reasoning"},
        {"thinking": OFF},
        "no reasoning",
        {"reasoning": None},
    ),
    (  # Moonshot, which reasons unasked
        "tool_choice 'required' is incompatible with thinking enabled",
        {**SWITCH, "reasoning_request": "thinking"},
        {"tools": [TOOL], "tool_choice": {"type": "any"}},
        "reasoning with a forced tool",
        {"thinking": {"type": "disabled"}, "tool_choice": "required"},
    ),
    (
        "tool_choice 'specified' is incompatible with thinking enabled",
        {},
        {"tools": [TOOL], "tool_choice": NAMED},
        "reasoning with a forced tool",
        {"thinking": {"type": "disabled"}},
    ),
    (  # llama.cpp
        "Assistant response prefill is incompatible with enable_thinking.",
        {**SWITCH, "reasoning_request": "template"},
        {
            "thinking": ADAPTIVE,
            "messages": [
                {"role": "user", "content": "Q"},
                {"role": "assistant", "content": "The"},
            ],
        },
        "reasoning with a prefill",
        {"chat_template_kwargs": {"enable_thinking": False}},
    ),
    (  # LM Studio
        "Invalid tool_choice type: 'object'. Supported string values: none, auto, required",
        {},
        {"tools": [TOOL], "tool_choice": NAMED},
        "named tool",
        {"tool_choice": "required"},
    ),
    (
        "parallel_tool_calls is not supported by this model",
        {"parallel_tool_calls": "always"},
        {"tools": [TOOL]},
        "parallel_tool_calls",
        {"parallel_tool_calls": None},
    ),
    (  # Databricks
        'unknown field "stream_options"',
        {"stream_options": True},
        {"stream": True},
        "stream_options",
        {"stream_options": None},
    ),
    (
        (
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead."
        ),
        {},
        {},
        "max_tokens",
        {"max_tokens": None, "max_completion_tokens": 100},
    ),
    (
        (
            "Unsupported value: 'temperature' does not support 0.2 with this model. "
            "Only the default (1) value is supported."
        ),
        {},
        {"temperature": 0.2},
        "temperature",
        {"temperature": None},
    ),
    (
        "`top_p` is deprecated for this model",
        {},
        {"top_p": 0.5},
        "top_p",
        {"top_p": None},
    ),
    (  # transformers serve
        "Unexpected fields in the request: {'top_k'}",
        {"fields": {"top_k": "map"}},
        {"top_k": 4},
        "top_k",
        {"top_k": None},
    ),
]


def translated(settings: Profile, **request: Any) -> dict[str, Any]:
    return chat_request(resolved(**request), settings).options


@for_each(
    ("words", "facts", "request_", "option", "sent"),
    REFUSED,
    ids=[f"{row[3]}: {row[0][:30]}" for row in REFUSED],
)
def test_a_refused_option_is_found_and_left_out(
    words: str, facts: Any, request_: Any, option: str, sent: dict[str, Any]
) -> None:
    value = profile(**facts)
    matches = next(find_refused_options(words, translated(value, **request_), value))

    assert matches.option == option
    again = translated(merge_overrides(value, matches.overrides), **request_)
    assert {name: again.get(name) for name in sent} == sent


@pytest.mark.parametrize("keyword", ["format", "pattern", "additionalProperties"])
def test_a_refused_keyword_of_a_schema_is_left_out(keyword: str) -> None:
    value = profile()
    words = f"Invalid JSON payload received. Unknown name \"{keyword}\" at 'tools[0].parameters'"
    matches = next(find_refused_options(words, translated(value, tools=[TOOL]), value))

    again = translated(merge_overrides(value, matches.overrides), tools=[TOOL])
    assert f'"{keyword}"' not in str(again).replace("'", '"')


@for_each(
    ("words", "request_"),
    [
        ("temperature is not supported", {}),  # was not sent
        ("Extra inputs are not permitted: pattern", {"tools": [{**TOOL, "strict": True}]}),
        (
            "response_format is not supported",
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        ),
        (
            "tool_choice required is not supported",
            {"tools": [TOOL], "tool_choice": {"type": "any"}},
        ),
        ("The temperature in the story is too low", {"temperature": 0.2}),
        ("x" * 2000 + "temperature is not supported", {"temperature": 0.2}),
        ("", {"temperature": 0.2}),
    ],
)
def test_other_errors_are_about_no_option(words: str, request_: Any) -> None:
    value = profile(fields={"tools.strict": "map"})

    assert list(find_refused_options(words, translated(value, **request_), value)) == []


@pytest.mark.parametrize(
    "words",
    [
        (
            "Tool call validation failed: tool call validation failed: parameters for tool weather "
            "did not match schema: errors: [`/temperature`: expected number, but got string]"
        ),
        (
            "tool call validation failed: parameters for tool weather did not match schema: "
            "errors: [additionalProperties 'day' not allowed]"
        ),
        "Failed to call a function: unexpected reasoning_effort. See 'failed_generation'.",
        "Error while downloading https://a.example/invalid?reasoning_effort. Status code: 404.",
    ],
)
def test_a_wrong_call_and_a_url_are_about_no_option(words: str) -> None:
    value = profile(**EFFORT)
    options = translated(value, tools=[TOOL], temperature=0.2, thinking=ADAPTIVE)

    assert (
        list(find_refused_options(words, options, value)) == []
    )  # HunorLaczko/ha-groq-cloud-api#20


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (
            "`temperature` and `top_p` cannot both be specified for this model.",
            "top_p",
        ),
        ("The thinking budget 64000 is invalid. Please choose a value from 128", "reasoning"),
        (
            "Invalid request: `max_tokens` must be greater than `thinking.budget_tokens`",
            "reasoning",
        ),
    ],
)
def test_a_mistake_of_one_request_is_not_remembered_for_others(words: str, option: str) -> None:
    value = profile(**EFFORT)
    options = translated(value, temperature=0.2, top_p=0.9, thinking=ADAPTIVE)
    matches = next(find_refused_options(words, options, value))

    assert (matches.option, matches.lasting) == (option, False)


def test_an_option_is_found_before_a_keyword_that_is_a_word() -> None:
    value = profile()
    schema = {"type": "object", "properties": {"x": {"type": "string", "default": "a"}}}
    options = translated(value, tools=[{**TOOL, "input_schema": schema}], temperature=0.2)
    words = (
        "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default "
        "(1) value is supported."
    )
    matches = [refusal.option for refusal in find_refused_options(words, options, value)]

    assert matches == ["temperature", "schema keyword default"]


def test_a_refusal_is_forgotten_after_its_time() -> None:
    names = RefusedOptions(seconds=10)
    names.learn("m", RefusedOption("a", {"x": 1}), now=100)
    names.learn("m", RefusedOption("b", {"x": 2}), now=105)

    assert names.overrides_for("m", 109) == ({"x": 1}, {"x": 2})
    assert names.overrides_for("m", 110) == ({"x": 2},)
    assert names.overrides_for("other", 109) == ()
    assert names.overrides_for("m", 115) == ()
    assert not names.by_model


def test_the_models_that_are_remembered_are_bounded() -> None:
    names = RefusedOptions(seconds=10)
    for n in range(200):
        names.learn(f"m{n}", RefusedOption("a", {}), now=0)

    assert names.overrides_for("m0", 1) == ()
    assert names.overrides_for("m199", 1) == ({},)
