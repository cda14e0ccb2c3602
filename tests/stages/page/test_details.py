"""The time line of an exchange."""

from __future__ import annotations

from stages.exchange import Exchange
from stages.page.details import gaps, stalls, time_line
from tests.stages.page.exchanges import ended


def test_bars_are_seconds_since_the_request() -> None:
    line = time_line(ended(), now=5000.0)

    assert line.seconds == 3
    assert [(bar.name, bar.kind, bar.begin, bar.end, bar.mark, bar.note) for bar in line.bars] == [
        ("queue", "wait", 0.125, 0.25, None, ""),
        ("gpu / coder", "failed", 0.25, 0.5, None, "overloaded"),
        ("spare / small", "call", 0.5, 3, 0.75, ""),
        ("response", "out", 0.75, 3, 1, ""),
    ]
    assert [(bar.name, bar.begin, bar.end, bar.mark) for bar in line.stages] == [
        ("authenticate", 0, 3, 0.125),
        ("invoke", 0.5, 3, None),
    ]


def test_bars_are_in_the_order_of_time_also_after_a_fallback() -> None:
    """The queue's times are those of the last call."""
    line = time_line(ended(queued=1000.75, accepted=1000.875), now=5000.0)

    begins = [bar.begin for bar in line.bars]
    assert begins == sorted(begins)
    assert line.bars[0].name == "gpu / coder"


def test_an_exchange_in_flight_ends_now() -> None:
    waiting = Exchange(received=1000.0, queued=1001.0)

    line = time_line(waiting, now=1004.0)

    assert line.seconds == 4
    assert [(bar.name, bar.begin, bar.end) for bar in line.bars] == [("queue", 1, 4)]


def test_each_part_has_the_seconds_before_it() -> None:
    exchange = ended(stream_times=[1001.0, 1001.5, 1004.0])

    assert gaps(exchange) == [(1.0, 1.0), (1.5, 0.5), (4.0, 2.5)]
    assert stalls(exchange, end=4.5) == [(1.5, 4.0)]
    assert gaps(ended(stream_times=None)) == []


def test_a_stall_lasts_until_now_while_the_stream_is_in_flight() -> None:
    for state, expected in ((None, [(1.5, 9.0)]), (1009.0, [])):
        exchange = ended(stream_times=[1001.0, 1001.5], ended=state)

        response = time_line(exchange, now=1009.0).bars[-1]

        assert (response.name, list(response.stalls)) == ("response", expected)
