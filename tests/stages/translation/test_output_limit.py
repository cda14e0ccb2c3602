"""The output limit, and the reason why a truncated response ended."""

from __future__ import annotations

from typing import Any

import pytest

from stages.events import ChatRequest, LoweredBy
from stages.messages_api import stream_events as e
from stages.messages_api.accumulate import MessageBuilder
from stages.messages_api.usage import Usage
from stages.translation.request import chat_request
from stages.translation.response import ResponseTranslator
from stages.translation.stop_reason import output_limit
from tests.cases import for_each
from tests.stages.translation.support import call, completion, finish, text, translate, usage
from tests.support import profile, resolved


@for_each(
    ("asked", "window", "sent"),
    [
        (100, None, 100),
        (100, 200, 100),
        (199, 200, 199),
        (200, 200, 199),
        (64_000, 200, 199),
        (64_000, 1, 1),
        (0, None, 1),
        (0, 200, 1),
    ],
)
def test_pitfall_31_only_impossible_limits_are_not_sent(
    asked: int, window: int | None, sent: int
) -> None:
    assert output_limit(asked, window) == sent


def asking(window: int | None = None, **changes: Any) -> ChatRequest:
    return chat_request(resolved(**changes), profile(context_window=window))


def reason(request: ChatRequest, counts: dict[str, int], lowered: LoweredBy = None) -> str:
    translator = ResponseTranslator(request)
    events = [
        *translator.translate(text("a")),
        *translator.translate(finish("length", usage=counts)),
    ]
    events += translator.end(True, lowered)
    (end,) = (event for event in events if isinstance(event, e.MessageDelta))
    return end.stop_reason


FULL = "model_context_window_exceeded"
CASES: dict[str, tuple[ChatRequest, dict[str, int], str]] = {
    "the client's limit": (
        asking(max_tokens=10),
        {"prompt_tokens": 90, "completion_tokens": 10},
        "max_tokens",
    ),
    "the client's limit, at the end of the window": (
        asking(100, max_tokens=10),
        {"prompt_tokens": 90, "completion_tokens": 10},
        "max_tokens",
    ),
    "the window": (
        asking(100, max_tokens=20),
        {"prompt_tokens": 90, "completion_tokens": 10},
        FULL,
    ),
    "less than the window": (
        asking(100, max_tokens=20),
        {"prompt_tokens": 80, "completion_tokens": 10},
        "max_tokens",
    ),
    "a limit of the backend's own": (
        asking(max_tokens=2000),
        {"prompt_tokens": 90, "completion_tokens": 1000},
        "max_tokens",
    ),
    "some tokens before the end of the window": (
        asking(1000, max_tokens=200),
        {"prompt_tokens": 900, "completion_tokens": 97},
        FULL,
    ),
    "the client's limit, by usage, which counts one more": (
        asking(max_tokens=10),
        {"prompt_tokens": 90, "completion_tokens": 11},
        "max_tokens",
    ),
    "no usage": (asking(100, max_tokens=20), {}, "max_tokens"),
}


@for_each(("request_", "counts", "expected"), CASES.values(), ids=CASES)
def test_a_truncated_response_says_whether_the_window_was_full(
    request_: ChatRequest, counts: dict[str, int], expected: str
) -> None:
    assert reason(request_, counts) == expected


@pytest.mark.parametrize("counts", [{}, {"prompt_tokens": 90, "completion_tokens": 10}], ids=str)
def test_a_response_to_a_lowered_limit_ended_at_that(counts: dict[str, int]) -> None:
    assert reason(asking(max_tokens=100), counts, lowered="window") == FULL
    assert reason(asking(max_tokens=100), counts, lowered="model") == "max_tokens"


@pytest.mark.parametrize(
    ("prompt", "output", "asked"),
    [
        (1874, 174, 512),  # as seen on vLLM, llama.cpp, LiteLLM, MLflow, with a window of 2048
        (2047, 1, 512),
        (131_000, 72, 32_000),
    ],
)
def test_row_l4_a_response_below_its_limit_ended_at_the_window(
    prompt: int, output: int, asked: int
) -> None:
    reported = {"prompt_tokens": prompt, "completion_tokens": output}
    assert reason(asking(max_tokens=asked), reported) == FULL
    assert reason(asking(prompt + output, max_tokens=asked), reported) == FULL


@for_each("output", [255, 256, 1000, 4096, 8192, 16_000, 16_384, 32_767])
def test_row_l4_a_round_number_of_tokens_is_the_backend_s_limit(output: int) -> None:
    reported = {"prompt_tokens": 90, "completion_tokens": output}
    assert reason(asking(max_tokens=64_000), reported) == "max_tokens"
    assert reason(asking(output + 90, max_tokens=64_000), reported) == FULL


@pytest.mark.parametrize(
    "counts",
    [{"prompt_tokens": 90}, {"completion_tokens": 10}, {"prompt_tokens": 0}],
    ids=["of the prompt", "of the response", "none"],
)
def test_row_l4_partial_usage_does_not_show_where_it_ended(counts: dict[str, int]) -> None:
    assert reason(asking(max_tokens=100), counts) == "max_tokens"


def test_a_response_that_was_not_cut_did_not_end_at_the_window() -> None:
    result = translate([text("a"), finish("stop"), usage()], request=asking(12, max_tokens=2000))
    assert [item.stop_reason for item in result if isinstance(item, e.MessageDelta)] == ["end_turn"]


# A limit of 0 warms the prompt cache


def warmed(chunk: dict[str, Any]) -> tuple[dict[str, Any], Usage]:
    translator = ResponseTranslator(asking(max_tokens=0))
    builder = MessageBuilder()
    events = [*translator.translate(chunk), *translator.end(True)]
    for event in events:
        builder.add(event)
    (end,) = (event for event in events if isinstance(event, e.MessageDelta))
    return builder.message, end.usage


@pytest.mark.parametrize("ended", ["length", "stop", "tool_calls"])
def test_cache_warming_has_an_empty_response_and_prompt_usage(ended: str) -> None:
    chunk = completion(ended, content="The", reasoning="Hm", tool_calls=[call("f", "{}", id="a")])
    result, used = warmed(chunk)
    assert result["content"] == []
    assert (result["stop_reason"], result["stop_sequence"]) == ("max_tokens", None)
    assert used == Usage(11, 0)


def test_warming_a_cache_without_usage_is_estimated() -> None:
    result, used = warmed({**completion("length", content="The"), "usage": None})
    assert result["usage"]["input_tokens"] > 0
    assert result["usage"]["output_tokens"] == 0
    assert used.estimated
