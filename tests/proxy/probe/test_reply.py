"""A backend's answer, read leniently."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.probe.reply import Reply, reply_from
from tests.cases import for_each

JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream; charset=utf-8"}


def whole(status: int, body: Any) -> Reply:
    return reply_from("b", status, JSON, json.dumps(body).encode())


def test_an_unstreamed_response_is_read() -> None:
    call = {"function": {"name": "f", "arguments": "{}"}}
    message = {"content": "Hi", "reasoning": "Hm", "tool_calls": [call]}
    reply = whole(
        200,
        {
            "choices": [{"message": message, "finish_reason": "length"}],
            "usage": {"completion_tokens": 5},
        },
    )

    assert reply.accepted
    assert not reply.silent
    assert (reply.text, reply.reasoning, reply.calls) == ("Hi", "reasoning", ["f"])
    assert (reply.finish, reply.tokens) == ("length", 5)


def test_a_stream_is_read() -> None:
    chunks: list[Any] = [
        {"choices": [{"delta": {"content": "He"}}]},
        {"choices": [{"delta": {"content": "llo"}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"completion_tokens": 2}},
    ]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    reply = reply_from("b", 200, SSE, body.encode())

    assert (reply.text, reply.finish, reply.tokens) == ("Hello", "stop", 2)


@for_each("status", [401, 403, 408, 429, 502, 503, 504, 529])
def test_a_failure_unrelated_to_the_request_is_silence(status: int) -> None:
    assert whole(status, {"error": {"message": "no"}}).silent


@for_each("status", [400, 404, 413, 422, 500, 501])
def test_a_refusal_is_no_silence(status: int) -> None:
    reply = whole(status, {"error": {"message": "not\n  so"}})

    assert not reply.silent
    assert not reply.accepted
    assert reply.error == f"{status}: not so"


def test_an_error_in_a_200_is_an_error() -> None:
    assert whole(200, {"error": {"message": "no", "code": 429}}).silent
    assert whole(200, {"error": "no"}).error == "500: no"


@pytest.mark.parametrize("body", [b"<html>", b"", b'{"a":'])
def test_what_is_not_json_is_a_refusal(body: bytes) -> None:
    assert reply_from("b", 200, JSON, body).error == "200, but the response is not JSON"


@for_each(
    "body",
    [
        [],
        3,
        {"choices": 3},
        {"choices": [3, {}, {"message": 3}, {"message": {"content": 3, "tool_calls": [3, {}]}}]},
        {"usage": 3},
    ],
)
def test_an_odd_response_has_no_text(body: Any) -> None:
    reply = whole(200, body)

    assert reply.accepted
    assert (reply.text, reply.calls, reply.reasoning, reply.finish) == ("", [], "", "")
    assert reply.tokens == 0


def test_tokens_without_usage_are_estimated() -> None:
    assert whole(200, {"choices": [{"message": {"content": "x" * 41}}]}).tokens == 11
