"""The stage `stream-encode`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.testing import check_stage, run_stage
from stages.events import ResponseBody, ResponseStart
from stages.exchange import Degradation, Exchange
from stages.messages_api import stream_events as e
from stages.messages_api.usage import Usage
from stages.stream_encode import StreamEncode
from tests.cases import for_each
from tests.grammar import check_grammar, parse_sse
from tests.support import request

TEXT = {"type": "text", "text": ""}
TOOL = {
    "type": "tool_use",
    "id": "a",
    "name": "f",
    "input": {},
    "caller": {"type": "direct"},
}


def response_events(streamed: bool, *notes: str) -> list[e.StreamEvent]:
    named = [note.rpartition(":") for note in notes]
    degradations = tuple(Degradation(name, action, "unknown") for name, _, action in named)
    exchange = Exchange(stream=streamed, degradations=degradations)
    return [
        e.MessageStart("msg_1", "claude-test", Usage(3, 1), request(), exchange=exchange),
        e.BlockStart(0, TEXT),
        e.BlockDelta(0, "text_delta", "a\u2028\n\nb"),
        e.BlockStop(0),
        e.BlockStart(1, TOOL),
        e.BlockDelta(1, "input_json_delta", '{"n": 1}'),
        e.BlockStop(1),
        e.MessageDelta("tool_use", Usage(3, 2)),
        e.MessageStop(),
    ]


async def encoded(events: list[e.StreamEvent]) -> tuple[ResponseStart, list[ResponseBody]]:
    start, *parts = await run_stage(StreamEncode(), events)
    assert isinstance(start, ResponseStart)
    assert all(isinstance(part, ResponseBody) for part in parts)
    return start, parts


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_it_keeps_to_the_contract(streamed: bool) -> None:
    await check_stage(StreamEncode(), response_events(streamed))


async def test_a_stream_is_written_event_by_event() -> None:
    events = response_events(True)
    start, parts = await encoded(events)
    assert start == ResponseStart(
        200,
        {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            "x-accel-buffering": "no",
        },
    )
    assert len(parts) == len(events)
    payloads = parse_sse(b"".join(part.data for part in parts))
    assert payloads == [event.payload() for event in events]
    check_grammar(payloads)


async def test_only_the_last_event_ends_the_body() -> None:
    _, parts = await encoded(response_events(True))
    assert [part.more for part in parts] == [True] * 8 + [False]


async def test_a_ping_is_in_a_stream_and_not_in_a_message() -> None:
    for streamed in (True, False):
        first, *remaining = response_events(streamed)
        _, parts = await encoded([first, e.Ping(), *remaining])
        assert (b"event: ping\n" in b"".join(part.data for part in parts)) is streamed


async def test_a_whole_message_is_written_at_the_end() -> None:
    out = await run_stage(StreamEncode(), response_events(False)[:-1])
    assert out == []
    start, parts = await encoded(response_events(False))
    [part] = parts
    assert not part.more
    assert start == ResponseStart(
        200, {"content-type": "application/json", "content-length": str(len(part.data))}
    )
    assert json.loads(part.data) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": [
            {**TEXT, "text": "a\u2028\n\nb"},
            {**TOOL, "input": {"n": 1}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 3,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 2,
            "output_tokens_details": {"thinking_tokens": 0},
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "service_tier": "standard",
        },
    }


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_dropped_fields_are_in_a_header(streamed: bool) -> None:
    start, _ = await encoded(response_events(streamed, "top_k:dropped", "stop_sequences:cut"))
    assert start.headers["x-llm-proxy-degraded"] == "top_k:dropped, stop_sequences:cut"


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_nothing_dropped_is_no_header(streamed: bool) -> None:
    start, _ = await encoded(response_events(streamed))
    assert "x-llm-proxy-degraded" not in start.headers


NOTES: dict[str, tuple[str, ...]] = {
    "another header": ("a\r\nset-cookie: x=1:dropped",),
    "a line break": ("a\nb:dropped",),
    "NUL": ("\x00:dropped",),
    "not ASCII": ("größe:dropped", "鍵:dropped"),
    "delete": ("\x7f\x1b[31m:dropped",),
    "a comma": ("a, b:dropped",),
    "very many": tuple(f"field_{n}:dropped" for n in range(1000)),
    "very long": ("x" * 100_000 + ":dropped",),
}


@for_each("notes", NOTES.values(), ids=NOTES)
@for_each("streamed", [True, False], ids=["streamed", "whole"])
async def test_invented_names_are_harmless_in_a_header(
    streamed: bool, notes: tuple[str, ...]
) -> None:
    start, _ = await encoded(response_events(streamed, *notes))
    value = start.headers["x-llm-proxy-degraded"]
    assert value.isascii()
    assert value.isprintable()
    assert 0 < len(value) <= 1000


def estimated(streamed: bool) -> list[e.StreamEvent]:
    """A response whose usage the backend has not reported."""
    *events, _, stop = response_events(streamed)
    return [*events, e.MessageDelta("tool_use", Usage(3, 2, estimated=True)), stop]


async def test_estimated_usage_of_a_message_is_in_a_header() -> None:
    start, [part] = await encoded(estimated(False))
    assert start.headers["x-llm-proxy-usage"] == "estimated"
    _, [reported] = await encoded(response_events(False))
    assert part.data == reported.data


async def test_estimated_usage_of_a_stream_is_in_a_comment() -> None:
    start, parts = await encoded(estimated(True))
    _, reported = await encoded(response_events(True))
    expected = [part.data for part in reported]
    expected[-2] = b": usage estimated\n" + expected[-2]
    assert [part.data for part in parts] == expected
    assert "x-llm-proxy-usage" not in start.headers
    check_grammar(parse_sse(b"".join(expected)))


async def test_reported_usage_is_not_marked() -> None:
    start, _ = await encoded(response_events(False))
    assert "x-llm-proxy-usage" not in start.headers


async def test_cached_tokens_of_a_message_are_in_a_header() -> None:
    name = "x-llm-proxy-cached-tokens"
    for streamed in (False, True):
        *events, _, stop = response_events(streamed)
        usage = Usage(3, 2, cache_read_input_tokens=7)
        start, _ = await encoded([*events, e.MessageDelta("end_turn", usage), stop])
        assert start.headers.get(name) == (None if streamed else "7")
    start, _ = await encoded(response_events(False))
    assert name not in start.headers


async def test_two_requests_do_not_mix() -> None:
    stage = StreamEncode()
    whole: Any = await run_stage(stage, response_events(False, "top_k:dropped"))
    streamed: Any = await run_stage(stage, response_events(True))
    assert whole[0].headers["content-type"] == "application/json"
    assert "x-llm-proxy-degraded" not in streamed[0].headers
