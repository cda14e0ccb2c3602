"""The coordinator: the limits and queues of all workers, in a thread of the supervisor.

It has the objects of a single process, so it decides as a single process does.

    a worker                            its calls and holds
    ---------------------------------   -----------------------------------------------------------
    sends a message                     see proxy/coordinator/messages.py
    disconnects, or is killed           running and waiting calls leave; holds are abandoned; its
                                        probes of targets are released
    sends what is not a message, or     it is disconnected, which is logged. It may connect again,
    does not read                       and then resumes its calls and renews its holds

A worker never waits for another one: `Connection.send` does not wait.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from anyio.abc import TaskGroup
from attrs import Factory, define, field

from pipeline.task_groups import task_group
from proxy.coordinator import messages
from proxy.coordinator.connection import Connection, ProtocolError
from proxy.coordinator.messages import FROM_WORKER, FromWorker
from stages.backends.call_queue import Full
from stages.backends.fair_queue import FairQueue
from stages.limits.memory import MemoryStore
from stages.limits.store import Refused

log = logging.getLogger("llm_proxy")

#: Seconds until the next attempt, after a connection could not be accepted.
_ACCEPT_AGAIN = 1.0


@define(eq=False)
class _Worker:
    """A worker that is connected. `pid` is 0 until its Hello."""

    connection: Connection[FromWorker]
    group: TaskGroup = field(init=False)
    pid: int = 0
    gone: anyio.Event = Factory(anyio.Event)
    calls: dict[int, _Queue] = Factory(dict)
    holds: set[str] = Factory(set)
    waits: dict[str, anyio.CancelScope] = Factory(dict)
    """By the hold of an `admit` that waits."""


_Queue = FairQueue[tuple[_Worker, int]]


@define(eq=False)
class Coordinator:
    """State of all workers. `serve` accepts them. `clock` is in seconds, monotonic."""

    store: MemoryStore = Factory(MemoryStore)
    clock: Callable[[], float] = anyio.current_time
    _workers: set[_Worker] = field(factory=set, init=False)
    _queues: dict[str, _Queue] = field(factory=dict, init=False)
    _opened: dict[str, float] = field(factory=dict, init=False)
    """When the circuit breaker of a target opened, while it is not closed."""
    _probes: dict[str, _Worker] = field(factory=dict, init=False)
    """By target, the worker that probes it."""
    _handlers: dict[type[Any], Callable[[_Worker, Any], Awaitable[None] | None]] = field(init=False)

    @_handlers.default
    def _make_handlers(self) -> dict[type[Any], Callable[[_Worker, Any], Awaitable[None] | None]]:
        return {
            messages.Hello: self._hello,
            messages.Admit: self._admit,
            messages.Settle: self._settle,
            messages.Renew: self._renew,
            messages.Enter: self._enter,
            messages.Resume: self._resume,
            messages.Leave: self._leave,
            messages.Resize: self._resize,
            messages.BreakerChange: self._change_breaker,
            messages.HealthCheck: self._relay,
            messages.PageQuery: self._query_page,
            messages.PagePart: self._send_part,
            messages.Ping: self._ping,
        }

    async def serve(self, listener: socket.socket) -> None:
        """Accept workers until cancelled. The caller closes `listener`."""
        listener.setblocking(False)
        async with task_group() as group:
            while True:
                await anyio.wait_readable(listener)
                try:
                    accepted, _ = listener.accept()
                except (BlockingIOError, ConnectionError):
                    continue
                except OSError as error:  # too many open files
                    log.error("the coordinator cannot accept a worker: %s", error.strerror)
                    await anyio.sleep(_ACCEPT_AGAIN)
                    continue
                group.start_soon(self.attend, accepted)

    async def attend(self, sock: socket.socket) -> None:
        """Serve one worker until it disconnects."""
        connection = Connection(sock, FROM_WORKER)
        async with connection.open():
            worker = _Worker(connection)
            try:
                async with task_group() as worker.group:
                    await self._receive(worker)
                    worker.group.cancel_scope.cancel()
            finally:  # none of its tasks is running now
                self._drop(worker)

    async def _receive(self, worker: _Worker) -> None:
        try:
            while not worker.connection.closed:
                await worker.connection.wait()
                for message in worker.connection.received():
                    result = self._handlers[type(message)](worker, message)
                    if result is not None:
                        await result
        except ProtocolError as error:
            log.error("worker %d is disconnected from the coordinator: %s", worker.pid, error)

    def _drop(self, worker: _Worker) -> None:
        worker.gone.set()
        self._workers.discard(worker)
        for call in reversed([*worker.calls]):  # those that wait are among the last
            self._remove(worker, call)
        for hold in worker.holds:
            self.store.abandon(hold)
        for target in [target for target, owner in self._probes.items() if owner is worker]:
            self._change_breaker(worker, messages.BreakerChange(target, "released"))

    async def _hello(self, worker: _Worker, message: messages.Hello) -> None:
        if worker.pid:
            raise ProtocolError("a second Hello")
        worker.pid = message.pid
        for earlier in [other for other in self._workers if other.pid == message.pid]:
            await earlier.gone.wait()  # it has closed that connection
        worker.connection.send(messages.Welcome())
        now = self.clock()
        for target, since in self._opened.items():
            worker.connection.send(messages.BreakerChange(target, "opened", now - since))
        for target in self._probes:
            worker.connection.send(messages.BreakerChange(target, "probing"))
        self._workers.add(worker)

    def _ping(self, worker: _Worker, message: messages.Ping) -> None:
        worker.connection.send(messages.Pong(message.n))

    # Limits.

    async def _admit(self, worker: _Worker, message: messages.Admit) -> None:
        worker.holds.add(message.hold)
        if message.wait > 0:
            scope = worker.waits[message.hold] = anyio.CancelScope()
            worker.group.start_soon(self._admit_after_wait, worker, message, scope)
        else:
            await self._answer_admit(worker, message)

    async def _admit_after_wait(
        self, worker: _Worker, message: messages.Admit, scope: anyio.CancelScope
    ) -> None:
        with scope:
            await self._answer_admit(worker, message)
        if scope.cancel_called:  # it may have been admitted at that moment
            await self.store.settle(message.hold, [0.0] * len(message.wants))
        if worker.waits.get(message.hold) is scope:
            del worker.waits[message.hold]

    async def _answer_admit(self, worker: _Worker, message: messages.Admit) -> None:
        wants, amounts = message.wants, message.amounts
        result = await self.store.admit(message.hold, wants, amounts, message.wait)
        if isinstance(result, Refused):
            worker.holds.discard(message.hold)
            response = messages.AdmitResult(
                message.n, result.levels, result.want, result.retry_after, result.used_up
            )
        else:
            response = messages.AdmitResult(message.n, result.levels)
        worker.connection.send(response)

    async def _settle(self, worker: _Worker, message: messages.Settle) -> None:
        worker.holds.discard(message.hold)
        if scope := worker.waits.pop(message.hold, None):
            scope.cancel()
        try:
            await self.store.settle(message.hold, message.used)
        except ValueError as error:
            raise ProtocolError(str(error)) from error

    async def _renew(self, worker: _Worker, message: messages.Renew) -> None:
        worker.holds.add(message.hold)
        await self.store.renew(message.hold)

    # Queues.

    def _enter(self, worker: _Worker, message: messages.Enter) -> None:
        queue = self._queue(worker, message.queue, message.slots, message.call)
        full, started = None, False
        is_full = queue.waiting >= message.max_queued and not queue.may_start(message.warmth)
        if is_full:
            self._start(queue.end_holds())
        if is_full and queue.waiting >= message.max_queued and not queue.has_free_slot:
            full = Full(queue.waiting, queue.retry_after())
        else:
            worker.calls[message.call] = queue
            call = worker, message.call
            started = queue.enter(call, message.names, message.short, message.warmth)
        response = messages.EnterResult(message.n, started, full, queue.retry_after())
        worker.connection.send(response)
        if not started:
            self._start(queue.end_holds())

    def _resume(self, worker: _Worker, message: messages.Resume) -> None:
        queue = self._queue(worker, message.queue, message.slots, message.call)
        worker.calls[message.call] = queue
        queue.resume((worker, message.call))

    def _leave(self, worker: _Worker, message: messages.Leave) -> None:
        queue = worker.calls.get(message.call)
        if queue and message.seconds is not None:
            queue.record_duration(message.seconds)
        self._remove(worker, message.call, message.hold)

    def _resize(self, worker: _Worker, message: messages.Resize) -> None:
        self._queue(worker, message.queue, message.slots)

    def _queue(self, worker: _Worker, name: str, slots: int, new_call: int | None = None) -> _Queue:
        """The queue of that name, with that number of slots."""
        if new_call in worker.calls:
            raise ProtocolError("a call is there already")
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = FairQueue(slots, self.clock)
        elif queue.slots != slots:
            self._start(queue.resize(slots))
        return queue

    def _remove(self, worker: _Worker, call: int, hold: float = 0.0) -> None:
        queue = worker.calls.pop(call, None)
        if queue is None or (worker, call) not in queue:  # another call got its reserved slot
            return
        self._start(queue.leave((worker, call), hold))
        if (worker, call) in queue:
            worker.calls[call] = queue
            worker.group.start_soon(self._end_hold, worker, call, hold)

    async def _end_hold(self, worker: _Worker, call: int, hold: float) -> None:
        await anyio.sleep(hold)
        self._remove(worker, call)

    def _start(self, calls: list[tuple[_Worker, int]]) -> None:
        for worker, call in calls:
            worker.connection.send(messages.Start(call))

    # Circuit breakers and health checks.

    def _change_breaker(self, worker: _Worker, message: messages.BreakerChange) -> None:
        target = message.target
        if message.change == "probing":
            self._probes[target] = worker
        else:
            self._probes.pop(target, None)
        if message.change == "opened":
            self._opened[target] = self.clock()
        elif message.change == "closed":
            self._opened.pop(target, None)
        self._relay(worker, message)

    def _relay(
        self, worker: _Worker, message: messages.BreakerChange | messages.HealthCheck
    ) -> None:
        for other in self._workers:
            if other is not worker:
                other.connection.send(message)

    # The page.

    def _query_page(self, worker: _Worker, message: messages.PageQuery) -> None:
        others = [other for other in self._workers if other is not worker]
        pids = tuple(other.pid for other in others)
        worker.connection.send(messages.PageWorkers(message.n, pids))
        for other in others:
            other.connection.offer(message)

    def _send_part(self, worker: _Worker, message: messages.PagePart) -> None:
        for other in self._workers:
            if other.pid == message.to:
                other.connection.offer(message)
