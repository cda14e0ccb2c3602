"""Admission: few new requests begin per turn of the event loop; under overload they are refused.

A worker is one event loop, and a request begins with most of its CPU time: its body is parsed and
translated. 500 requests that begin in one turn keep everything else waiting for all of that, health
checks too. Requests in flight are no measure of it: a stream that waits for its backend costs
nothing. So what is limited is how many requests begin per turn, and what is measured is how long a
new request waits until it begins.

state                                     a new request          each turn of the loop
---------------------------------------   --------------------   --------------------------------
free: fewer than PER_TURN began in this   begins at once
  turn, and none waits
busy                                      waits, in order        the oldest PER_TURN begin
overloaded: the oldest has waited longer  529, `retry-after`;    the same, and one connection
  than `max_delay` seconds                its body is not read   that was refused is read again

A refusal costs an eighth of a short request. Clients that ignore `retry-after` would take all of
the CPU time with refusals. So the connection of a refused request is not read again before its
turn: the refusal has its whole body, but its last, empty message is sent only then. (Until then
uvicorn reads one more request at most, and does not begin it.) So after the first refusal of each
connection there is at most one for PER_TURN requests that begin.

Health checks and metrics (`urgent`) begin at once in any state. Requests that have begun are not
touched.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable

from attrs import define, field
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.http.disconnect import REQUEST_SIGNALS
from stages.counters import Counters
from stages.messages_api.errors import OverloadedError
from stages.wire.ids import new_request_id
from stages.wire.json_codec import encode

log = logging.getLogger("llm_proxy")

#: How many requests begin per turn. More makes turns longer, and health checks wait some turns;
#: with one, the turns themselves are a tenth of the CPU time.
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
        """Whether its client has disconnected, so that what it does in its turn is no work."""
        return bool(self.scope["state"][REQUEST_SIGNALS].disconnected)


@define(eq=False)
class Admission:
    """An ASGI app that lets requests into another one, turn by turn.

    `max_delay`: seconds; None: no request is refused. `clock` returns seconds.
    """

    app: ASGIApp
    urgent: Callable[[str], bool]
    """Whether requests for a path begin at once."""
    max_delay: float | None
    counts: Counters
    around: Callable[[ASGIApp], ASGIApp] = lambda app: app
    """What a refusal goes through: web pages read it only with the headers of CORS."""
    clock: Callable[[], float] = time.monotonic
    report_interval: float = 10.0
    """Seconds between two lines of the log that count refusals: a line for each would be load."""
    _waiting: deque[_Waiting] = field(factory=deque, init=False)
    _refused: deque[asyncio.Event] = field(factory=deque, init=False)
    _begun: int = field(default=0, init=False)
    """How many requests began in this turn."""
    _turning: bool = field(default=False, init=False)
    """Whether the loop calls `_turn` in its next turn."""
    _reported: int | None = field(default=None, init=False)
    """How many refusals the log has counted; None if not overloaded."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if self.urgent(scope["path"]):
            return self.app(scope, receive, send)
        if self._begun < PER_TURN and not self._waiting:
            self._begin()
            return self.app(scope, receive, send)
        waiting = _Waiting(scope, self.clock())
        if self._overloaded(waiting.since):
            return self.around(self._refuse)(scope, receive, send)
        self._waiting.append(waiting)
        return self._wait(waiting, receive, send)

    async def _wait(self, waiting: _Waiting, receive: Receive, send: Send) -> None:
        await waiting.turn.wait()
        await self.app(waiting.scope, receive, send)

    def _overloaded(self, now: float) -> bool:
        if self.max_delay is None or not self._waiting:
            return False
        return now - self._waiting[0].since > self.max_delay

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._count()
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
        self._next_turn()
        await turn.wait()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _begin(self) -> None:
        self._begun += 1
        self._next_turn()

    def _next_turn(self) -> None:
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turning = False
        self._begun = 0
        while self._waiting and self._begun < PER_TURN:
            first = self._waiting.popleft()
            first.turn.set()
            if not first.disconnected:
                self._begin()
        if self._refused:
            self._refused.popleft().set()
        if self._waiting or self._refused:
            self._next_turn()

    def _count(self) -> None:
        self.counts.shed[()] += 1
        if self._reported is None:
            self._reported = self.counts.shed[()] - 1
            log.warning(
                "overloaded: requests wait %g s to begin, new ones get a 529", self.max_delay
            )
            asyncio.get_running_loop().call_later(self.report_interval, self._report)

    def _report(self) -> None:
        refused = self.counts.shed[()] - (self._reported or 0)
        if refused:
            log.warning("overloaded: %d requests refused in %g s", refused, self.report_interval)
            self._reported = self.counts.shed[()]
            asyncio.get_running_loop().call_later(self.report_interval, self._report)
        else:
            log.info("not overloaded any more")
            self._reported = None
