"""The check of what we send can fail."""

from __future__ import annotations

from typing import Any

import pytest

from stages.wire import events as e
from stages.wire.errors import InvalidRequestError
from tests.sdk_types import check_sent

START = e.MessageStart("msg_1", "claude-test", e.Usage(3, 1))


def changed(value: Any, path: str, to: Any = ...) -> Any:
    """`value` with one member changed, or without it."""
    first, _, rest = path.partition(".")
    copy = dict(value)
    if rest:
        copy[first] = changed(copy[first], rest, to)
    elif to is ...:
        del copy[first]
    else:
        copy[first] = to
    return copy


@pytest.mark.parametrize(
    ("path", "to", "says"),
    [
        ("message.usage.cache_creation", ..., "message.usage.cache_creation: missing"),
        ("message.diagnostics", ..., "message.diagnostics: missing"),
        ("message.usage.speedy", 1, "message.usage.speedy: unknown to Usage"),
        ("message.usage.input_tokens", None, "input_tokens: None is no <class 'int'>"),
        ("message.usage.input_tokens", True, "input_tokens: True is no"),
        ("message.usage.service_tier", "slow", "service_tier"),
        ("message.role", "user", "role: 'user' is no"),
        ("message.content", [{"type": "image"}], "content.0: the union has no"),
        ("message.content", [{"type": "text", "text": "x"}], "content.0.citations: missing"),
        ("type", "message_begin", "the union has no"),
    ],
)
def test_a_message_that_differs_from_the_sdks_type_is_found(path: str, to: Any, says: str) -> None:
    check_sent(START.payload())
    with pytest.raises(AssertionError) as caught:
        check_sent(changed(START.payload(), path, to))
    assert says in str(caught.value)


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
