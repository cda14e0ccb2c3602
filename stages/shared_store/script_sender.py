"""Sends scripts to the store. Calls that wait at the same time are sent together.

    sends in flight      a call                         when a send ends
    ------------------   ----------------------------   ------------------------------------------
    fewer than `_MAX`    is sent, with other calls of   -
                         this turn of the event loop
    `_MAX`               waits                          the first calls that wait are sent together

    a send               its calls                      calls that wait, and the store
    ------------------   ----------------------------   ------------------------------------------
    has its responses    return                         are sent; up
    lacks a script       are sent again, once, after    are sent after them; up
                         the script is loaded
    has an error of a    end: that one with             end with StoreLostError; lost
    script               StoreLostError
    is late              end with StoreLostError        end with StoreLostError; up
    is lost              end with StoreLostError        end with StoreLostError; lost
    any, and the         end with StoreLostError        end with StoreLostError, as later ones do
    connection ends

stages/shared_store/patience.py decides which sends are late or lost. It decides by whole sends, so
they are small: a store that takes 0.8 ms for a script would be taken for lost. A call also ends
with StoreLostError if it waits for ten timeouts.

coredis needs a turn of the event loop for each send before it writes any of them, and in a busy
process a turn takes up to 30 ms. So few sends are in flight.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup
from attrs import Factory, define

from pipeline.timers import delayed
from stages.shared_store.client import (
    ScriptCall,
    client_errors,
    evaluate,
    lacks_script,
    load,
    reason_of,
)
from stages.shared_store.patience import MAX_TIMEOUTS, Decision, Patience

if TYPE_CHECKING:
    from coredis import Redis

#: Sends in flight, and scripts of a send. Most scripts of this project take the store up to 0.2 ms.
_MAX, _MAX_SCRIPTS = 4, 16
#: Why calls end with their connection.
ENDED = "the connection has ended"


class StoreLostError(Exception):
    """The store does not respond, or not in time. The call may have had its effect."""


@define(eq=False)
class _Waiting:
    """A call without a result."""

    call: ScriptCall
    since: float
    ended: anyio.Event = Factory(anyio.Event)
    is_cancelled: bool = False
    is_repeated: bool = False
    """Whether its script was loaded for it."""
    result: Any = None
    error: str = ENDED
    """Empty if there is a result."""

    def end(self, error: str) -> None:
        self.error = error
        self.ended.set()


@define(eq=False)
class ScriptSender:
    """Calls scripts with `client`, in tasks of `group`. The owner calls `close`.

    `timeout` is in seconds, for each send. `lose` is called with the reason when the store is lost.
    """

    client: Redis[bytes]
    group: TaskGroup
    timeout: float
    lose: Callable[[ScriptSender, str], None]
    heard: float = 0.0
    """When the latest response or message came."""
    sends: int = 0
    """In flight."""
    _waiting: list[_Waiting] = Factory(list)
    _closed: str = ""
    """Why it is closed."""
    _is_starting: bool = False
    """Whether a task was started that has not taken its calls yet."""
    _context: Context = Factory(copy_context)
    """For the tasks: a context of a request would live longer than the request."""

    @property
    def waiting(self) -> int:
        """Calls that wait to be sent, cancelled ones too."""
        return len(self._waiting)

    async def call(self, call: ScriptCall) -> Any:
        """Run a script, and return its result. Raises StoreLostError.

        A cancelled call is not sent, or its result is ignored.
        """
        if self._closed:
            raise StoreLostError(self._closed)
        waiting = _Waiting(call, anyio.current_time())
        self._waiting.append(waiting)
        self._start()
        try:
            await waiting.ended.wait()
        finally:
            waiting.is_cancelled = not waiting.ended.is_set()
        if waiting.error:
            raise StoreLostError(waiting.error)
        return waiting.result

    def close(self, reason: str = ENDED) -> None:
        """End the calls that wait, and refuse later ones."""
        self._closed = self._closed or reason
        self._end_waiting(reason)

    def _end_waiting(self, reason: str) -> None:
        for waiting in self._waiting:
            waiting.end(reason)
        self._waiting.clear()

    def _start(self) -> None:
        if self._waiting and self.sends < _MAX and not self._is_starting:
            self.sends, self._is_starting = self.sends + 1, True
            self._context.run(self.group.start_soon, self._send)

    async def _send(self) -> None:
        sent = self._take()
        self._start()  # the next send, if there are more calls
        decision, reason = await self._evaluate(sent) if sent else ("wait", "")
        self.sends -= 1
        if decision == "lost":
            self.close(reason)
            self.lose(self, reason)
        elif decision == "late":
            self._end_waiting(reason)
        self._start()

    def _take(self) -> list[_Waiting]:
        """Return the calls of the next send."""
        self._is_starting = False
        calls, since = self._waiting, anyio.current_time() - MAX_TIMEOUTS * self.timeout
        sent: list[_Waiting] = []
        self._waiting = []
        for call in calls:
            if call.since < since:
                call.end(f"not sent in {MAX_TIMEOUTS * self.timeout:g} s")
            elif not call.is_cancelled:
                (sent if len(sent) < _MAX_SCRIPTS else self._waiting).append(call)
        return sent

    async def _evaluate(self, sent: list[_Waiting]) -> tuple[Decision, str]:
        """End the calls, or let them wait again. Return what to do, and why."""
        patience = Patience(self.timeout, anyio.current_time(), self.heard)
        decision: Decision = "wait"
        reason = ""

        async def give_up() -> None:
            nonlocal decision, reason
            while True:
                now = anyio.current_time()
                decision = patience.check(now, self.heard)
                if decision != "wait":
                    break
                await anyio.sleep(patience.wait)
            reason = f"no response in {1000 * (now - patience.began):.0f} ms"
            scope.cancel()

        unloaded: list[_Waiting] = []
        try:
            with anyio.CancelScope() as scope:
                timer = delayed(patience.wait, give_up)
                try:
                    results = await evaluate(self.client, [one.call for one in sent])
                    self.heard = timer.now()
                    unloaded, reason = _end(sent, results)
                    decision = "lost" if reason else "wait"
                    await load(self.client, {one.call.script for one in unloaded})
                    self._waiting[:0] = unloaded
                except client_errors() as error:
                    decision, reason = "lost", reason_of(error)
                finally:
                    await timer.stop()
        finally:
            for one in sent:
                if not one.ended.is_set() and one not in self._waiting:
                    one.end(reason or ENDED)
        return decision, reason


def _end(calls: list[_Waiting], results: list[Any]) -> tuple[list[_Waiting], str]:
    """End calls with their results. Return those whose script has to be loaded, and an error."""
    unloaded, reason = [], ""
    for call, result in zip(calls, results, strict=True):
        if not isinstance(result, Exception):
            call.result = result
            call.end("")
        elif lacks_script(result) and not call.is_repeated:
            call.is_repeated = True
            unloaded.append(call)
        else:
            reason = reason_of(result)
            call.end(reason)
    return unloaded, reason
