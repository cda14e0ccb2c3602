"""Admission: few new requests begin per turn of the event loop; under overload they are refused.

A worker is one event loop. A request uses most of its CPU time when it begins: its body is parsed
and translated. If 500 requests begin in one turn, everything else waits for all of them, health
checks too. The number of requests in flight does not measure this: a stream that waits for its
backend costs nothing. Therefore Admission limits how many requests begin per turn, and measures
how long a new request waits until it begins.

state                                     a new request          each turn of the loop
---------------------------------------   --------------------   --------------------------------
free: fewer than PER_TURN began in this   begins at once
  turn, and none waits
busy                                      waits, in order        the oldest PER_TURN begin
overloaded: the oldest has waited longer  529, `retry-after`;    the same, and one refused
  than `max_delay` seconds                its body is not read   connection is read again

A refusal costs an eighth of a short request. Clients that ignore `retry-after` could use all of the
CPU time with refusals. Therefore the connection of a refused request is not read again before its
turn: the client gets the whole refusal at once, but the last, empty message of its body is sent in
that turn. (Until then uvicorn reads at most one more request, and does not begin it.) So after the
first refusal of each connection there is at most one refusal per PER_TURN requests that begin.

Health checks and metrics (`urgent`) begin at once in any state. Requests that have begun are not
affected.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable

from attrs import define, field
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.http.disconnect import REQUEST_SIGNALS, RequestSignals
from stages.counters import Counters
from stages.messages_api.errors import OverloadedError
from stages.wire.ids import new_request_id
from stages.wire.json_codec import encode

log = logging.getLogger("llm_proxy")

#: Requests that begin per turn. More make turns longer, and health checks wait some turns. With
#: one, the turns themselves take a tenth of the CPU time.
PER_TURN = 4
_OVERLOADED = OverloadedError("the proxy is overloaded; try again in a moment")
_RETRY_AFTER = b"1"


@define(eq=False)
class _Waiting:
    """A request that waits for its turn."""

    scope: Scope
    since: float
    turn: asyncio.Event = field(factory=asyncio.Event, init=False)

    @property
    def disconnected(self) -> bool:
        """Whether its client has disconnected: then the request costs nothing in its turn."""
        signals: RequestSignals = self.scope["state"][REQUEST_SIGNALS]
        return signals.disconnected


@define(eq=False)
class Admission:
    """An ASGI app that starts the requests of another one, at most PER_TURN per turn.

    `max_delay`: seconds; None: no request is refused. `clock` returns seconds.
    """

    app: ASGIApp
    urgent: Callable[[str], bool]
    """Whether requests for a path begin at once."""
    max_delay: float | None
    counts: Counters
    wrap_refusal: Callable[[ASGIApp], ASGIApp] = lambda app: app
    """Adds CORS headers to refusals: web pages cannot read responses without them."""
    clock: Callable[[], float] = time.monotonic
    report_interval: float = 10.0
    """Seconds between two log lines that count refusals. A line for each would add load."""
    _waiting: deque[_Waiting] = field(factory=deque, init=False)
    _refused: deque[asyncio.Event] = field(factory=deque, init=False)
    _begun_in_turn: int = field(default=0, init=False)
    """Requests that began in this turn."""
    _turn_scheduled: bool = field(default=False, init=False)
    """Whether the loop calls `_turn` in its next turn."""
    _logged_refusals: int | None = field(default=None, init=False)
    """Refusals that the log has counted; None if not overloaded."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if self.urgent(scope["path"]):
            return self.app(scope, receive, send)
        if self._begun_in_turn < PER_TURN and not self._waiting:
            self._begin()
            return self.app(scope, receive, send)
        waiting = _Waiting(scope, self.clock())
        if self._is_overloaded(waiting.since):
            return self.wrap_refusal(self._refuse)(scope, receive, send)
        self._waiting.append(waiting)
        return self._wait(waiting, receive, send)

    async def _wait(self, waiting: _Waiting, receive: Receive, send: Send) -> None:
        await waiting.turn.wait()
        await self.app(waiting.scope, receive, send)

    def _is_overloaded(self, now: float) -> bool:
        if self.max_delay is None or not self._waiting:
            return False
        return now - self._waiting[0].since > self.max_delay

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._count_refusal()
        request_id = new_request_id()
        log.debug("%s refused: overloaded", request_id)
        body = encode(_OVERLOADED.body(request_id))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"retry-after", _RETRY_AFTER),
            (b"request-id", request_id.encode()),
        ]
        await send(
            {"type": "http.response.start", "status": _OVERLOADED.status, "headers": headers}
        )
        await send({"type": "http.response.body", "body": body, "more_body": True})
        turn = asyncio.Event()
        self._refused.append(turn)
        self._schedule_turn()
        await turn.wait()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _begin(self) -> None:
        self._begun_in_turn += 1
        self._schedule_turn()

    def _schedule_turn(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_scheduled = False
        self._begun_in_turn = 0
        while self._waiting and self._begun_in_turn < PER_TURN:
            first = self._waiting.popleft()
            first.turn.set()
            if not first.disconnected:
                self._begin()
        if self._refused:
            self._refused.popleft().set()
        if self._waiting or self._refused:
            self._schedule_turn()

    def _count_refusal(self) -> None:
        self.counts.shed[()] += 1
        if self._logged_refusals is None:
            self._logged_refusals = self.counts.shed[()] - 1
            log.warning(
                "overloaded: requests wait %g s to begin; new ones get a 529", self.max_delay
            )
            asyncio.get_running_loop().call_later(self.report_interval, self._log_refusals)

    def _log_refusals(self) -> None:
        refused = self.counts.shed[()] - (self._logged_refusals or 0)
        if refused:
            log.warning("overloaded: refused %d requests in %g s", refused, self.report_interval)
            self._logged_refusals = self.counts.shed[()]
            asyncio.get_running_loop().call_later(self.report_interval, self._log_refusals)
        else:
            log.info("no longer overloaded")
            self._logged_refusals = None
