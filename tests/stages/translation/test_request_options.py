"""Parameters, tools and tool choice as Chat Completions options."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from stages.profiles.describe import profile_named
from stages.profiles.profile import Profile, profiles
from stages.translation.field_policies import FieldPolicies
from stages.translation.request import chat_request
from tests.cases import for_each
from tests.support import profile, request, resolved

TOOLS = [
    {"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {"a": {}}}},
    {"name": "g", "input_schema": {"type": "object"}},
]
FUNCTIONS = [
    {
        "type": "function",
        "function": {
            "name": "f",
            "description": "d",
            "parameters": {"type": "object", "properties": {"a": {}}},
        },
    },
    {
        "type": "function",
        "function": {"name": "g", "parameters": {"type": "object", "properties": {}}},
    },
]


def chosen(
    settings: Profile | None = None, **changes: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The options for a request, and what was noted."""
    value = settings or profile()
    result = chat_request(resolved(**changes), evolve(value, body={}))
    result.options.pop(value.max_tokens_field)
    return result.options, tuple(map(str, result.degradations))


def test_a_small_request_has_none() -> None:
    assert chosen() == ({}, ())


ALL = {
    "stream": True,
    "temperature": 0.5,
    "top_p": 0.25,
    "top_k": 7,
    "stop_sequences": ["a", "b", "c", "d", "e"],
    "tools": TOOLS,
}
MAPPED = {"stop_sequences": "map"}
FOUR, FIVE = ["a", "b", "c", "d"], ["a", "b", "c", "d", "e"]
SAMPLING = {"temperature": 0.5, "top_p": 0.25}
STREAM_USAGE = {"stream_options": {"include_usage": True}}
NO_TOP_K = "top_k:dropped"

BY_PROFILE: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "generic": ({**SAMPLING, **STREAM_USAGE}, (NO_TOP_K,)),
    "embedded": (
        {**SAMPLING, **STREAM_USAGE, "top_k": 7, "parallel_tool_calls": True},
        (),
    ),
    "llamacpp": (
        {**SAMPLING, **STREAM_USAGE, "top_k": 7, "parallel_tool_calls": True},
        (),
    ),
    "ollama": ({**SAMPLING, **STREAM_USAGE}, (NO_TOP_K,)),
    "lmstudio": ({**SAMPLING, **STREAM_USAGE, "top_k": 7}, ()),
    "sglang": ({**SAMPLING, **STREAM_USAGE, "top_k": 7, "stop": FIVE}, ()),
    "vllm": ({**SAMPLING, **STREAM_USAGE, "top_k": 7, "stop": FIVE[:4]}, ()),
    "openai": (
        {**SAMPLING, **STREAM_USAGE},
        (NO_TOP_K,),
    ),
    "openrouter": ({**SAMPLING, **STREAM_USAGE, "top_k": 7}, ()),
    "databricks": ({**SAMPLING}, (NO_TOP_K,)),
    "mistral": ({**SAMPLING}, (NO_TOP_K,)),
    "nvidia": ({**SAMPLING}, (NO_TOP_K,)),
    "llama-swap": ({**SAMPLING, **STREAM_USAGE, "top_k": 7, "parallel_tool_calls": True}, ()),
    **dict.fromkeys(
        "azure cerebras deepseek gemini github groq minimax moonshot xai zai".split(),
        ({**SAMPLING, **STREAM_USAGE}, (NO_TOP_K,)),
    ),
    **dict.fromkeys(
        ["dashscope", "fireworks", "koboldcpp", "mlx", "together"],
        ({**SAMPLING, **STREAM_USAGE, "top_k": 7}, ()),
    ),
}


def test_the_table_has_every_profile_that_ships() -> None:
    assert set(BY_PROFILE) == set(profiles())


@for_each("name", BY_PROFILE)
def test_each_profile_gets_its_options_and_others_are_reported(name: str) -> None:
    expected, notes = BY_PROFILE[name]
    assert chosen(profile_named(name), **ALL) == ({**expected, "tools": FUNCTIONS}, notes)


def test_pitfall_14_usage_is_requested_only_of_a_stream() -> None:
    assert chosen(profile(stream_options=True))[0] == {}
    assert chosen(profile(stream_options=True), stream=True)[0] == STREAM_USAGE
    assert chosen(profile(stream_options=False), stream=True)[0] == {}


@pytest.mark.parametrize("stream", [False, True])
def test_usage_is_requested_of_a_stream_the_client_did_not_want(stream: bool) -> None:
    result, _ = chosen(profile(stream_options=True), stream=stream, stop_sequences=["END"])
    assert result == STREAM_USAGE


def test_pitfall_32_sampling_is_dropped_where_it_is_refused() -> None:
    options = profile(fields={"temperature": "warn", "top_p": "warn", "top_k": "map"})
    assert chosen(options, temperature=1, top_p=1, top_k=1) == (
        {"top_k": 1},
        ("temperature:dropped", "top_p:dropped"),
    )


def test_zero_is_a_value() -> None:
    result, notes = chosen(profile(fields={"top_k": "map"}), temperature=0, top_p=0.0, top_k=0)
    assert result == {"temperature": 0, "top_p": 0.0, "top_k": 0}
    assert notes == ()


@for_each(
    ("options", "stop"),
    [
        ({"max_stop_sequences": None, "fields": MAPPED}, FIVE),
        ({"max_stop_sequences": 5, "fields": MAPPED}, FIVE),
        ({"max_stop_sequences": 4, "fields": MAPPED}, FOUR),
        ({"max_stop_sequences": 0, "fields": MAPPED}, None),
        ({"max_stop_sequences": None}, None),
        ({"fields": {"stop_sequences": "drop"}}, None),
    ],
    ids=["no limit", "at the limit", "over it", "none at all", "emulated", "dropped"],
)
def test_the_backend_gets_as_many_stop_sequences_as_it_takes(
    options: dict[str, Any], stop: list[str] | None
) -> None:
    result, reported = chosen(profile(**options), stop_sequences=FIVE)
    assert result.get("stop") == stop
    assert reported == ()


def test_pitfall_17_thinking_is_never_forwarded() -> None:
    for thinking in ({"type": "adaptive"}, {"type": "enabled", "budget_tokens": 2048}):
        assert chosen(thinking=thinking) == ({}, ("thinking:dropped",))
    assert chosen(thinking={"type": "disabled"}) == ({}, ())


def test_pitfall_16_unknown_fields_are_reported_not_forwarded() -> None:
    options: dict[str, Any] = {"context_management": {"a": 1}, "speed": "fast", "x" * 50: 1}
    reported = ("context_management:dropped", "x" * 40 + ":dropped")
    assert chosen(**options) == ({}, reported)
    assert chosen(profile(fields={"speed": "warn"}), **options) == (
        {},
        ("context_management:dropped", "speed:dropped", "x" * 40 + ":dropped"),
    )


def test_a_task_budget_is_reported() -> None:
    budget = {"type": "tokens", "total": 20_000}
    reported = ("output_config.task_budget:dropped",)
    assert chosen(output_config={"task_budget": budget}) == ({}, reported)


def test_pitfall_15_only_what_is_known_of_a_tool_is_forwarded() -> None:
    tool = {
        **TOOLS[0],
        "type": "custom",
        "cache_control": {"type": "ephemeral"},
        "defer_loading": True,
        "eager_input_streaming": True,
    }
    assert chosen(tools=[tool])[0]["tools"] == FUNCTIONS[:1]


def test_an_empty_description_is_left_out() -> None:
    assert chosen(tools=[{**TOOLS[0], "description": ""}])[0]["tools"][0]["function"] == {
        "name": "f",
        "parameters": {"type": "object", "properties": {"a": {}}},
    }


def test_properties_that_are_null_are_none() -> None:
    tool = {"name": "g", "input_schema": {"type": "object", "properties": None}}
    assert chosen(tools=[tool])[0]["tools"] == FUNCTIONS[1:]


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("needs_all", [True, False])
def test_a_tool_is_strict_where_its_schema_may_be(needs_all: bool, closed: bool) -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": not closed}
    options = profile(strict_needs_closed_schema=needs_all, fields={"tools.strict": "map"})
    result, notes = chosen(options, tools=[{"name": "f", "input_schema": schema, "strict": True}])
    strict = closed or not needs_all
    assert result["tools"][0]["function"]["strict"] is strict
    assert notes == (() if strict else ("tools.strict:dropped",))


@for_each(
    ("name", "strict", "sent", "notes"),
    [
        ("vllm", True, True, ()),
        ("vllm", False, False, ()),
        ("generic", True, None, ("tools.strict:dropped",)),
        ("generic", False, None, ()),
        ("ollama", True, None, ("tools.strict:dropped",)),
    ],
)
def test_row_c14_strict_is_mapped_or_reported(
    name: str, strict: bool, sent: bool | None, notes: tuple[str, ...]
) -> None:
    tool = {"name": "f", "input_schema": {"type": "object"}, "strict": strict}
    result, reported = chosen(profile_named(name), tools=[tool])
    assert result["tools"][0]["function"].get("strict") is sent
    assert reported == notes


NAMED = {"type": "function", "function": {"name": "f"}}

CHOICES: dict[str, tuple[Any, bool, Any, list[Any]]] = {
    "not given": (None, True, None, FUNCTIONS),
    "auto": ({"type": "auto"}, True, "auto", FUNCTIONS),
    "any": ({"type": "any"}, True, "required", FUNCTIONS),
    "none": ({"type": "none"}, True, "none", FUNCTIONS),
    "a tool": ({"type": "tool", "name": "f"}, True, NAMED, FUNCTIONS),
    "a tool, not by name": ({"type": "tool", "name": "f"}, False, "required", FUNCTIONS[:1]),
    "auto, not by name": ({"type": "auto"}, False, "auto", FUNCTIONS),
}


@for_each(("choice", "named", "expected", "tools"), CHOICES.values(), ids=CHOICES)
def test_pitfall_34_each_tool_choice_is_mapped(
    choice: Any, named: bool, expected: Any, tools: list[Any]
) -> None:
    result, notes = chosen(profile(named_tool_choice=named), tools=TOOLS, tool_choice=choice)
    assert result.get("tool_choice") == expected
    assert result["tools"] == tools
    assert notes == ()


@for_each(
    ("when", "disabled", "expected", "notes"),
    [
        ("always", False, True, ()),
        ("always", True, False, ()),
        ("when-false", False, None, ()),
        ("when-false", True, False, ()),
        ("never", False, None, ()),
        ("never", True, None, ()),
    ],
)
def test_parallel_calls_are_sent_as_the_profile_says(
    when: str, disabled: bool, expected: bool | None, notes: tuple[str, ...]
) -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": disabled}
    result, reported = chosen(profile(parallel_tool_calls=when), tools=TOOLS, tool_choice=choice)
    assert result.get("parallel_tool_calls") == expected
    assert reported == notes


@for_each("name", profiles())
def test_every_profile_sends_or_emulates_one_call_at_a_time(name: str) -> None:
    options = profile_named(name)
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    result, reported = chosen(options, tools=TOOLS, tool_choice=choice)
    if options.parallel_tool_calls == "never":
        assert options.fields["disable_parallel_tool_use"] == "emulate"
        assert "parallel_tool_calls" not in result
    else:
        assert result["parallel_tool_calls"] is False
    assert reported == ()


@pytest.mark.parametrize("choice", [None, {"type": "any"}], ids=["no choice", "any"])
def test_an_empty_list_of_tools_is_never_sent(choice: Any) -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    options = profile(fields={"server_tools.alone": "warn"}, parallel_tool_calls="always")
    forced = ("tool_choice:dropped",) if choice else ()
    assert chosen(options, tools=[search], tool_choice=choice) == (
        {},
        ("tools.0 (web_search_20250305):dropped", *forced),
    )


def test_nothing_of_tools_is_sent_without_tools() -> None:
    for options in map(profile_named, profiles()):
        result, _ = chosen(options, tools=[])
        assert not {"tools", "tool_choice", "parallel_tool_calls"}.intersection(result)


@for_each(
    ("choice", "required"),
    [(None, False), ("auto", False), ("none", False), ("any", True), ("tool", True)],
)
def test_a_tool_is_required_by_any_and_by_name(choice: str | None, required: bool) -> None:
    result = {"type": choice, "name": "f"} if choice else None
    assert request(tools=TOOLS, tool_choice=result).requires_tool is required


def test_a_note_is_taken_once_and_in_order() -> None:
    fields = FieldPolicies({})
    for name in ("b", "a", "b"):
        fields.report(name, "cut")
    assert tuple(map(str, fields.degradations())) == ("b:cut", "a:cut")
