"""Stream events as they are on the wire."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic import types as sdk
from pydantic import BaseModel

from stages.messages_api import stream_events as e
from stages.messages_api.usage import Usage
from tests.cases import for_each
from tests.support import request

USAGE = Usage(3, 4, 5, 6, 2)
COUNTS = {
    "input_tokens": 3,
    "output_tokens": 4,
    "cache_read_input_tokens": 5,
    "cache_creation_input_tokens": 6,
}

START: dict[str, Any] = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            **COUNTS,
            "cache_creation": {"ephemeral_5m_input_tokens": 6, "ephemeral_1h_input_tokens": 0},
            "service_tier": "standard",
        },
    },
}
TEXT = {"type": "text", "text": ""}

EVENTS: dict[str, tuple[e.StreamEvent, dict[str, Any], type[BaseModel] | None]] = {
    "message_start": (
        e.MessageStart("msg_1", "claude-test", USAGE, request()),
        START,
        sdk.RawMessageStartEvent,
    ),
    "content_block_start": (
        e.BlockStart(2, TEXT),
        {"type": "content_block_start", "index": 2, "content_block": TEXT},
        sdk.RawContentBlockStartEvent,
    ),
    "content_block_stop": (
        e.BlockStop(2),
        {"type": "content_block_stop", "index": 2},
        sdk.RawContentBlockStopEvent,
    ),
    "message_delta": (
        e.MessageDelta("stop_sequence", USAGE, "END"),
        {
            "type": "message_delta",
            "delta": {
                "stop_reason": "stop_sequence",
                "stop_sequence": "END",
                "stop_details": None,
            },
            "usage": {**COUNTS, "output_tokens_details": {"thinking_tokens": 2}},
        },
        sdk.RawMessageDeltaEvent,
    ),
    "message_stop": (e.MessageStop(), {"type": "message_stop"}, sdk.RawMessageStopEvent),
    "ping": (e.Ping(), {"type": "ping"}, None),
}


@for_each(("event", "payload", "model"), EVENTS.values(), ids=EVENTS)
def test_an_event_is_written_as_the_official_sdk_reads_it(
    event: e.StreamEvent, payload: dict[str, Any], model: type[BaseModel] | None
) -> None:
    assert event.payload() == payload
    assert event.type == payload["type"]
    if model is not None:
        model.model_validate(payload)


@pytest.mark.parametrize(
    ("kind", "member"),
    [
        ("text_delta", "text"),
        ("thinking_delta", "thinking"),
        ("signature_delta", "signature"),
        ("input_json_delta", "partial_json"),
    ],
)
def test_a_delta_has_its_text_in_the_member_of_its_kind(kind: str, member: str) -> None:
    payload = e.BlockDelta(1, kind, "a").payload()
    assert payload == {
        "type": "content_block_delta",
        "index": 1,
        "delta": {"type": kind, member: "a"},
    }
    sdk.RawContentBlockDeltaEvent.model_validate(payload)


def test_a_refusal_has_its_details() -> None:
    details = {"type": "refusal", "category": None, "explanation": None}
    payload = e.MessageDelta("refusal", USAGE, stop_details=details).payload()
    assert payload["delta"]["stop_details"] == details
    sdk.RawMessageDeltaEvent.model_validate(payload)


def test_every_event_names_its_type() -> None:
    classes = e.StreamEvent.__subclasses__()
    assert len({cls.type for cls in classes}) == len(classes) == 7
