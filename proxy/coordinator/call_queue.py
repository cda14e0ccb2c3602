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

import anyio
from attrs import define, field

from proxy.coordinator import messages
from proxy.coordinator.link import Link
from proxy.coordinator.messages import FromCoordinator
from stages.backends.call_queue import Full, QueuedCall
from stages.backends.remote_call_queue import RemoteCall, RemoteCallQueue, State

#: Characters of the names of clients and sessions in messages.
_MAX_NAME = 200


@define(eq=False)
class _Call(RemoteCall):
    answered: anyio.Event = field(factory=anyio.Event, init=False)
    """Set when it is no longer entering."""

    def become(self, state: State) -> None:
        """Change the state."""
        self.state = state
        self.answered.set()


@define(eq=False)
class SharedCallQueue(RemoteCallQueue[_Call]):
    """See CallQueue. `name` is that of the coordinator's queue."""

    link: Link
    workers: int

    def __attrs_post_init__(self) -> None:
        self.link.members.append(self)
        if not self.link.is_joined:
            self.on_lost()

    async def enter(self, call: QueuedCall, max_queued: int) -> Full | None:
        """See CallQueue."""
        entering = _Call(call, self.link.number(), max_queued)
        self._add(entering)
        self._enter(entering, max_queued)
        if not entering.answered.is_set():
            await self.link.in_time(entering.answered)
        return entering.full

    async def leave(self, call: QueuedCall, seconds: float | None = None) -> None:
        """See CallQueue."""
        entered = await self._remove(call, seconds)
        if entered is None:
            return
        if self._alone is None:
            self.link.send(messages.Leave(entered.id, seconds, call.hold))
        else:
            self._leave_alone(self._alone, entered, seconds)

    def resize(self, slots: int) -> None:
        """See CallQueue."""
        self.slots = slots
        self.link.send(messages.Resize(self.name, slots))
        self._resize_alone()

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
            *(self.link.number(), self.name, self.slots, entering.id, names),
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
            entering.become("waiting")
            self.link.watch()

    def on_joined(self) -> None:
        """See Member."""
        self._alone = None
        for entered in self._calls.values():
            if entered.state == "running":
                self.link.send(messages.Resume(self.name, self.slots, entered.id))
        for entered in self._calls.values():
            if entered.state != "running":
                self._enter(entered, sys.maxsize)

    def on_message(self, message: FromCoordinator) -> None:
        """See Member."""
        if isinstance(message, messages.Start) and (entered := self._by_id.get(message.call)):
            entered.start()
