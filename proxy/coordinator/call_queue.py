"""The CallQueue of a worker: a queue of the coordinator, or its own while the link is lost.

    a call is   EnterResult            Start     lost                     joined
    ---------   --------------------   -------   ----------------------   ------------------
    entering    running, waiting, or             as `enter` in one
                Full                             process
    waiting                            running   the same, without Full   entering, without
                                                                          Full
    running                                      running                  running: Resume

While the link is lost, each worker has its part of the slots, at least one. Then as many calls run
at most; and those that ran before.
"""

from __future__ import annotations

import sys
from typing import Literal

import anyio
import anyio.lowlevel
from attrs import define, field

from proxy.coordinator import messages
from proxy.coordinator.link import Link
from proxy.coordinator.messages import FromCoordinator
from stages.backends.call_queue import Full, QueuedCall
from stages.backends.fair_queue import FairQueue

#: Characters of the names of clients and sessions in messages.
_MAX_NAME = 200


@define(eq=False)
class _Call:
    call: QueuedCall
    number: int
    max_queued: int
    state: Literal["entering", "waiting", "running"] = "entering"
    answered: anyio.Event = field(factory=anyio.Event)
    """Set when it is no longer entering."""
    full: Full | None = None

    def start(self) -> None:
        self.state = "running"
        self.call.may_start.set()
        self.answered.set()


@define(eq=False)
class SharedCallQueue:
    """See CallQueue. `name` is that of the coordinator's queue."""

    link: Link
    name: str
    slots: int
    workers: int
    _calls: dict[QueuedCall, _Call] = field(factory=dict, init=False)
    _by_number: dict[int, _Call] = field(factory=dict, init=False)
    _alone: FairQueue[_Call] | None = field(default=None, init=False)
    """While the link is lost."""
    _retry_after: int = field(default=5, init=False)

    def __attrs_post_init__(self) -> None:
        self.link.members.append(self)
        if not self.link.is_joined:
            self.on_lost()

    @property
    def running(self) -> int:
        """See CallQueue."""
        return sum(each.state == "running" for each in self._calls.values())

    @property
    def waiting(self) -> int:
        """See CallQueue."""
        return len(self._calls) - self.running

    async def enter(self, call: QueuedCall, max_queued: int) -> Full | None:
        """See CallQueue."""
        entering = _Call(call, self.link.number(), max_queued)
        self._calls[call] = self._by_number[entering.number] = entering
        self._enter(entering, max_queued)
        if not entering.answered.is_set():
            await self.link.in_time(entering.answered)
        return entering.full

    async def leave(self, call: QueuedCall, seconds: float | None = None) -> None:
        """See CallQueue."""
        if seconds is None and call.may_start.is_set():
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
        entered = self._calls.pop(call, None)
        if entered is None:
            return
        del self._by_number[entered.number]
        if self._alone is None:
            self.link.send(messages.Leave(entered.number, seconds, call.hold))
        elif entered in self._alone:
            if seconds is not None:
                self._alone.record_duration(seconds)
            _start(self._alone.leave(entered))

    def retry_after(self) -> int:
        """See CallQueue."""
        return self._retry_after if self._alone is None else self._alone.retry_after()

    def resize(self, slots: int) -> None:
        """See CallQueue."""
        self.slots = slots
        self.link.send(messages.Resize(self.name, slots))
        if self._alone is not None:
            _start(self._alone.resize(self._part))

    @property
    def _part(self) -> int:
        return max(1, self.slots // self.workers)

    def _enter(self, entering: _Call, max_queued: int) -> None:
        if self._alone is not None:
            self._enter_alone(self._alone, entering, max_queued)
            return
        call = entering.call
        names = (call.names[0][:_MAX_NAME], call.names[1][:_MAX_NAME])
        message = messages.Enter(
            *(self.link.number(), self.name, self.slots, entering.number, names),
            *(call.short, max_queued, call.warmth),
        )

        def on_response(response: messages.EnterResult | None) -> None:
            if response is not None:
                self._on_result(entering, response)

        self.link.request(message, on_response)

    def _on_result(self, entering: _Call, response: messages.EnterResult) -> None:
        self._retry_after = response.retry_after
        if response.started:
            entering.start()
        elif response.full:
            self._refuse(entering, response.full)
        else:
            self._wait(entering)

    def _enter_alone(self, queue: FairQueue[_Call], entering: _Call, max_queued: int) -> None:
        call = entering.call
        if not queue.has_free_slot and queue.waiting >= max_queued:
            self._refuse(entering, Full(queue.waiting, queue.retry_after()))
        elif queue.enter(entering, call.names, call.short, call.warmth):
            entering.start()
        else:
            self._wait(entering)

    def _refuse(self, entering: _Call, full: Full) -> None:
        entering.full = full
        self._calls.pop(entering.call, None)
        self._by_number.pop(entering.number, None)
        entering.answered.set()

    def _wait(self, entering: _Call) -> None:
        entering.state = "waiting"
        entering.answered.set()
        self.link.watch()

    @property
    def waits(self) -> bool:
        """See Member."""
        return self._alone is None and self.waiting > 0

    def on_joined(self) -> None:
        """See Member."""
        self._alone = None
        for entered in self._calls.values():
            if entered.state == "running":
                self.link.send(messages.Resume(self.name, self.slots, entered.number))
        for entered in self._calls.values():
            if entered.state != "running":
                self._enter(entered, sys.maxsize)

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

    def on_message(self, message: FromCoordinator) -> None:
        """See Member."""
        if isinstance(message, messages.Start) and (entered := self._by_number.get(message.call)):
            entered.start()


def _start(calls: list[_Call]) -> None:
    for call in calls:
        call.start()
