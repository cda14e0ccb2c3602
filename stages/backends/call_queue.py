"""The port of the stage `queue` to where the calls of one backend are counted.

    implementation                       processes that share it
    ----------------------------------   -----------------------
    LocalCallQueue, in this module       one
    SharedCallQueue, in                  the workers of one machine
      proxy/coordinator/call_queue.py
    RedisCallQueue, redis_call_queue.py  all that use the store

`FairQueue` decides which call is next, in each implementation or as its model. The port has names,
numbers and texts, never a prompt, so the queue may be in another process.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import anyio
from attrs import define, field

from pipeline.timers import Delayed, delayed
from stages.backends.fair_queue import FairQueue
from stages.backends.slots import COLD, Warmth


@define(eq=False)
class QueuedCall:
    """One call, from `enter` to `leave`. `names`: its client and its session.

    The queue sets `may_start` when the call gets a slot. `store_is_lost`: it is refused instead.
    `hold`: seconds for which the slot may be reserved after `leave`, for the next call of the
    conversation.
    """

    names: tuple[str, str]
    short: bool
    warmth: Warmth = COLD
    hold: float = 0.0
    may_start: anyio.Event = field(factory=anyio.Event)
    store_is_lost: bool = field(default=False, init=False)


class Full(NamedTuple):
    """The call was not added. `waiting`: number of calls that wait. `retry_after`: seconds."""

    waiting: int
    retry_after: int


class CallQueue(Protocol):
    """The running and waiting calls of one backend, of all processes that share the queue.

        call      enter                       slot is free      leave
        -------   -------------------------   ---------------   --------------------
        none      running, waiting, or Full                     nothing
        waiting   (once for each call)        running, if it    none
                                              is the next
        running   (once for each call)                          none; the slot is free

    *Atomic.* At most `slots` calls run, of all processes together, unless `slots` was lowered or
    the store is lost. A slot is free while a call waits only if it is reserved. Calls of several
    processes take effect one after the other.

    *Fair.* The next call is the one that a single FairQueue of all processes chooses. A queue may
    ignore `warmth` and `hold`.

    *Cancellation.* The caller calls `leave` once after each `enter`, also if `enter` was cancelled
    or raised. `leave` completes also in a cancelled scope: a queue that awaits in it shields
    itself. A call that got its slot at the moment of its `leave` passes the slot on.

    *Sockets.* The connection of a call that was cancelled closes in the next round of the event
    loop. So a queue of several processes waits for a round before it gives the slot away.

    *Leases.* The caller renews nothing. A queue whose store has leases renews those of its process,
    of running and of waiting calls. If the process dies, its calls leave: at once, or when their
    lease ends.

    *Clock.* The store's own, never one of several callers'. `seconds` of `leave` is a duration.

    *Errors.* Nothing raises. When a store is lost, the queue decides for each call that enters or
    waits as the config says: none waits for a store that does not respond. A call that is refused
    gets `store_is_lost`, then `may_start`, and is not in the queue. The change is logged once.

    *Time.* `enter` and `leave` take at most 50 ms. The wait for a slot is the caller's: it waits
    for `may_start`.
    """

    @property
    def slots(self) -> int:
        """Number of slots in the config that is served now."""

    @property
    def running(self) -> int:
        """Number of running calls of this process. The sum over all processes is the total."""

    @property
    def waiting(self) -> int:
        """Number of waiting calls of this process."""

    async def enter(self, call: QueuedCall, max_queued: int) -> Full | None:
        """Add a call. Return Full if no slot is free and `max_queued` calls wait.

        Otherwise `may_start` is set if the call may start at once, and will be set if it waits.
        """

    async def leave(self, call: QueuedCall, seconds: float | None = None) -> None:
        """Remove a running or waiting call; start the next. A call that is not there does nothing.

        `seconds`: how long a call took that has succeeded. Estimates of `retry_after` use it.
        """

    def retry_after(self) -> int:
        """Estimate the seconds until all waiting calls have started; from 1 to 60.

        It may be of the last message from the store.
        """

    def resize(self, slots: int) -> None:
        """Change the number of slots, and start calls that may start now. The newest call counts.

        It raises nothing. It may take effect later.
        """


@define(eq=False)
class LocalCallQueue:
    """The CallQueue of one process, for calls of one event loop."""

    calls: FairQueue[QueuedCall]
    _holds: dict[QueuedCall, Delayed] = field(factory=dict, init=False)
    """The timers of calls whose slot is reserved, or was until another call got it."""

    @property
    def slots(self) -> int:
        """See CallQueue."""
        return self.calls.slots

    @property
    def running(self) -> int:
        """See CallQueue."""
        return self.calls.running

    @property
    def waiting(self) -> int:
        """See CallQueue."""
        return self.calls.waiting

    async def enter(self, call: QueuedCall, max_queued: int) -> Full | None:
        """See CallQueue."""
        calls = self.calls
        if calls.waiting >= max_queued and not calls.may_start(call.warmth):
            _start(calls.end_holds())
            if calls.waiting >= max_queued and not calls.has_free_slot:
                return Full(calls.waiting, calls.retry_after())
        if calls.enter(call, call.names, call.short, call.warmth):
            call.may_start.set()
        else:
            _start(calls.end_holds())
        return None

    async def leave(self, call: QueuedCall, seconds: float | None = None) -> None:
        """See CallQueue."""
        if seconds is not None:
            self.calls.record_duration(seconds)
        if call not in self.calls:
            return
        _start(self.calls.leave(call, call.hold))
        if call.hold > 0 and call in self.calls:
            self._holds[call] = delayed(call.hold, lambda: self._end_hold(call))

    async def _end_hold(self, call: QueuedCall) -> None:
        del self._holds[call]
        if call in self.calls:
            _start(self.calls.leave(call))

    def retry_after(self) -> int:
        """See CallQueue."""
        return self.calls.retry_after()

    def resize(self, slots: int) -> None:
        """See CallQueue."""
        _start(self.calls.resize(slots))


def _start(calls: list[QueuedCall]) -> None:
    for call in calls:
        call.may_start.set()
