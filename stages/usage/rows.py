"""The rows of an exchange: one for each attempt at a backend. Pure.

    attempt                                  outcome                tokens
    --------------------------------------   --------------------   ------------------------------
    the last one                             that of the exchange   of the response, until its end
    an earlier one, at the same target       retry                  of the response, until its end
    an earlier one, before another target    fallback               of the response, until its end

Counts that the backend did not report are estimates, and the row is marked. A backend that refused
a call, or broke it off before its response, charged nothing: such a row has no tokens. If the
client disconnects, or the backend is too slow, before the response starts, the row has the
estimated prompt.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from stages.exchange import Attempt, Exchange
from stages.messages_api.usage import Usage

#: Milliseconds of a day. Days are those of UTC: processes in other zones may share the file.
DAY = 86_400_000
#: Characters of a name. Clients choose some of them.
_MAX_NAME = 200
#: Outcomes of an attempt that a later attempt replaced.
REPEATED = ("retry", "fallback")
_NOTHING = Usage()


class Row(NamedTuple):
    """One attempt. `time` is when the call was sent, in milliseconds of Unix time.

    The first ten fields after `number` are texts that repeat; the database stores each text once.
    """

    time: int
    request: str
    number: int
    """1 for the first attempt of the request."""
    session: str
    agent: str
    parent_agent: str
    key: str
    pipeline: str
    backend: str
    asked_model: str
    model: str
    outcome: str
    error: str
    """The ErrorKind of the attempt, otherwise the type of the error that the client got."""
    status: int
    queue_ms: int | None
    first_byte_ms: int | None
    total_ms: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    estimated: bool


#: The fields of a Row that are texts, stored once each.
NAMES = slice(Row._fields.index("session"), Row._fields.index("error") + 1)


def rows(exchange: Exchange) -> Iterator[Row]:
    """Yield a row for each attempt of an exchange that has ended."""
    attempts = exchange.attempts
    offset = time.time() - time.monotonic()
    for number, attempt in enumerate(attempts, 1):
        last = number == len(attempts)
        usage = attempt.usage or (exchange.usage if last else None) or _NOTHING
        sent, ended = attempt.sent, attempt.ended or exchange.ended or attempt.sent
        yield Row(
            int((sent + offset) * 1000),
            exchange.id,
            number,
            exchange.session[:_MAX_NAME],
            exchange.agent[:_MAX_NAME],
            exchange.parent_agent[:_MAX_NAME],
            exchange.client,
            exchange.pipeline,
            attempt.target.backend,
            exchange.model[:_MAX_NAME],
            attempt.target.model[:_MAX_NAME],
            exchange.outcome if last else _repeat(attempt, attempts[number]),
            attempt.error or (exchange.error if last else ""),
            exchange.status if last else 0,
            _milliseconds(exchange.queued, exchange.accepted) if last else None,
            _milliseconds(sent, attempt.first_byte),
            _milliseconds(sent, ended) or 0,
            usage.input_tokens,
            usage.cache_read_input_tokens,
            usage.cache_creation_input_tokens,
            usage.output_tokens,
            usage.estimated,
        )


def _repeat(attempt: Attempt, following: Attempt) -> str:
    return "retry" if following.target == attempt.target else "fallback"


def _milliseconds(start: float | None, end: float | None) -> int | None:
    return None if start is None or end is None else round((end - start) * 1000)


class Sums(NamedTuple):
    """The sums of rows. Each request counts once, with its last attempt."""

    requests: int = 0
    attempts: int = 0
    errors: int = 0
    """Attempts that failed."""
    disconnects: int = 0
    """Requests whose client disconnected, or stopped reading."""
    estimated: int = 0
    """Attempts with estimated tokens."""
    total_ms: int = 0
    """The backend's time."""
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(*map(sum, zip(self, other, strict=True)))

    @property
    def seconds(self) -> float:
        """The backend's time in seconds."""
        return self.total_ms / 1000


def sums_of(row: Row) -> Sums:
    """The sums of one row."""
    repeated = row.outcome in REPEATED
    return Sums(
        requests=not repeated,
        attempts=1,
        errors=repeated or row.outcome in ("error", "aborted"),
        disconnects=row.outcome in ("client_disconnected", "client_stalled"),
        estimated=row.estimated,
        total_ms=row.total_ms,
        input_tokens=row.input_tokens,
        cache_read_tokens=row.cache_read_tokens,
        cache_write_tokens=row.cache_write_tokens,
        output_tokens=row.output_tokens,
    )


class Group(NamedTuple):
    """The fields by which rows are added up. `day` is the number of days since 1970-01-01 UTC."""

    day: int
    session: str
    agent: str
    parent_agent: str
    key: str
    pipeline: str
    backend: str
    asked_model: str
    model: str


def group_of(row: Row) -> Group:
    """The group of a row."""
    return Group(
        row.time // DAY,
        row.session,
        row.agent,
        row.parent_agent,
        row.key,
        row.pipeline,
        row.backend,
        row.asked_model,
        row.model,
    )


def daily_sums(batch: Iterable[Row]) -> dict[Group, Sums]:
    """Add up rows by their groups."""
    totals: dict[Group, Sums] = {}
    for row in batch:
        group, sums = group_of(row), sums_of(row)
        totals[group] = totals[group].plus(sums) if group in totals else sums
    return totals
