"""Usage adds up, in whatever dialect it comes, and anywhere in a response."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.chat_completions.usage import (
    merge_usage,
    parse_usage,
    reported_usage,
    with_estimates,
)
from stages.messages_api.usage import Usage
from tests.cases import for_each
from tests.stages.translation.support import THINKING, delta, finish, message, text, translate
from tests.support import chat_request

quick = settings(derandomize=True, deadline=None, max_examples=150)


def reasoning(tokens: int) -> dict[str, Any]:
    return {"completion_tokens_details": {"reasoning_tokens": tokens}}


def counts(prompt: int, completion: int, total: int | None = None) -> dict[str, Any]:
    result = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    return {name: number for name, number in result.items() if number is not None}


NEXT_TO_COMPLETION = {
    "xAI": ({**counts(32, 9, 135), **reasoning(94)}, 103, 94),
    "no completion at all": ({**counts(21, 0, 81), **reasoning(60)}, 60, 60),
    "without a total": ({**counts(32, 9), **reasoning(94)}, 103, 94),
    "Gemini, which reports no reasoning": (counts(32, 9, 135), 103, 0),
    "a total that leaves it out": ({**counts(32, 9, 41), **reasoning(94)}, 103, 94),
    "reasoning at the top": ({**counts(32, 9, 135), "reasoning_tokens": 94}, 103, 94),
}
WITHIN_COMPLETION = {
    "OpenAI": ({**counts(32, 103, 135), **reasoning(94)}, 103, 94),
    "a total that is no sum": ({**counts(32, 103, 900), **reasoning(94)}, 103, 94),
    "a total that is too small": (counts(32, 103, 1), 103, 0),
    "a total with what was cached": (
        {**counts(32, 9, 1041), "cache_read_input_tokens": 1000},
        9,
        0,
    ),
    "a total with what was cached, in the details": (
        {**counts(1032, 9, 2041), "prompt_tokens_details": {"cached_tokens": 1000}},
        9,
        0,
    ),
}
DIALECTS = NEXT_TO_COMPLETION | WITHIN_COMPLETION


@for_each(("counts", "output", "thinking"), DIALECTS.values(), ids=DIALECTS)
def test_row_b7_the_output_includes_the_reasoning(
    counts: dict[str, Any], output: int, thinking: int
) -> None:
    result = parse_usage(counts)
    assert (result.output_tokens, result.thinking_tokens) == (output, thinking)


CACHED: dict[str, tuple[dict[str, Any], Usage]] = {
    "Moonshot": ({**counts(19, 7), "cached_tokens": 12}, Usage(7, 7, 12)),
    "DeepSeek": (
        {**counts(19, 7), "prompt_cache_hit_tokens": 12, "prompt_cache_miss_tokens": 7},
        Usage(7, 7, 12),
    ),
    "LiteLLM with Claude": (
        {
            **counts(19, 7, 26),
            "prompt_tokens_details": {"cached_tokens": 12, "cache_creation_tokens": 4},
            "cache_read_input_tokens": 12,
            "cache_creation_input_tokens": 4,
        },
        Usage(3, 7, 12, 4),
    ),
    "DashScope": (
        {**counts(19, 7), "prompt_tokens_details": {"cache_creation_input_tokens": 12}},
        Usage(7, 7, 0, 12),
    ),
    "Claude on Databricks, with all of it cached": (
        {**counts(3, 7, 10), "cache_read_input_tokens": 12},
        Usage(3, 7, 12),
    ),
    "the same, where the details say nothing of it": (
        {**counts(3, 7), "prompt_tokens_details": {"audio": 0}, "cache_read_input_tokens": 12},
        Usage(3, 7, 12),
    ),
    "the names of the Responses API": (
        {"input_tokens": 19, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 12}},
        Usage(7, 7, 12),
    ),
    "a prompt that only the total shows": (
        {"completion_tokens": 7, "total_tokens": 26},
        Usage(19, 7),
    ),
    "an output that only the total shows": (
        {"prompt_tokens": 19, "total_tokens": 26},
        Usage(19, 7),
    ),
}


@for_each(("counts", "expected"), CACHED.values(), ids=CACHED)
def test_row_b7_the_prompt_is_what_was_read_and_cached(
    counts: dict[str, Any], expected: Usage
) -> None:
    assert parse_usage(counts) == expected


NUMBERS: st.SearchStrategy[Any] = (
    st.integers(-5, 2000)
    | st.integers(0, 2000).map(str)
    | st.integers(0, 2000).map(float)
    | st.sampled_from([None, True, "x", 1.5, [], {}, 10**30, 1e300, "9" * 30])
)
NAMES = [
    *("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens"),
    *("cached_tokens", "prompt_cache_hit_tokens", "reasoning_tokens"),
    *("cache_read_input_tokens", "cache_creation_input_tokens"),
]
DETAILS = ["cached_tokens", "cache_write_tokens", "created_cache_tokens", "reasoning_tokens"]


def some(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names), NUMBERS)


REPORTS = st.builds(
    lambda flat, prompt, completion: {
        **flat,
        **({"prompt_tokens_details": prompt} if prompt else {}),
        **({"completion_tokens_details": completion} if completion else {}),
    },
    some(NAMES),
    some(DETAILS),
    some(DETAILS),
)


@given(REPORTS)
@quick
def test_row_b7_no_number_is_negative_and_output_has_thinking(
    counts: dict[str, Any],
) -> None:
    result = parse_usage(counts)
    numbers = (
        result.input_tokens,
        result.cache_read_input_tokens,
        result.cache_creation_input_tokens,
    )
    assert min(*numbers, result.output_tokens, result.thinking_tokens) >= 0
    assert result.output_tokens >= result.thinking_tokens


@given(st.integers(1, 2000), st.integers(0, 2000), st.integers(0, 2000), st.integers(1, 2000))
@quick
def test_row_b7_cached_and_uncached_add_up_to_the_prompt(
    uncached: int, read: int, written: int, output: int
) -> None:
    prompt, total = uncached + read + written, uncached + read + written + output
    details = {"cached_tokens": read, "cache_write_tokens": written, "audio_tokens": 0}
    within = parse_usage({**counts(prompt, output, total), "prompt_tokens_details": details})
    on_top = {"cache_read_input_tokens": read, "cache_creation_input_tokens": written}
    outside = parse_usage({**counts(uncached, output, total), **on_top})
    assert within == outside == Usage(uncached, output, read, written)
    assert within.prompt_tokens == prompt


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 2000))
@quick
def test_row_b7_reasoning_inside_and_outside_completion_agree(
    prompt: int, words: int, thinking: int
) -> None:
    output = words + thinking
    within = {**counts(prompt, output, prompt + output), **reasoning(thinking)}
    outside = {**counts(prompt, words, prompt + output), **reasoning(thinking)}
    assert parse_usage(within) == parse_usage(outside)
    assert parse_usage(within).output_tokens == output


# Where it is

REPORTED = counts(11, 7, 18)
PLACES: dict[str, dict[str, Any]] = {
    "next to the choices": {"choices": [], "usage": REPORTED},
    "x_groq": {**finish(), "x_groq": {"id": "req_1", "usage": REPORTED}},
    "x_groq, without a choice": {"choices": [], "x_groq": {"usage": REPORTED}},
    "x_groq, and null next to the choices": {
        **finish(),
        "usage": None,
        "x_groq": {"usage": REPORTED},
    },
    "a choice": {"choices": [{"index": 0, "delta": {}, "usage": REPORTED}]},
    "the second choice": {"choices": [{"delta": {}}, {"delta": {}, "usage": REPORTED}]},
}


@for_each("chunk", PLACES.values(), ids=PLACES)
def test_row_c20_usage_is_read_wherever_a_dialect_puts_it(chunk: dict[str, Any]) -> None:
    for chunks in ([text("a"), finish(), chunk], [text("a"), chunk, finish()]):
        used = message(chunks)["usage"]
        assert (used["input_tokens"], used["output_tokens"]) == (11, 7)


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, {}, [], "7", {"completion_tokens": 0}, {"prompt_tokens": None}]
)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6), st.lists(ODD, max_size=6), st.booleans()
)
@quick
def test_row_b7_growing_usage_is_that_of_the_last_chunk(
    pieces: list[int], odd: list[Any], split: bool
) -> None:
    """Also where it comes in halves, or with null and nothing in between."""
    counts: dict[str, Any] = {}
    for n in range(len(pieces)):
        more = {"completion_tokens": sum(pieces[: n + 1])}
        if n == 0 or not split:
            more["prompt_tokens"] = 11
        for item in (more, *odd):
            counts = merge_usage(counts, reported_usage({"choices": [], "usage": item}, []))
    assert parse_usage(counts) == Usage(11, sum(pieces))


def test_row_b7_a_number_too_small_for_the_prompt_is_ignored() -> None:
    """Some count each chunk, and some report the beginning only."""
    chunks = [{**text("word " * 100), "usage": counts(11, 1)} for _ in range(3)]
    (end,) = (item for item in translate([*chunks, finish()]) if item.type == "message_delta")
    used = getattr(end, "usage")  # noqa: B009
    assert used.estimated
    assert used.input_tokens == 11
    assert used.output_tokens == 376


@given(st.integers(0, 2000), st.integers(0, 5000))
@quick
def test_row_b7_something_was_put_out_where_something_was_sent(output: int, sent: int) -> None:
    used = with_estimates(Usage(11, output), 20, sent)
    assert used.output_tokens >= max(1, sent // 128)
    assert used == evolve(
        Usage(11, output), output_tokens=used.output_tokens, estimated=used.estimated
    )


def test_signatures_do_not_count_as_output() -> None:
    details = [{"type": "reasoning.encrypted", "data": "x" * 100_000}]
    chunks = [delta(reasoning_details=details), text("a"), finish(usage=REPORTED)]
    used = message(chunks, request=chat_request(thinking=THINKING))["usage"]
    assert used["output_tokens"] == 7
