"""A whole request, translated."""

from __future__ import annotations

from typing import Any

import pytest

from stages.chat_completions.token_calibration import TokenEstimate
from stages.chat_completions.usage import estimate_output_tokens, parse_usage
from stages.events import ChatRequest
from stages.messages_api.usage import Usage
from stages.translation.request import chat_request
from tests.cases import for_each
from tests.secrets import PROMPT
from tests.support import degradations, profile, resolved

TOOL = {"name": "f", "input_schema": {"type": "object"}}
PREFILL = {"role": "assistant", "content": "<tool_call>\n"}
HELLO = {"role": "user", "content": PROMPT}


def translated(options: dict[str, Any] | None = None, **changes: Any) -> ChatRequest:
    return chat_request(resolved(**changes), profile(**(options or {})))


def test_a_request_keeps_where_it_came_from() -> None:
    event = resolved(stream=True)
    result = chat_request(event, profile())
    assert result.resolved is event
    assert result.stream
    usage = {"stream_options": {"include_usage": True}}
    assert (result.messages, result.options, degradations(result)) == (
        [HELLO],
        {**usage, "max_tokens": 100},
        (),
    )


def test_a_request_to_count_tokens_has_no_limit() -> None:
    assert translated(max_tokens=None).options == {}


def test_pitfall_30_the_limit_has_one_name() -> None:
    options = {"max_tokens_field": "max_completion_tokens"}
    assert translated(options).options == {"max_completion_tokens": 100}


def test_notes_of_turns_come_before_those_of_parameters() -> None:
    blocks = [{"type": "container_upload", "file_id": "f"}, {"type": "text", "text": "a"}]
    result = translated(messages=[{"role": "user", "content": blocks}], top_k=1, container="c")
    assert degradations(result) == (
        "container_upload:dropped",
        "top_k:dropped",
        "container:dropped",
    )


@pytest.mark.parametrize(
    ("choice", "messages"),
    [
        ({"type": "any"}, [HELLO, PREFILL]),
        ({"type": "tool", "name": "f"}, [HELLO, PREFILL]),
        ({"type": "auto"}, [HELLO]),
        (None, [HELLO]),
    ],
    ids=["any", "tool", "auto", "not given"],
)
def test_a_forced_call_is_begun_where_the_profile_says(
    choice: Any, messages: list[dict[str, Any]]
) -> None:
    options = {"forced_tool_prefill": "<tool_call>\n"}
    assert translated(options, tools=[TOOL], tool_choice=choice).messages == messages
    assert translated({}, tools=[TOOL], tool_choice=choice).messages == [HELLO]


def test_no_call_is_begun_where_no_tool_is_left() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    options = {"forced_tool_prefill": "<tool_call>\n", "fields": {"server_tools.alone": "drop"}}
    assert translated(options, tools=[search], tool_choice={"type": "any"}).messages == [HELLO]


def test_the_options_for_a_begun_response_are_sent_with_one_only() -> None:
    options = {"prefill_options": {"continue_final_message": True}}
    turns = [HELLO, {"role": "assistant", "content": "I will"}]
    assert translated(options).options == {"max_tokens": 100}
    assert translated(options, messages=turns).options == {
        "max_tokens": 100,
        "continue_final_message": True,
    }


def test_long_names_are_reported_to_the_way_back() -> None:
    name = "n" * 70
    result = translated({"tool_name_limit": 40}, tools=[TOOL, {**TOOL, "name": name}])
    [_, second] = result.options["tools"]
    assert result.tool_use_members == {second["function"]["name"]: {"name": name}}
    assert len(second["function"]["name"]) == 40


def test_a_response_the_client_has_begun_is_not_begun_again() -> None:
    turns = [HELLO, {"role": "assistant", "content": "I will"}]
    options = {"forced_tool_prefill": "<tool_call>\n"}
    result = translated(options, messages=turns, tools=[TOOL], tool_choice={"type": "any"})
    assert result.messages == turns


USAGES: dict[str, tuple[dict[str, Any], Usage]] = {
    "nothing": ({}, Usage()),
    "the usual": ({"prompt_tokens": 11, "completion_tokens": 7}, Usage(11, 7)),
    "read from a cache": (
        {"prompt_tokens": 11, "prompt_tokens_details": {"cached_tokens": 8}},
        Usage(3, 0, 8),
    ),
    "written to a cache": (
        {
            "prompt_tokens": 11,
            "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 8},
        },
        Usage(1, 0, 2, 8),
    ),
    "written to a cache, by vLLM": (
        {"prompt_tokens": 11, "prompt_tokens_details": {"created_cache_tokens": 8}},
        Usage(3, 0, 0, 8),
    ),
    "read from a cache, by DeepSeek": (
        {"prompt_tokens": 11, "prompt_cache_hit_tokens": 8},
        Usage(3, 0, 8),
    ),
    "read from a cache, and next to the prompt, by Claude on Databricks": (
        {"prompt_tokens": 11, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 2},
        Usage(11, 0, 8, 2),
    ),
    "reported in both ways": (
        {
            "prompt_tokens": 11,
            "prompt_tokens_details": {"cached_tokens": 8},
            "cache_read_input_tokens": 8,
        },
        Usage(3, 0, 8),
    ),
    "more from the cache than the prompt has, so next to it": (
        {"prompt_tokens": 11, "prompt_tokens_details": {"cached_tokens": 20}},
        Usage(11, 0, 20),
    ),
    "whole numbers in other types": (
        {"prompt_tokens": "11", "completion_tokens": 7.0},
        Usage(11, 7),
    ),
    "other types": (
        {
            "prompt_tokens": "1e3",
            "completion_tokens": 7.5,
            "prompt_tokens_details": [1],
            "prompt_cache_hit_tokens": True,
        },
        Usage(),
    ),
    "of reasoning": (
        {"completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 5}},
        Usage(0, 7, thinking_tokens=5),
    ),
    "negative": ({"prompt_tokens": -1, "completion_tokens": -7}, Usage()),
    "null": (
        {"prompt_tokens": None, "completion_tokens": 7, "prompt_tokens_details": None},
        Usage(0, 7),
    ),
}


@for_each(("counts", "expected"), USAGES.values(), ids=USAGES)
def test_usage_is_counted_as_the_messages_api_does(counts: dict[str, Any], expected: Usage) -> None:
    assert parse_usage(counts) == expected


def test_the_prompt_is_all_that_was_read() -> None:
    assert Usage(1, 7, 2, 8).prompt_tokens == 11


def test_pitfall_12_the_estimate_counts_system_prompt_and_tools() -> None:
    small = translated().raw_estimate
    described = {**TOOL, "description": "word " * 200}
    assert 0 < small < 30
    assert 250 < translated(system="word " * 200).raw_estimate - small < 300
    assert 250 < translated(tools=[described]).raw_estimate - small < 300


def test_an_image_counts_the_same_whatever_its_bytes() -> None:
    def turn(data: str) -> list[dict[str, Any]]:
        source = {"type": "base64", "media_type": "image/png", "data": data}
        return [{"role": "user", "content": [{"type": "image", "source": source}]}]

    small, large = (
        translated(messages=turn(data)).raw_estimate for data in ("AAAA", "A" * 1_400_000)
    )
    assert small == large
    assert 1_000 < large < 2_000


def test_an_image_in_a_tool_result_counts_the_same_too() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "A" * 1_400_000}
    use = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    result = {
        "type": "tool_result",
        "tool_use_id": "a",
        "content": [{"type": "image", "source": source}],
    }
    turns = [HELLO, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    assert 1_000 < translated(messages=turns, tools=[TOOL]).raw_estimate < 2_000


def test_a_file_counts_as_an_image() -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": "A" * 1_400_000}
    turns = [{"role": "user", "content": [{"type": "document", "source": source}]}]
    result = translated({"fields": {"document.pdf": "map"}}, messages=turns)
    assert 1_000 < result.raw_estimate < 2_000


@pytest.mark.parametrize(
    "line", [TokenEstimate(), TokenEstimate(20.0, 0.5), TokenEstimate(0.0, 2.0)], ids=str
)
def test_pitfall_12_the_estimate_is_corrected_by_calibration(line: TokenEstimate) -> None:
    result = chat_request(resolved(system="word " * 400), profile(), calibration=line)
    assert result.estimate == round(line.constant + line.factor * result.raw_estimate)


def test_a_limit_above_the_window_is_lowered_and_not_degraded() -> None:
    options = {"context_window": 1000, "max_tokens_field": "max_completion_tokens"}
    result = translated(options, max_tokens=32_000)
    assert result.options == {"max_completion_tokens": 999}
    assert degradations(result) == ()


def test_counting_has_no_limit() -> None:
    assert translated({"context_window": 10}, max_tokens=None).options == {}


def test_a_cache_is_warmed_with_the_least_limit_there_is() -> None:
    assert translated({"context_window": 1000}, max_tokens=0).options == {"max_tokens": 1}


@for_each("constant", [0.0, 500.0, 1e6])
@for_each("factor", [0.25, 1.0, 4.0])
@for_each("words", [1, 200, 2000])
def test_row_l7_no_estimate_changes_what_the_backend_gets(
    constant: float, factor: float, words: int
) -> None:
    """Whatever was learned, right or wrong."""
    event = resolved(system="word " * words, max_tokens=600)
    value = profile(context_window=2048)
    plain = chat_request(event, value)
    result = chat_request(event, value, calibration=TokenEstimate(constant, factor))
    assert (result.options, result.messages) == (plain.options, plain.messages)
    assert result.options["max_tokens"] == 600


def test_an_estimate_is_never_zero() -> None:
    assert estimate_output_tokens(0) == 1
    assert estimate_output_tokens(400) == 101
