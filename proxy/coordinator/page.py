"""Asks the other workers for their parts of the page, and sends them the part of this worker.

    a query    event                                   next      effect
    --------   -------------------------------------   -------   ----------------------------------
    is sent    PageWorkers                             waiting   it waits for these workers
    waiting    PagePart                                waiting   its worker has responded
    waiting    PagePart of the last worker, or with    done      silent workers without a part are
               the exchange of the query                         reported as missing
    is sent,   TIMEOUT passes, or the link is lost     done      workers that it still waits for are
    waiting                                                      reported as missing
    done       PageWorkers, PagePart                   done      they are dropped

A worker for which a query has waited in vain is silent until it sends a part, at most for SILENCE
seconds. It is asked, but no query waits for it: a worker that hangs does not delay each page.

A worker does not respond after the deadline of a query. So a worker that was stopped sends no old
parts. Without a coordinator no other worker is asked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import anyio
import msgspec
from attrs import define, field

from proxy.coordinator import messages
from proxy.coordinator.link import Link
from proxy.coordinator.messages import FromCoordinator
from stages.page.other_workers import NOT_FOUND, Responses

log = logging.getLogger("llm_proxy")

#: Seconds in which the other workers have to respond.
TIMEOUT = 0.25
#: Seconds for which no query waits for a worker that has not responded.
SILENCE = 10.0
#: Bytes of a part that is sent; the worker of a larger one is missing.
_MAX_PART = 1 << 19
#: Errors of an exchange in which someone's own stage has put a value of a wrong type.
_WRONG_VALUE = (TypeError, ValueError, AttributeError)


@define(eq=False)
class _Query:
    """A query for the list, or for an exchange: then the first part ends it."""

    exchange: str | None
    silent: frozenset[int]
    """The process ids of the workers for which it does not wait."""
    asked: int = 0
    missing: set[int] = field(factory=set)
    """The process ids of the workers that have not responded."""
    parts: dict[int, bytes] = field(factory=dict)
    """By process id."""
    done: anyio.Event = field(factory=anyio.Event)

    def on_message(self, message: messages.PageWorkers | messages.PagePart) -> None:
        """Record which workers are asked, or a part."""
        if isinstance(message, messages.PageWorkers):
            self.asked = len(message.pids)
            self.missing.update(message.pids)
        else:
            self.missing.discard(message.pid)
            if (data := bytes(message.data)) != NOT_FOUND:
                self.parts[message.pid] = data
        if self.missing <= self.silent or (self.exchange is not None and self.parts):
            self.done.set()


@define(eq=False)
class SharedPage:
    """The page of all `workers`. `respond` returns the part of this worker, as JSON."""

    link: Link
    workers: int
    timeout: float = TIMEOUT
    silence: float = SILENCE
    respond: Callable[[str | None, float | None], bytes] = field(
        default=lambda *_: NOT_FOUND, init=False
    )
    """Called with the exchange and the time of a query: see stages/page/parts.py."""
    _queries: dict[int, _Query] = field(factory=dict, init=False)
    _silent_until: dict[int, float] = field(factory=dict, init=False)
    """By process id."""

    async def ask(self, exchange: str | None, before: float | None = None) -> Responses:
        """See `Ask` in stages/page/other_workers.py."""
        now = time.monotonic()
        silent = {pid: until for pid, until in self._silent_until.items() if now < until}
        self._silent_until = silent
        query, n = _Query(exchange, frozenset(silent)), self.link.number()
        if self.link.is_joined:
            self._queries[n] = query
            self.link.send(
                messages.PageQuery(n, self.link.pid, now + self.timeout, exchange, before)
            )
            try:
                for _ in range(2):  # this event loop may have been late in the first half
                    with anyio.move_on_after(self.timeout / 2):
                        await query.done.wait()
            finally:
                del self._queries[n]
            if not query.done.is_set():
                until = time.monotonic() + self.silence
                self._silent_until |= dict.fromkeys(query.missing, until)
        missing = tuple(sorted(query.missing))
        responded = 1 + query.asked - len(missing)
        return Responses(self.workers, responded, missing, query.parts)

    @property
    def waits(self) -> bool:
        """See Member."""
        return False

    def on_joined(self) -> None:
        """See Member."""

    def on_lost(self) -> None:
        """See Member."""
        for query in self._queries.values():
            query.done.set()

    def on_message(self, message: FromCoordinator) -> None:
        """See Member."""
        if isinstance(message, messages.PageQuery):
            self._respond(message)
        elif isinstance(message, messages.PageWorkers | messages.PagePart):
            if isinstance(message, messages.PagePart):
                self._silent_until.pop(message.pid, None)
            if query := self._queries.get(message.n):
                query.on_message(message)

    def _respond(self, query: messages.PageQuery) -> None:
        if time.monotonic() >= query.deadline:
            return
        try:
            data = self.respond(query.exchange, query.before)
            if len(data) > _MAX_PART:
                raise ValueError(f"{len(data):,} bytes are too many")
        except _WRONG_VALUE as error:
            log.error("this worker is missing on the page: %s: %s", type(error).__name__, error)
            return
        self.link.offer(messages.PagePart(query.n, self.link.pid, query.pid, msgspec.Raw(data)))
