"""Usage, reported or estimated."""

from __future__ import annotations

from typing import Any

from stages.messages_api import stream_events as e
from stages.messages_api.usage import Usage
from tests.cases import for_each
from tests.stages.translation.support import (
    THINKING,
    delta,
    finish,
    message,
    text,
    translate,
    usage,
)
from tests.support import chat_request

# Usage


def test_pitfall_11_the_start_has_an_estimate_and_the_end_usage() -> None:
    request = chat_request(system="word " * 400)
    [start, *_, end, _] = translate([text("a"), finish(), usage()], request=request)
    assert isinstance(start, e.MessageStart)
    assert isinstance(end, e.MessageDelta)
    assert 400 < start.usage.input_tokens < 1000
    assert start.usage.output_tokens == 1
    assert end.usage == Usage(11, 7)


USAGE = {"prompt_tokens": 11, "completion_tokens": 7}


@for_each(
    "chunks",
    [
        [usage(), text("a"), finish()],
        [text("a"), finish(usage=USAGE)],
        [text("a"), finish(), usage()],
        [
            {**text("a"), "usage": {"prompt_tokens": 11, "completion_tokens": 1}},
            finish(usage=USAGE),
        ],
        [text("a"), finish(usage=USAGE), {"choices": [], "usage": None}],
        [text("a"), finish(usage=USAGE), {"choices": [], "usage": {}}],
    ],
    ids=["before", "with", "after", "with each chunk", "before a null", "before an empty one"],
)
def test_usage_is_taken_anywhere(chunks: list[dict[str, Any]]) -> None:
    used = message(chunks)["usage"]
    assert (used["input_tokens"], used["output_tokens"]) == (11, 7)


@for_each("counts", [None, {}, [], "7", {"prompt_tokens": "x"}], ids=str)
def test_usage_that_never_comes_is_estimated(counts: Any) -> None:
    chunks = [text("word " * 100), finish(usage=counts)]
    used = message(chunks)["usage"]
    assert used["input_tokens"] > 0
    assert 100 < used["output_tokens"] < 200
    assert marked(chunks)


def marked(chunks: list[dict[str, Any]]) -> bool:
    """Whether the usage at the end is marked as an estimate."""
    (end,) = (event for event in translate(chunks) if isinstance(event, e.MessageDelta))
    return end.usage.estimated


def test_usage_is_marked_as_estimated_unless_all_is_reported() -> None:
    assert not marked([text("a"), finish(), usage()])
    assert marked([text("a"), finish()])
    assert marked([text("a"), finish(), usage(prompt_tokens=11)])
    assert marked([text("a"), finish(), usage(completion_tokens=7)])


def test_the_half_of_the_usage_that_is_missing_is_estimated() -> None:
    request = chat_request(system="word " * 400)
    chunks = [text("word " * 100), finish()]
    read = message([*chunks, usage(prompt_tokens=999)], request=request)["usage"]
    assert read["input_tokens"] == 999
    assert 100 < read["output_tokens"] < 200
    response = message([*chunks, usage(completion_tokens=7)], request=request)["usage"]
    assert 400 < response["input_tokens"] < 1000
    assert response["output_tokens"] == 7


def test_thinking_that_is_sent_counts_in_the_estimate() -> None:
    request = chat_request(thinking=THINKING)
    used = message([delta(reasoning="word " * 100), finish()], request=request)["usage"]
    assert used["output_tokens"] > 100
