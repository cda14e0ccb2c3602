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
from itertools import pairwise
from typing import NamedTuple

from stages.exchange import Exchange
from stages.messages_api.usage import Usage

#: Milliseconds of a day. Days are those of UTC: processes in other zones may share the file.
DAY = 86_400_000
#: Characters of a name. Clients choose some of them.
_MAX_NAME = 200
#: Outcomes of an attempt that a later attempt replaced.
REPEATED = ("retry", "fallback")
FAILED = (*REPEATED, "error", "aborted")
DISCONNECTED = ("client_disconnected", "client_stalled")
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

    @property
    def seconds(self) -> float:
        """The backend's time in seconds."""
        return self.total_ms / 1000


#: The fields of a Row that are texts, stored once each.
NAMES = slice(Row._fields.index("session"), Row._fields.index("error") + 1)


def names_of(row: Row) -> tuple[str, ...]:
    """The texts of a row."""
    return row[NAMES]  # type: ignore[return-value]


def rows(exchange: Exchange) -> list[Row]:
    """Make a row for each attempt of an exchange that has ended."""
    attempts = exchange.attempts
    offset = time.time() - time.monotonic()
    repeated = [
        _row(exchange, n, offset, "retry" if following.target == attempt.target else "fallback")
        for n, (attempt, following) in enumerate(pairwise(attempts))
    ]
    return [*repeated, _row(exchange, len(attempts) - 1, offset, exchange.outcome, last=True)]


def _row(exchange: Exchange, n: int, offset: float, outcome: str, last: bool = False) -> Row:
    attempt = exchange.attempts[n]
    usage = exchange.usage_of(attempt) or _NOTHING
    sent, first_byte, accepted = attempt.sent, attempt.first_byte, exchange.accepted
    ended = attempt.ended or exchange.ended or sent
    waited = last and accepted is not None and exchange.queued is not None
    return Row(
        int((sent + offset) * 1000),
        exchange.id,
        n + 1,
        exchange.session[:_MAX_NAME],
        exchange.agent[:_MAX_NAME],
        exchange.parent_agent[:_MAX_NAME],
        exchange.client,
        exchange.pipeline,
        attempt.target.backend,
        exchange.model[:_MAX_NAME],
        attempt.target.model[:_MAX_NAME],
        outcome,
        attempt.error or (exchange.error if last else ""),
        exchange.status if last else 0,
        int((accepted - exchange.queued) * 1000) if waited else None,  # type: ignore[operator]
        None if first_byte is None else int((first_byte - sent) * 1000),
        int((ended - sent) * 1000),
        usage.input_tokens,
        usage.cache_read_input_tokens,
        usage.cache_creation_input_tokens,
        usage.output_tokens,
        usage.estimated,
    )


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


class Group(NamedTuple):
    """The columns by which rows are added up. `day` is the number of days since 1970-01-01 UTC."""

    day: int
    session: str
    agent: str
    parent_agent: str
    key: str
    pipeline: str
    backend: str
    asked_model: str
    model: str
