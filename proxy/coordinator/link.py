"""A worker's link to the coordinator.

    state    event                                next     effect
    ------   ----------------------------------   ------   ---------------------------------------
    lost     Welcome                              joined   calls resume, holds are renewed
    lost     a connection fails or ends           lost     a new one after RECONNECT seconds
    joined   a response within `timeout`          joined
    joined   no response within `timeout`, and    lost     the connection is closed; requests
             the supervisor is stopped                     without a response get None; calls go on
                                                           as in one process
    joined   no response within BUSY, the         lost     the same
             connection ends, ProtocolError
    joined   only waits, for `timeout`            joined   Ping, which needs a response, too

On a machine with too few cores, the coordinator may get no CPU for longer than `timeout`. Then an
exact limit is better than a fast response. Without /proc nobody knows whether a process is stopped.

Each change is logged once. All changes are synchronous, so no task sees a part of one. While the
supervisor is stopped, a request waits once, for `timeout`; later ones do not wait.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import anyio
from attrs import Factory, define, field

from pipeline.task_groups import task_group
from proxy.coordinator import messages
from proxy.coordinator.connection import Connection, ProtocolError
from proxy.coordinator.messages import FROM_COORDINATOR, FromCoordinator
from proxy.signals import supervisor_is_stopped

log = logging.getLogger("llm_proxy")

#: Seconds until a response has to be there, if the supervisor is stopped.
TIMEOUT = 0.05
#: Seconds until a response has to be there.
BUSY = 1.0
#: Seconds between two attempts to connect.
RECONNECT = 0.2
#: Seconds that a worker waits for the coordinator before it serves.
_START = 2.0
#: Messages that are kept while the link is lost. They are settlements.
_MAX_KEPT = 10_000


class Member(Protocol):
    """Something of this worker that is shared through the link."""

    @property
    def waits(self) -> bool:
        """Whether a message may come without a request."""

    def on_joined(self) -> None:
        """Send what the coordinator has to know."""

    def on_lost(self) -> None:
        """Go on alone."""

    def on_message(self, message: FromCoordinator) -> None:
        """Take a message that is not the response to a request."""


@define(eq=False)
class Link:
    """The connection to the coordinator that listens at `path`."""

    path: Path
    timeout: float = TIMEOUT
    is_stopped: Callable[[], bool] = supervisor_is_stopped
    pid: int = Factory(os.getpid)
    joined: anyio.Event = field(default=Factory(anyio.Event), init=False)
    """Set while the worker is joined."""
    members: list[Member] = field(factory=list, init=False)
    _connection: Connection[FromCoordinator] | None = field(default=None, init=False)
    _numbers: count[int] = field(factory=count, init=False)
    _requests: dict[int, Callable[[Any], None]] = field(factory=dict, init=False)
    """Each takes the response, or None when the link is lost."""
    _kept: deque[Any] = field(factory=lambda: deque(maxlen=_MAX_KEPT), init=False)
    _waits: anyio.Event = field(default=Factory(anyio.Event), init=False)
    _heard: bool = field(default=False, init=False)
    """Whether a message has come since the last Ping."""
    _loss_logged: bool = field(default=False, init=False)

    async def wait_at_start(self) -> None:
        """Wait until the worker is joined, but not for long."""
        with anyio.move_on_after(_START):
            await self.joined.wait()
        if not self.is_joined:
            self._log_loss("does not respond")

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        while True:
            if sock := self._connect():
                await self._attend(Connection(sock, FROM_COORDINATOR))
            await anyio.sleep(RECONNECT)

    def _connect(self) -> socket.socket | None:
        """Return a connected socket. None: no supervisor, a full backlog, too many open files."""
        sock = None
        try:
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            sock.connect(os.fspath(self.path))
        except OSError:
            if sock:
                sock.close()
            return None
        return sock

    async def _attend(self, connection: Connection[FromCoordinator]) -> None:
        async with connection.open(), task_group() as group:
            group.start_soon(self._watch)
            connection.send(messages.Hello(self.pid))
            try:
                while not connection.closed:
                    await connection.wait()
                    for message in connection.received():
                        self._take(message, connection)
            except ProtocolError as error:
                log.error("the coordinator sent no message: %s", error)
            self.lose("has closed the connection")
            group.cancel_scope.cancel()

    def request(self, message: Any, on_response: Callable[[Any], None]) -> None:
        """Send a message with a number of `number`. The worker is joined."""
        self._requests[message.n] = on_response
        self.send(message)

    def number(self) -> int:
        """A number for a request or a call."""
        return next(self._numbers)

    async def response(self, message: Any, wait: float = 0.0) -> Any:
        """Send a message, and return the response; None if the link is lost, or gets lost.

        The response may take `wait` seconds more than others.
        """
        if not self.is_joined:
            return None
        done = anyio.Event()
        responses: list[Any] = []

        def on_response(response: Any) -> None:
            responses.append(response)
            done.set()

        self.request(message, on_response)
        try:
            await self.in_time(done, wait)
        finally:
            self._requests.pop(message.n, None)
        return responses[0]

    async def in_time(self, done: anyio.Event, wait: float = 0.0) -> None:
        """Wait until `done` is set. Otherwise the link gets lost, which sets it."""
        for seconds in (self.timeout + wait, BUSY - self.timeout):
            with anyio.move_on_after(seconds):
                await done.wait()
            if not done.is_set():
                self.receive_now()  # this event loop may have been late
            if done.is_set():
                return
            if self.is_stopped():
                break
        self.lose("does not respond")

    @property
    def is_joined(self) -> bool:
        """Whether the coordinator responds."""
        return self._connection is not None

    def send(self, message: Any, keep: bool = False) -> None:
        """Send a message that needs no response. `keep`: send it later if the link is lost."""
        if self._connection is not None:
            self._connection.send(message)
        elif keep:
            self._kept.append(message)

    def offer(self, message: Any) -> None:
        """Send a message that may be dropped: see Connection."""
        if self._connection is not None:
            self._connection.offer(message)

    def receive_now(self) -> None:
        """Take the messages that are here."""
        connection = self._connection
        if connection is None:
            return
        try:
            for message in connection.received():
                self._take(message, connection)
        except ProtocolError as error:
            self.lose(f"sent no message: {error}")

    def watch(self) -> None:
        """Find out that the link is lost also without a request, as long as a member waits."""
        self._waits.set()

    def _take(self, message: FromCoordinator, connection: Connection[FromCoordinator]) -> None:
        if isinstance(message, messages.Welcome):
            self._join(connection)
        if self._connection is not connection:
            return
        self._heard = True
        if isinstance(message, messages.AdmitResult | messages.EnterResult | messages.Pong):
            if on_response := self._requests.pop(message.n, None):
                on_response(message)
        else:
            for member in self.members:
                member.on_message(message)

    def _join(self, connection: Connection[FromCoordinator]) -> None:
        if self._loss_logged:
            log.info("the coordinator responds again: the workers share limits and slots")
            self._loss_logged = False
        self._connection = connection
        for message in self._kept:
            connection.send(message)
        self._kept.clear()
        for member in self.members:
            member.on_joined()
        self.joined.set()

    def lose(self, reason: str) -> None:
        """Close the connection, and go on alone until there is a new one."""
        if self._connection is None:
            return
        self._log_loss(reason)
        self._connection.close()
        self._connection = None
        self.joined = anyio.Event()
        for member in self.members:
            member.on_lost()
        requests, self._requests = self._requests, {}
        for on_response in requests.values():
            on_response(None)

    def _log_loss(self, reason: str) -> None:
        log.warning("the coordinator %s: this worker counts limits and slots alone", reason)
        self._loss_logged = True

    async def _watch(self) -> None:
        while True:
            await self._waits.wait()
            self._waits = anyio.Event()
            while any(member.waits for member in self.members):
                self._heard = False
                await anyio.sleep(self.timeout)
                if not self._heard:
                    await self.response(messages.Ping(self.number()))
