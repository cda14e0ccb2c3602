"""A backend that fails, at each point where it can: what the client gets is a proper error.

After the first byte an error can only be an event: the open block stays open, and there is no
`message_stop`, because clients would take either for a complete response.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from threading import Event
from typing import Any

import pytest

from tests.grammar import parse_sse
from tests.support import body
from tests.waiting import logged
from tests.wire.backend import Act, ScriptedBackend, Step
from tests.wire.chat import (
    DONE,
    END,
    HELLO,
    completion,
    delta,
    error_json,
    head,
    http_chunk,
    sse,
    whole,
)
from tests.wire.client import MODES, Client, error_in, raw

UNTYPED = head(content_type="")
JSON_HEAD = head(content_type="application/json")
HALF_JSON = [JSON_HEAD, http_chunk(b'{"choices": [')]
OVERFLOW = "request (12 tokens) exceeds the available context size (10 tokens)"

# Before anything was said that a client could use; so with its own status. The last column is
# a part of the message.
EARLY = {
    "closes-at-once": ([Act.CLOSE], 529, "overloaded_error", "broke the connection"),
    "resets-at-once": ([Act.RESET], 529, "overloaded_error", "broke the connection"),
    "closes-in-the-head": (
        [b"HTTP/1.1 200 OK\r\nContent-Ty", Act.CLOSE],
        529,
        "overloaded_error",
        "broke the connection",
    ),
    "no-http": ([b"\x00\x01\x02\r\n\r\n", Act.CLOSE], 529, "overloaded_error", "broke"),
    "resets-after-the-head": ([UNTYPED, Act.RESET], 529, "overloaded_error", "broke"),
    "closes-after-the-head": ([UNTYPED, Act.CLOSE], 529, "overloaded_error", "broke"),
    "html": (
        [whole(200, b"<html><body>Log in", "text/html")],
        500,
        "api_error",
        "answered with text/html",
    ),
    "plain-text": ([whole(200, b"Hi", "text/plain")], 500, "api_error", "check its `base_url`"),
    "json-error": ([whole(200, error_json("It broke"))], 500, "api_error", "It broke"),
    "json-error-with-a-code": (
        [whole(200, error_json("Slow down", code=429))],
        429,
        "rate_limit_error",
        "Slow down",
    ),
    "json-text": ([whole(200, b'"Hello"')], 500, "api_error", "not an object"),
    "json-null": ([whole(200, b"null")], 500, "api_error", "not an object"),
    "no-json": ([whole(200, b'{"choices": [')], 500, "api_error", "broken JSON"),
    "empty-json": ([whole(200, b"")], 500, "api_error", "broken JSON"),
    "closes-in-json": ([*HALF_JSON, Act.CLOSE], 529, "overloaded_error", "broke"),
    "resets-in-json": ([*HALF_JSON, Act.RESET], 529, "overloaded_error", "broke"),
    "bad-chunk": ([JSON_HEAD, b"zz\r\nhello\r\n", Act.CLOSE], 529, "overloaded_error", "broke"),
    "bad-gzip": (
        [whole(200, b"not gzip", content_encoding="gzip")],
        529,
        "overloaded_error",
        "broke the connection (ContentEncodingError)",
    ),
    "400": (
        [whole(400, error_json("No such field"))],
        400,
        "invalid_request_error",
        "No such field",
    ),
    "401": (
        [whole(401, error_json("Bad key"))],
        500,
        "api_error",
        "refuses the proxy's credentials",
    ),
    "402": ([whole(402, error_json("Pay"))], 402, "billing_error", "Pay"),
    "403": ([whole(403, error_json("No"))], 403, "permission_error", "answered 403: No"),
    "404": ([whole(404, error_json("No such model"))], 404, "not_found_error", "No such model"),
    "row-a4-quotes-a-body": (
        [
            whole(
                400,
                error_json("unknown field 'foo' in {'content': 'fix the bug: prompt is too long'}"),
            )
        ],
        400,
        "invalid_request_error",
        "answered 400: unknown field 'foo'",
    ),
    "row-a4-quotes-an-input": (
        [whole(422, {"detail": [{"loc": ["body"], "msg": "No", "input": "input is too long"}]})],
        400,
        "invalid_request_error",
        "answered 422: No (body)",
    ),
    "row-a4-quotes-a-prompt": (
        [whole(500, error_json("failed for prompt: 'context_length_exceeded?'"))],
        500,
        "api_error",
        "answered 500: failed",
    ),
    "row-a2-repeats-a-phrase": (
        [whole(422, error_json("no: " + "maximum context length is 1 tokens " * 20_000))],
        400,
        "invalid_request_error",
        "answered 422: no: maximum",
    ),
    "413": ([whole(413, b"", "text/html")], 413, "request_too_large", "no reason was given"),
    "422": ([whole(422, {"detail": "Bad"})], 400, "invalid_request_error", "answered 422: Bad"),
    "429": ([whole(429, error_json("Slow down"))], 429, "rate_limit_error", "Slow down"),
    "500": ([whole(500, error_json("Oops"))], 500, "api_error", "Oops"),
    "500-html": ([whole(500, b"<html>", "text/html")], 500, "api_error", "no reason was given"),
    "500-text": ([whole(500, b"Oops", "text/plain")], 500, "api_error", "Oops"),
    "500-half": ([head(500), http_chunk(b"Oo"), Act.CLOSE], 529, "overloaded_error", "broke"),
    "502": ([whole(502, b"Bad gateway", "")], 529, "overloaded_error", "Bad gateway"),
    "503": ([whole(503, error_json("Loading"))], 529, "overloaded_error", "Loading"),
    "504": ([whole(504, b"", "")], 504, "timeout_error", "answered 504"),
    "204": ([b"HTTP/1.1 204 No Content\r\n\r\n"], 500, "api_error", "answered 204"),
    "307": ([whole(307, b"", "", location="/elsewhere")], 500, "api_error", "to /elsewhere"),
    "599": ([whole(599, b"", "")], 500, "api_error", "answered 599"),
    "overflow": (
        [whole(400, error_json(OVERFLOW))],
        400,
        "invalid_request_error",
        "prompt is too long: 12 tokens > 10 maximum",
    ),
}

Row = tuple[Sequence[Step], int, str, str]


@MODES
@pytest.mark.parametrize("row", EARLY.values(), ids=EARLY)
def test_a_failure_before_the_first_chunk_has_its_own_status(
    row: Row, stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    steps, status, kind, message = row
    backend.says(*steps)
    answer = client.post(body(stream=stream))
    assert answer.error == (status, kind)
    assert message in answer.json["error"]["message"]
    assert "backend `scripted`" in answer.json["error"]["message"] or status == 400
    assert len(backend.requests) == 1


@MODES
def test_an_unreachable_backend_is_overloaded(stream: bool, client: Client) -> None:
    answer = client.post(body(model="claude-absent", stream=stream))
    assert answer.error == (529, "overloaded_error")
    assert "cannot be reached" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([END], "sent no response"),
        ([http_chunk(b": ping\n\n"), END], "sent no response"),
        ([DONE, END], "sent no response"),
        ([http_chunk(b"data: {\n\n"), END], "broken JSON"),
        ([http_chunk(b"data: [1]\n\n"), END], "not an object"),
        ([http_chunk(b"data: null\n\n"), END], "sent no response"),
        ([sse(error_json("It broke")), END], "It broke"),
        ([http_chunk(b'event: error\ndata: {"message": "It broke"}\n\n'), END], "It broke"),
        ([http_chunk(b"event: error\ndata: It broke\n\n"), END], "It broke"),
        ([http_chunk(b'error: {"code":500,"message":"It broke"}\n\n'), END], "It broke"),
        ([sse([error_json("It broke")]), END], "It broke"),
    ],
    ids=[
        "empty",
        "comments",
        "done",
        "half-json",
        "list",
        "null",
        "error",
        "row-b25-named",
        "row-b25-named-text",
        "row-b25-field",
        "row-b25-list",
    ],
)
def test_a_stream_that_fails_with_its_first_event_has_its_own_status(
    steps: list[bytes], message: str, client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(), *steps)
    answer = client.post(body(stream=True))
    assert answer.error == (500, "api_error")
    assert message in answer.json["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_half_a_character_becomes_a_replacement_character(
    stream: bool, client: Client, backend: ScriptedBackend
) -> None:
    half = b'{"choices": [{"index": 0, "%b": {"content": "a\xe6\xbc"}, "finish_reason": "stop"}]}'
    data = half % (b"delta" if stream else b"message")
    if stream:
        backend.says(head(), http_chunk(b"data: %b\n\n" % data), DONE, END)
    else:
        backend.says(whole(200, data))
    answer = client.post(body(stream=stream))

    assert answer.status == 200
    assert "a\ufffd" in answer.body.decode()


EMPTY = {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}
BROKEN_OFF = {
    "choices": [
        {
            "index": 0,
            "delta": {"content": ""},
            "finish_reason": "error",
            "error": {"code": 502, "message": "Upstream error"},
        }
    ]
}


@MODES
@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        (EMPTY, (402, "billing_error"), "insufficient balance"),
        (BROKEN_OFF, (529, "overloaded_error"), "Upstream error"),
        ([{"error": {"code": 429, "message": "Slow"}}], (429, "rate_limit_error"), "Slow"),
    ],
    ids=["MiniMax", "OpenRouter", "Gemini"],
)
def test_row_b25_an_error_in_a_200_has_its_own_text_and_status(
    said: Any,
    error: tuple[int, str],
    words: str,
    stream: bool,
    client: Client,
    backend: ScriptedBackend,
) -> None:
    backend.says(*([head(), sse(said), END] if stream else [whole(200, said)]))
    answer = client.post(body(stream=stream))
    assert answer.error == error
    assert words in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "last",
    [
        sse(BROKEN_OFF),
        http_chunk(b'event: error\ndata: {"code": 502, "message": "Upstream error"}\n\n'),
        http_chunk(b'error: {"code": 502, "message": "Upstream error"}\n\n'),
    ],
    ids=["a choice", "an event", "a field"],
)
def test_row_b25_an_error_after_text_ends_the_stream_with_its_message(
    last: bytes, client: Client, backend: ScriptedBackend
) -> None:
    begun = Event()
    backend.says(head(), HELLO, begun, last, END)
    response = client.send(raw(body(stream=True)))
    begun.set()
    error = parse_sse(response.read())[-1]
    assert error_in(error)[0] == "overloaded_error"
    assert "Upstream error" in error_in(error)[1]


def test_row_b29_a_stream_becomes_an_unstreamed_response(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(head(), sse(delta(content="Hi")), sse(delta("stop", content="!")), DONE, END)
    answer = client.post(body()).json

    assert [block["text"] for block in answer["content"]] == ["Hi!"]
    assert answer["stop_reason"] == "end_turn"


LATE = {
    "closes-between-chunks": ([Act.CLOSE], "overloaded_error", "broke the connection"),
    "resets-between-chunks": ([Act.RESET], "overloaded_error", "broke the connection"),
    "closes-in-a-chunk": ([b"40\r\ndata: {", Act.CLOSE], "overloaded_error", "broke"),
    "bad-chunk": ([b"zz\r\nhello\r\n", Act.CLOSE], "overloaded_error", "broke"),
    "ends": ([END], "api_error", "closed the stream early"),
    "ends-in-an-event": ([http_chunk(b'data: {"choi'), END], "api_error", "broken JSON"),
    "garbage": ([http_chunk(b"data: nonsense\n\n"), END], "api_error", "broken JSON"),
    "no-object": ([http_chunk(b"data: 7\n\n")], "api_error", "not an object"),
    "error": ([sse(error_json("It broke"))], "api_error", "It broke"),
    "error-as-text": ([sse({"error": "It broke"})], "api_error", "It broke"),
    "error-with-a-code": ([sse(error_json("Busy", code=503))], "overloaded_error", "Busy"),
    "error-beside-an-end": ([sse({**error_json("No"), **delta("stop")}), DONE], "api_error", "No"),
    "says-it-failed": ([sse(delta("error")), DONE, END], "api_error", "broke off its response"),
    "huge-event": (
        [http_chunk(b"data: " + b"x" * 17_000_000), END],
        "api_error",
        "an event of more than",
    ),
}


@pytest.mark.parametrize(("steps", "kind", "message"), LATE.values(), ids=LATE)
def test_a_failure_in_the_middle_is_an_event_without_message_stop(
    steps: list[Step], kind: str, message: str, client: Client, backend: ScriptedBackend
) -> None:
    hold = Event()
    backend.says(head(), HELLO, hold, *steps)
    backend.says(whole(200, completion()))
    answer = client.send(raw(body(stream=True)))
    assert [client.event()["type"] for _ in range(3)] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
    ]
    hold.set()
    error = client.event()
    assert error_in(error)[0] == kind
    assert message in error_in(error)[1]
    assert error["request_id"] == answer.headers["request-id"]
    assert answer.read() == b""  # and no message_stop
    assert client.post(body()).status == 200  # the connection to the client ended well


@MODES
@pytest.mark.parametrize(
    ("header", "passed_on"),
    [
        ("7", "7"),
        ("0", "0"),
        ("1.5", "1.5"),
        ("3600", "60"),
        ("-3", "0"),
        ("inf", "60"),
        ("nan", None),
        ("soon", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "0"),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_passed_on(
    status: int,
    header: str,
    passed_on: str | None,
    stream: bool,
    client: Client,
    backend: ScriptedBackend,
) -> None:
    backend.says(whole(status, error_json("Slow down"), retry_after=header))
    assert client.post(body(stream=stream)).headers.get("retry-after") == passed_on


def test_a_key_that_the_backend_repeats_is_not_passed_on(
    client: Client, backend: ScriptedBackend
) -> None:
    backend.says(whole(401, error_json("Incorrect API key provided: sk-abcdef0123456789")))
    assert "abcdef0123456789" not in str(client.post(body()).json)


@pytest.mark.parametrize(
    "steps",
    [
        [head(), HELLO, sse(error_json("It broke"))],
        [head(), sse(error_json("It broke"))],
        [head(), http_chunk(b"data: 7\n\n")],
        [head(content_type="text/html"), http_chunk(b"<html>")],
    ],
    ids=["late", "early", "garbage", "html"],
)
def test_a_failed_response_closes_its_connection(
    steps: list[bytes], client: Client, backend: ScriptedBackend
) -> None:
    backend.says(*steps, Act.UNTIL_CLOSED)
    assert b"error" in client.post(body(stream=True)).body
    assert backend.is_closed()


@pytest.mark.parametrize("steps", [[HELLO], [HELLO, b"zz\r\n"], []], ids=["late", "bad", "early"])
def test_a_reset_connection_is_not_logged_as_an_error(
    steps: list[bytes], client: Client, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.says(head(content_type="text/html") if not steps else head(), *steps, Act.RESET)
    for _ in range(5):
        answer = client.post(body(stream=True))
        assert b"error" in answer.body
    logged(caplog, answer.headers["request-id"])
    gc.collect()  # an exception that nobody retrieved is logged when it is collected
    assert client.get("/health").status == 200
    assert not [each for each in caplog.records if each.levelname == "ERROR"]
