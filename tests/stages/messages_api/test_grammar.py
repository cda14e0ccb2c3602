"""The checker in tests/grammar.py, which other tests rely on, does find what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from stages.messages_api import stream_events as e
from stages.messages_api.errors import InternalError
from stages.messages_api.usage import Usage
from tests.cases import for_each
from tests.grammar import check_grammar, parse_sse
from tests.support import request

START = e.MessageStart("msg_1", "claude-test", Usage(3, 1), request())
TEXT = {"type": "text", "text": ""}
TOOL = {
    "type": "tool_use",
    "id": "a",
    "name": "f",
    "input": {},
    "caller": {"type": "direct"},
}
THINKING = {"type": "thinking", "thinking": "", "signature": ""}
END = [e.MessageDelta("end_turn", Usage(3, 2)), e.MessageStop()]


def payloads(*events: e.StreamEvent) -> list[dict[str, Any]]:
    return [event.payload() for event in events]


def block(index: int, opening: dict[str, Any], *deltas: tuple[str, str]) -> list[e.StreamEvent]:
    inner = [e.BlockDelta(index, kind, text) for kind, text in deltas]
    return [e.BlockStart(index, opening), *inner, e.BlockStop(index)]


SIGNED = block(0, THINKING, ("thinking_delta", "hm"), ("signature_delta", "s"))

RIGHT = {
    "no blocks": [START, *END],
    "all kinds": [
        START,
        *SIGNED,
        *block(1, TEXT, ("text_delta", "a")),
        *block(2, TOOL, ("input_json_delta", "{}")),
        *END,
    ],
    "a tool without deltas": [START, *block(0, TOOL), *END],
    "pings": [e.Ping(), START, e.Ping(), *END],
    "two message_delta": [START, END[0], *END],
}

WRONG = {
    "nothing": [],
    "no start": END,
    "two starts": [START, START, *END],
    "no end": [START],
    "no message_delta": [START, e.MessageStop()],
    "something after the end": [START, *END, START],
    "a gap": [START, *block(1, TEXT), *END],
    "an index twice": [START, *block(0, TEXT), *block(0, TEXT), *END],
    "a block in a block": [START, e.BlockStart(0, TEXT), *block(1, TEXT), e.BlockStop(0), *END],
    "an open block": [START, e.BlockStart(0, TEXT), *END],
    "a stop too many": [START, *block(0, TEXT), e.BlockStop(1), *END],
    "a stop of another": [START, e.BlockStart(0, TEXT), e.BlockStop(1), *END],
    "a delta outside": [START, e.BlockDelta(0, "text_delta", "a"), *END],
    "a delta of another": [START, e.BlockStart(0, TEXT), e.BlockDelta(1, "text_delta", "a")],
    "a delta that does not fit": [START, *block(0, TEXT, ("input_json_delta", "{}")), *END],
    "an empty delta": [START, *block(0, TEXT, ("text_delta", "")), *END],
    "no signature": [START, *block(0, THINKING, ("thinking_delta", "hm")), *END],
    "more after the signature": [
        START,
        *block(0, THINKING, ("signature_delta", "s"), ("thinking_delta", "hm")),
        *END,
    ],
    "a block after message_delta": [START, END[0], *block(0, TEXT), END[1]],
    "a block that starts full": [START, *block(0, {**TEXT, "text": "a"}), *END],
    "a tool without a name": [START, *block(0, {**TOOL, "name": ""}), *END],
    "no input tokens": [e.MessageStart("msg_1", "m", Usage(0, 1), request()), *END],
    "an unknown block": [START, *block(0, {"type": "poem"}), *END],
}


@for_each("events", RIGHT.values(), ids=RIGHT)
def test_a_right_stream_passes(events: list[e.StreamEvent]) -> None:
    check_grammar(payloads(*events))


@for_each("events", WRONG.values(), ids=WRONG)
def test_a_wrong_stream_is_found(events: list[e.StreamEvent]) -> None:
    with pytest.raises(AssertionError):
        check_grammar(payloads(*events))


ERROR = InternalError("broken").body("req_1")


def test_an_unknown_event_is_found() -> None:
    with pytest.raises(AssertionError):
        check_grammar([*payloads(START), {"type": "poem"}, *payloads(*END)])


def test_a_failed_stream_may_break_off_in_a_block() -> None:
    check_grammar([*payloads(START, e.BlockStart(0, TEXT)), ERROR], whole=False)


def test_a_failed_stream_has_nothing_after_its_error() -> None:
    with pytest.raises(AssertionError):
        check_grammar([*payloads(START), ERROR, *payloads(*END)], whole=False)


def test_an_error_is_no_part_of_a_whole_stream() -> None:
    with pytest.raises(AssertionError):
        check_grammar([*payloads(START), ERROR])


def test_the_sse_reader_gives_the_payloads() -> None:
    events = RIGHT["all kinds"]
    body = b"".join(event.encoded() for event in events)
    assert parse_sse(body) == payloads(*events)


@pytest.mark.parametrize(
    "body",
    [
        b"event: ping\ndata: {}",
        b'event: ping\ndata: {"type":"pong"}\n\n',
        b'data: {"type":"ping"}\n\n',
        b'event: ping\ndata: {\ndata: "type":"ping"}\n\n',
    ],
    ids=["broken off", "another name", "no name", "two lines"],
)
def test_the_sse_reader_finds_what_is_not_as_the_proxy_writes_it(body: bytes) -> None:
    with pytest.raises(AssertionError):
        parse_sse(body)
