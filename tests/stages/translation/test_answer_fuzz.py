"""Whatever a backend sends, the client gets a right stream or an error, and nothing is lost."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stages.messages_api.accumulate import MessageBuilder
from stages.wire import json_codec as wire_json
from tests.grammar import check_grammar, parse_sse
from tests.sdk_types import check_sent
from tests.stages.translation.fuzz_support import (
    ANYTHING,
    CHUNKS,
    FAILING,
    REQUESTS,
    STOPPING,
    cut,
    proxied,
    quick,
    run,
    sse,
    without_chance,
)


@given(st.lists(FAILING | ANYTHING, max_size=8), st.booleans(), st.booleans())
@quick
def test_any_chunks_lead_to_a_right_stream_or_an_error(
    chunks: list[Any], done: bool, thinking: bool
) -> None:
    for requests in (REQUESTS, STOPPING):
        events, whole = run(chunks, done, requests[thinking])
        check_grammar((event.payload() for event in events), whole=whole)


@given(st.lists(CHUNKS, max_size=8), st.booleans())
@quick
def test_any_chunks_lead_to_a_message_of_the_right_shape(chunks: list[Any], thinking: bool) -> None:
    events, whole = run(chunks, True, REQUESTS[thinking])
    builder = MessageBuilder()
    for event in events:
        builder.add(event)
    if whole:
        message = wire_json.decode(wire_json.encode(builder.message))
        check_sent(message)
        calls = [block for block in message["content"] if block["type"] == "tool_use"]
        assert all(isinstance(call["input"], dict) for call in calls)
        assert len({call["id"] for call in calls}) == len(calls)
        assert all(block.get("text", "x").strip() for block in message["content"])
        if message["stop_reason"] == "tool_use":
            assert calls


@given(
    st.lists(FAILING, max_size=6),
    st.lists(st.integers(0, 100_000), max_size=30),
    st.sampled_from(["", "data: [DONE]", "data: [DONE]\n\n"]),
    st.sampled_from(["\n", "\r\n"]),
)
@quick
def test_the_places_where_a_stream_is_split_make_no_difference(
    chunks: list[Any], places: list[int], ending: str, lines: str
) -> None:
    stream = sse(chunks, ending, lines)
    body, whole = proxied([stream], REQUESTS[True])
    again, complete = proxied(cut(stream, places), REQUESTS[True])
    check_grammar(parse_sse(body), whole=whole)
    assert without_chance(parse_sse(again)) == without_chance(parse_sse(body))
    assert complete == whole
