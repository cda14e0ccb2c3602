"""Connects a config to the coordinator: limits, queues, circuit breakers, health checks, page."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from pipeline.config.schema import Config
from proxy.backend_monitor import BackendMonitor
from proxy.coordinator import messages
from proxy.coordinator.call_queue import SharedCallQueue
from proxy.coordinator.limit_store import SharedLimitStore
from proxy.coordinator.link import Link
from proxy.coordinator.messages import FromCoordinator
from proxy.coordinator.page import SharedPage
from proxy.coordinator.shared_folder import SOCKET, lock_folder, remove_unless_locked
from stages.backends.call_queue import LocalCallQueue
from stages.backends.embedded_model import LocalModel
from stages.backends.session import strip_credentials
from stages.backends.shared_model import SharedModel
from stages.limits.memory import MemoryStore
from stages.page.parts import respond
from stages.routing.breaker import Breakers, Change

#: What `serve` says at start.
NOTE = (
    "the workers share `limits`, `max_concurrent_calls` and circuit breakers; "
    "`max_buffered_body_bytes` is for each worker"
)


@define(eq=False)
class Sharing:
    """What this worker shares with the others. There are `workers`; they share `folder`."""

    folder: Path
    workers: int
    link: Link = field(init=False)
    _limits: SharedLimitStore = field(init=False)
    _page: SharedPage = field(init=False)
    _queues: dict[str, SharedCallQueue] = field(factory=dict, init=False)
    _monitors: dict[str, BackendMonitor] = field(factory=dict, init=False)
    """By the name of the backend."""
    _breakers: Breakers = field(factory=Breakers, init=False)
    _lock: int = field(init=False)
    """The lock of the folder."""

    def __attrs_post_init__(self) -> None:
        self._lock = lock_folder(self.folder)
        self.link = Link(self.folder / SOCKET)
        self._limits = SharedLimitStore(self.link, self.workers)
        self._page = SharedPage(self.link, self.workers)
        self.link.members += [self, self._limits, self._page]

    def attach(self, config: Config) -> None:
        """Share the state of a config. Stores that other machines share are left alone."""
        sections = config.sections
        if "limits" in sections and isinstance(sections["limits"].store, MemoryStore):
            sections["limits"].store = self._limits
        for name, backend in sections["backends"].items():
            if isinstance(backend.queue, LocalCallQueue):
                key = f"{name} {strip_credentials(backend.profile.base_url)}"
                backend.queue = self._queue(key, backend.queue.slots)
            if isinstance(backend.embedded_model, LocalModel):
                backend.embedded_model = SharedModel(self.folder, backend.profile)
        sections["ui"].ask = self._page.ask
        self._page.respond = partial(respond, sections["ui"], sections["backends"])
        if sections["store"].connection is None:
            self._breakers = sections["circuit_breaker"]
            self._breakers.on_change = self._publish_breaker

    def add(self, monitor: BackendMonitor) -> None:
        """Share the health checks of a backend."""
        self._monitors[monitor.name] = monitor
        monitor.on_check = self._publish_health_check

    async def start(self, group: TaskGroup) -> None:
        """Connect, and stay connected until `group` is cancelled."""
        group.start_soon(self.link.run)
        await self.link.wait_at_start()

    def remove_folder(self) -> None:
        """Remove the folder, unless another worker uses it. The supervisor has died."""
        os.close(self._lock)
        remove_unless_locked(self.folder)

    def _queue(self, key: str, slots: int) -> SharedCallQueue:
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = SharedCallQueue(key, slots, self.link, self.workers)
        return queue

    def _publish_breaker(self, target: str, change: Change) -> None:
        self.link.send(messages.BreakerChange(target, change))

    def _publish_health_check(self, backend: str, error: str) -> None:
        self.link.send(messages.HealthCheck(backend, error))

    @property
    def waits(self) -> bool:
        """See Member."""
        return False

    def on_joined(self) -> None:
        """See Member."""

    def on_lost(self) -> None:
        """See Member."""
        self._breakers.release_probes()

    def on_message(self, message: FromCoordinator) -> None:
        """See Member."""
        if isinstance(message, messages.BreakerChange):
            now = anyio.current_time() - message.age
            self._breakers.apply(message.target, message.change, now)
        elif isinstance(message, messages.HealthCheck) and message.backend in self._monitors:
            self._monitors[message.backend].record(message.error)
