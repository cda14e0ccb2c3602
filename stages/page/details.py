"""What the page shows of one exchange: facts, and bars on a time line. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from attrs import frozen

from stages.exchange import Exchange

#: Seconds without a part of the response that count as a stall.
STALL = 2.0


@frozen
class Bar:
    """A row of the time line. Times are seconds since the request arrived.

    `kind` is a class in page.css. `mark` is a moment within the bar, or None. `stalls` are parts of
    the bar without progress: begin and end.
    """

    name: str
    kind: str
    begin: float
    end: float
    mark: float | None = None
    note: str = ""
    stalls: tuple[tuple[float, float], ...] = ()


@frozen
class TimeLine:
    """The bars of an exchange, and the seconds until its end, or until now."""

    seconds: float
    bars: tuple[Bar, ...]
    stages: tuple[Bar, ...]


def time_line(exchange: Exchange, now: float) -> TimeLine:
    """Draw the time line of an exchange, which may be in flight."""
    start = exchange.received
    seconds = (exchange.ended or now) - start
    stages = tuple(
        Bar(
            run.stage,
            "step",
            run.began - start,
            (run.ended or exchange.ended or now) - start,
            None if run.forwarded is None else run.forwarded - start,
        )
        for run in exchange.stages
    )
    return TimeLine(
        seconds, tuple(sorted(_bars(exchange, start + seconds), key=lambda bar: bar.begin)), stages
    )


def _bars(exchange: Exchange, until: float) -> Iterator[Bar]:
    start = exchange.received
    if exchange.queued is not None:
        yield Bar("queue", "wait", exchange.queued - start, (exchange.accepted or until) - start)
    for attempt in exchange.attempts:
        end = (attempt.ended or until) - start
        first = None if attempt.first_byte is None else attempt.first_byte - start
        name = f"{attempt.target.backend} / {attempt.target.model}"
        kind = "failed" if attempt.error else "call"
        yield Bar(name, kind, attempt.sent - start, end, first, attempt.error)
    if exchange.response_started is not None:
        first = None if exchange.first_token is None else exchange.first_token - start
        begin, end = exchange.response_started - start, until - start
        yield Bar("response", "out", begin, end, first, stalls=tuple(stalls(exchange, end)))


def gaps(exchange: Exchange) -> list[tuple[float, float]]:
    """Return each part of the stream: seconds since the request, and since the part before."""
    times = exchange.stream_times or []
    start = exchange.received
    return [
        (round(time - start, 4), round(time - before, 4))
        for before, time in zip([start, *times], times, strict=False)
    ]


def stalls(exchange: Exchange, end: float) -> list[tuple[float, float]]:
    """Return the stalls after the first part of the stream: begin and end, since the request.

    A stream in flight may be in a stall, until now, the `end`.
    """
    times = [time for time, _ in gaps(exchange)]
    if times and exchange.ended is None:
        times.append(end)
    return [(before, at) for before, at in pairwise(times) if at - before >= STALL]
