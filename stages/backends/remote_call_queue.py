"""What a CallQueue needs whose calls are counted outside this process.

While that place is lost, the process decides alone: each of its calls is in a FairQueue of its own,
with this process's part of the slots.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

import anyio
import anyio.lowlevel
from attrs import define, field

from stages.backends.call_queue import Full, QueuedCall
from stages.backends.fair_queue import FairQueue

State = Literal["entering", "waiting", "running", "refused"]


@define(eq=False)
class RemoteCall:
    """A call of this process, from `enter` to `leave`. `id`: its name outside this process."""

    call: QueuedCall
    id: Any
    max_queued: int
    state: State = field(default="entering", init=False)
    full: Full | None = field(default=None, init=False)
    """Why it was refused; None: for another reason, or it is not refused."""

    def become(self, state: State) -> None:
        """Change the state."""
        self.state = state

    def start(self) -> None:
        """Give it a slot."""
        self.become("running")
        self.call.may_start.set()


C = TypeVar("C", bound=RemoteCall)


@define(eq=False)
class RemoteCallQueue(ABC, Generic[C]):
    """The part of a CallQueue that does not depend on where the calls are counted.

    A subclass sends messages, and calls `on_lost` when the place is lost. It sets `_alone` to None
    when the place counts again.
    """

    name: str
    """The queue's name outside this process."""
    slots: int
    _calls: dict[QueuedCall, C] = field(factory=dict, init=False)
    _by_id: dict[Any, C] = field(factory=dict, init=False)
    _alone: FairQueue[C] | None = field(default=None, init=False)
    """While the process decides alone."""
    _retry_after: int = field(default=5, init=False)
    """Seconds, as in the last message."""

    @property
    def running(self) -> int:
        """See CallQueue."""
        return sum(entered.state == "running" for entered in self._calls.values())

    @property
    def waiting(self) -> int:
        """See CallQueue."""
        return len(self._calls) - self.running

    @property
    def waits(self) -> bool:
        """See Member."""
        return self._alone is None and self.waiting > 0

    def retry_after(self) -> int:
        """See CallQueue."""
        return self._retry_after if self._alone is None else self._alone.retry_after()

    def on_lost(self) -> None:
        """See Member."""
        alone = self._alone = FairQueue(self._part)
        calls = [*self._calls.values()]
        for entered in calls:
            if entered.state == "running":
                alone.resume(entered)
        for entered in calls:
            if entered.state == "waiting":
                self._enter_alone(alone, entered, sys.maxsize)
            elif entered.state == "entering":
                self._enter_alone(alone, entered, entered.max_queued)

    @property
    @abstractmethod
    def _part(self) -> int:
        """The number of slots while the process decides alone."""

    def _add(self, entered: C) -> None:
        self._calls[entered.call] = self._by_id[entered.id] = entered

    def _refuse(self, entered: C, full: Full | None = None) -> None:
        entered.full = full
        self._calls.pop(entered.call, None)
        self._by_id.pop(entered.id, None)
        entered.become("refused")

    def _enter_alone(self, alone: FairQueue[C], entered: C, max_queued: int) -> None:
        call = entered.call
        if not alone.has_free_slot and alone.waiting >= max_queued:
            self._refuse(entered, Full(alone.waiting, alone.retry_after()))
        elif alone.enter(entered, call.names, call.short, call.warmth):
            entered.start()
        else:
            entered.become("waiting")

    async def _remove(self, call: QueuedCall, seconds: float | None) -> C | None:
        """Remove a call that leaves; None: it is not there. See "Sockets" in CallQueue."""
        if seconds is None and call.may_start.is_set():
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
        if entered := self._calls.pop(call, None):
            del self._by_id[entered.id]
        return entered

    def _leave_alone(self, alone: FairQueue[C], entered: C, seconds: float | None) -> None:
        if seconds is not None:
            alone.record_duration(seconds)
        start_all(alone.leave(entered))

    def _resize_alone(self) -> None:
        if self._alone is not None:
            start_all(self._alone.resize(self._part))


def start_all(calls: Sequence[RemoteCall]) -> None:
    """Give a slot to each of them."""
    for call in calls:
        call.start()
