"""Lines of a recording, and responses that are collected for them."""

from __future__ import annotations

import json

import pytest

from stages.messages_api.stream_events import BlockDelta, BlockStart, MessageStart
from stages.messages_api.usage import Usage
from stages.recording.lines import Line, LineError, Recorded, ResponseCollector, parse
from tests.cases import for_each
from tests.support import body, request


def test_a_line_is_read_as_it_was_written() -> None:
    message = {"content": [{"type": "text", "text": "Hi"}]}
    line = Line({"id": "req_1"}, {"anthropic-beta": "x"}, json.dumps(body()).encode(), message)

    data = line.encoded(redact=True)

    assert data.endswith(b"}\n")
    assert parse(data) == Recorded(body(), {"anthropic-beta": "x"}, message, {"id": "req_1"})


def test_only_a_redacted_line_is_without_secrets() -> None:
    line = Line({}, {}, json.dumps(body(system="I am me@example.com")).encode(), None)

    assert b"example.com" in line.encoded(redact=False)
    assert b"example.com" not in line.encoded(redact=True)


def test_a_person_may_write_an_exchange() -> None:
    saved = parse(b'{"request": {"model": "m"}, "headers": {"Anthropic-Beta": "x"}}')

    assert saved == Recorded({"model": "m"}, {"anthropic-beta": "x"})


@for_each(
    ("data", "words"),
    [
        (b"", "not valid JSON"),
        (b'{"request": {"model"', "not valid JSON"),
        (b"[]", "no JSON object with `request`"),
        (b'{"request": 1}', "no JSON object with `request`"),
        (b'{"version": 2, "request": {}}', "its format is 2; this version reads 1"),
    ],
)
def test_other_lines_are_refused_with_the_reason(data: bytes, words: str) -> None:
    with pytest.raises(LineError, match=words):
        parse(data)


def test_a_response_that_breaks_off_has_what_came() -> None:
    response = ResponseCollector()
    assert response.message() is None

    response.add(MessageStart("msg_1", "m", Usage(), request()))
    response.add(BlockStart(0, {"type": "text", "text": ""}))
    response.add(BlockDelta(0, "text_delta", "Hel"))
    message = response.message()

    assert message
    assert message["content"] == [{"type": "text", "text": "Hel"}]
    assert message["stop_reason"] is None
