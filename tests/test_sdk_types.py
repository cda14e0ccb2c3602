"""The check of what we send can fail."""

from __future__ import annotations

from typing import Any

import pytest

from stages.messages_api import stream_events as e
from stages.messages_api.errors import InvalidRequestError
from stages.messages_api.usage import Usage
from tests.cases import for_each
from tests.sdk_types import check_sent
from tests.support import request

USAGE = Usage(3, 1)
START = e.MessageStart("msg_1", "claude-test", USAGE, request())
END = e.MessageDelta("end_turn", USAGE)
TEXT = {"type": "text", "text": ""}


def changed(value: Any, path: str, to: Any = ...) -> Any:
    """`value` with one member changed, or without it."""
    first, _, remaining = path.partition(".")
    copy = dict(value)
    if remaining:
        copy[first] = changed(copy[first], remaining, to)
    elif to is ...:
        del copy[first]
    else:
        copy[first] = to
    return copy


@for_each(
    ("path", "to", "says"),
    [
        ("message.usage.cache_creation", ..., "message.usage.cache_creation: missing"),
        ("message.usage.cache_creation", None, "message.usage.cache_creation: None is"),
        ("message.usage.inference_geo", None, "message.usage.inference_geo: None is"),
        ("message.usage.server_tool_use", None, "server_tool_use: no recorded answer has it"),
        ("message.usage.output_tokens_details", {}, "no recorded answer has it"),
        ("message.diagnostics", None, "message.diagnostics: no recorded answer has it"),
        ("message.stop_sequence", ..., "message.stop_sequence: missing"),
        ("message.usage.speedy", 1, "message.usage.speedy: unknown to Usage"),
        ("message.usage.input_tokens", None, "input_tokens: None is no <class 'int'>"),
        ("message.usage.input_tokens", True, "input_tokens: True is no"),
        ("message.usage.service_tier", "slow", "service_tier"),
        ("message.role", "user", "role: 'user' is no"),
        ("message.content", [{"type": "image"}], "content.0: the union has no"),
        ("message.content", [{"type": "text", "text": "x"}], "content.0: {'type': 'text', "),
        ("type", "message_begin", "the union has no"),
    ],
)
def test_a_message_that_differs_from_the_sdks_type_is_found(path: str, to: Any, says: str) -> None:
    check_sent(START.payload())
    with pytest.raises(AssertionError) as caught:
        check_sent(changed(START.payload(), path, to))
    assert says in str(caught.value)


CALL = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
REFUSED = {"type": "refusal", "category": None, "explanation": None}


@for_each(
    ("event", "path", "to", "says"),
    [
        (e.BlockStart(0, TEXT), "content_block.citations", None, "citations: no recorded answer"),
        (e.BlockStart(0, TEXT), "content_block.text", None, "text: None is of another type"),
        (e.BlockStart(0, CALL), "content_block.toolset_name", None, "toolset_name: None is"),
        (e.BlockStart(0, CALL), "content_block.caller", None, "caller: None is"),
        (e.BlockDelta(0, "text_delta", "a"), "delta.text", ..., "delta.text: missing"),
        (END, "delta.container", None, "delta.container: no recorded answer has it"),
        (END, "usage.service_tier", "standard", "service_tier: no recorded answer has it"),
        (END, "usage.server_tool_use", None, "server_tool_use: no recorded answer has it"),
        (e.MessageDelta("refusal", USAGE, None, REFUSED), "delta.stop_details.type", ..., "type"),
    ],
)
def test_row_c1_an_event_unlike_the_recorded_ones_is_found(
    event: e.StreamEvent, path: str, to: Any, says: str
) -> None:
    check_sent(event.payload())
    with pytest.raises(AssertionError) as caught:
        check_sent(changed(event.payload(), path, to))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        {"input_tokens": None},
        {"input_tokens": 1, "context_management": None},
        {"data": [], "has_more": False, "first_id": None},
        {"data": [], "has_more": None, "first_id": None, "last_id": None},
    ],
)
def test_row_c1_a_body_unlike_the_recorded_ones_is_found(value: Any) -> None:
    with pytest.raises(AssertionError):
        check_sent(value)


def test_an_error_that_differs_from_the_sdks_type_is_found() -> None:
    body = InvalidRequestError(
        "no threads", details={"error_code": "thread_unsupported_request"}
    ).body("req_1")
    check_sent(body)
    for path, to in (
        ("error.message", ...),
        ("error.type", "odd_error"),
        ("error.more", 1),
        ("error.details.error_code", "thread_trouble"),
        ("request_id", ...),
    ):
        with pytest.raises(AssertionError):
            check_sent(changed(body, path, to))


def test_a_ping_has_no_other_member() -> None:
    check_sent(e.Ping().payload())
    with pytest.raises(AssertionError):
        check_sent({"type": "ping", "time": 1})
