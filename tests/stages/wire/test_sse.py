"""Server-sent events: bytes split anywhere give the same events."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.wire.json_codec import encode
from stages.wire.sse import SseDecoder, encode_event
from tests.cases import for_each

STREAM = (
    ": keep-alive\n"
    'data: {"a":1}\n\n'
    "event: named\r\n"
    'data: {"b":"\u2028\u2029\u0085"}\r\n\r\n'
    "id: 7\nretry: 10\n"
    "data: {\n"
    'data:"c": 2\n'
    "data:}\n"
    "\n"
    "\n\n: comment\n\n"
    "data:\n\n"
    "data:  two spaces\n\n"
    "database: no\n\n"
    "data: [DONE]\n\n"
).encode()

EVENTS = [
    b'{"a":1}',
    '{"b":"\u2028\u2029\u0085"}'.encode(),
    b'{\n"c": 2\n}',
    b"",
    b" two spaces",
    b"[DONE]",
]


def decoded(parts: list[bytes]) -> list[bytes]:
    decoder = SseDecoder()
    events = [event for part in parts for event in decoder.feed(part)]
    return events + decoder.finish()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


def test_a_stream_in_one_piece_gives_its_events() -> None:
    assert decoded([STREAM]) == EVENTS


def test_a_stream_split_in_two_gives_the_same_events() -> None:
    places = range(len(STREAM) + 1)
    assert not [n for n in places if decoded([STREAM[:n], STREAM[n:]]) != EVENTS]


def test_a_stream_byte_by_byte_gives_the_same_events() -> None:
    assert decoded([STREAM[n : n + 1] for n in range(len(STREAM))]) == EVENTS


@given(st.lists(st.integers(0, 10_000), max_size=40))
@settings(derandomize=True, deadline=None)
def test_a_stream_split_anywhere_gives_the_same_events(places: list[int]) -> None:
    assert decoded(cut(STREAM, places)) == EVENTS


@given(
    st.lists(
        st.sampled_from(
            [
                b"\n",
                b"\r\n",
                b"\r",
                b"data:",
                b"data: x",
                b"data: [DONE]\r\n\n",
                b":",
                b"\xff",
                b"a",
            ]
        )
    ),
    st.lists(st.integers(0, 10_000), max_size=10),
)
@settings(derandomize=True, deadline=None, max_examples=300)
def test_where_any_bytes_are_split_makes_no_difference(
    pieces: list[bytes], places: list[int]
) -> None:
    data = b"".join(pieces)
    assert decoded(cut(data, places)) == decoded([data])


@given(st.lists(st.text(st.characters(exclude_characters="\n\r")), max_size=5), st.booleans())
@settings(derandomize=True, deadline=None)
def test_the_data_of_an_event_comes_out_as_it_went_in(lines: list[str], crlf: bool) -> None:
    end = b"\r\n" if crlf else b"\n"
    stream = b"".join(b"data: %b%b" % (line.encode(), end) for line in lines) + end
    assert decoded([stream]) == ([b"\n".join(line.encode() for line in lines)] if lines else [])


@for_each(
    "end", [b"", b"\n", b"\r\n", b"\r", b"\n\n"], ids=["nothing", "LF", "CRLF", "CR", "LF LF"]
)
def test_the_last_event_needs_no_empty_line(end: bytes) -> None:
    assert decoded([b"data: a\n\ndata: b" + end]) == [b"a", b"b"]


def test_nothing_is_at_the_end_of_a_stream_that_ends_well() -> None:
    decoder = SseDecoder()
    decoder.feed(b"data: a\n\n")
    assert decoder.finish() == []


def test_a_comment_at_the_end_is_no_event() -> None:
    assert decoded([b"data: a\n\n: bye"]) == [b"a"]


def test_an_event_comes_as_soon_as_it_is_whole() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\ndata: b") == [b"a"]
    assert decoder.feed(b"\n\ndata: c\n\n") == [b"b", b"c"]


def test_a_byte_order_mark_at_the_start_is_skipped() -> None:
    stream = b"\xef\xbb\xbfdata: a\n\ndata: b\n\n"
    assert decoded([stream]) == [b"a", b"b"]
    assert decoded([stream[n : n + 1] for n in range(len(stream))]) == [b"a", b"b"]


def test_a_byte_order_mark_later_on_is_kept() -> None:
    assert decoded([b"data: \xef\xbb\xbf\n\n"]) == [b"\xef\xbb\xbf"]


@pytest.mark.parametrize(
    "stream",
    [b"data: " + b"a" * 200, b"data: aaaaaaaaaa\n" * 20, b"data:\n" * 200, b": " + b"a" * 200],
    ids=["a line", "lines", "empty lines", "a comment"],
)
def test_an_event_over_the_limit_is_refused(stream: bytes) -> None:
    decoder = SseDecoder(max_event_bytes=100)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        list(map(decoder.feed, (stream[n : n + 1] for n in range(len(stream)))))


def test_the_limit_is_for_one_event() -> None:
    decoder = SseDecoder(max_event_bytes=20)
    for _ in range(100):
        assert decoder.feed(b"data: 0123456789\n\n") == [b"0123456789"]


@pytest.mark.untraced
def test_the_lines_of_a_long_event_are_counted_once() -> None:
    def seconds(pieces: int) -> float:
        decoder, start = SseDecoder(), time.process_time()
        for _ in range(pieces):
            assert decoder.feed(b"data:\n" * 10_000) == []
        return time.process_time() - start

    seconds(10)
    assert seconds(160) < 40 * max(seconds(10), 0.001)


def test_an_event_is_written_with_its_name_and_one_line_of_data() -> None:
    text = "a\nb\r\u2028"
    written = encode_event("ping", encode({"type": "ping", "text": text}))
    matches = re.fullmatch(rb"event: ping\ndata: ([^\n\r]*)\n\n", written)
    assert matches is not None
    assert json.loads(matches[1]) == {"type": "ping", "text": text}


def test_written_events_can_be_read() -> None:
    payload = {"type": "x", "text": "\u2028\u2029\u0085\r\n\n"}
    [data] = decoded([encode_event("x", encode(payload))])
    assert json.loads(data) == payload


@pytest.mark.parametrize(
    ("pending", "expected"),
    [
        (b"", b"1"),
        (b"event: error\n", b'{"error":"1"}'),
        (b"data: 0\n", b"0\n1"),
        (b"data: 0", b"0data: 1"),
    ],
)
def test_a_packet_with_one_event_continues_the_earlier_packets(
    pending: bytes, expected: bytes
) -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: first\n\n" + pending) == [b"first"]
    assert decoder.feed(b"data: 1\n\n") == [expected]
    assert decoder.feed(b"data: 2\n\n") == [b"2"]
