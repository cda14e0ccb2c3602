"""Connects a config to the coordinator: its limits, queues, circuit breakers and health checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
from attrs import define, field

from pipeline.config.schema import Config
from proxy.coordinator import messages
from proxy.coordinator.call_queue import SharedCallQueue
from proxy.coordinator.limit_store import SharedLimitStore
from proxy.coordinator.link import Link
from proxy.coordinator.messages import FromCoordinator
from stages.backends.call_queue import LocalCallQueue
from stages.backends.session import strip_credentials
from stages.limits.memory import MemoryStore
from stages.routing.breaker import Breakers, Change

#: The name of the socket in the folder that the workers share.
SOCKET = "coordinator.sock"


@define(eq=False)
class Sharing:
    """What this worker shares with the `workers` of its machine. `run` keeps it connected.

    `on_health_check` gets the name of a backend, and the error of another worker's check.
    """

    path: Path
    workers: int
    on_health_check: Callable[[str, str], None] = field(
        default=lambda backend, error: None, init=False
    )
    link: Link = field(init=False)
    _limits: SharedLimitStore = field(init=False)
    _queues: dict[str, SharedCallQueue] = field(factory=dict, init=False)
    _breakers: Breakers = field(factory=Breakers, init=False)

    def __attrs_post_init__(self) -> None:
        self.link = Link(self.path)
        self._limits = SharedLimitStore(self.link, self.workers)
        self.link.members += [self, self._limits]

    def attach(self, config: Config) -> None:
        """Share the state of a config. Stores that other machines share are left alone."""
        sections = config.sections
        if "limits" in sections and isinstance(sections["limits"].store, MemoryStore):
            sections["limits"].store = self._limits
        for name, backend in sections["backends"].items():
            if isinstance(backend.queue, LocalCallQueue):
                key = f"{name} {strip_credentials(backend.profile.base_url)}"
                backend.queue = self._queue(key, backend.queue.slots)
        self._breakers = sections["circuit_breaker"]
        self._breakers.on_change = self._publish_breaker

    def publish_health_check(self, backend: str, error: str) -> None:
        """Send the result of a health check to the other workers."""
        self.link.send(messages.HealthCheck(backend, error))

    def _queue(self, key: str, slots: int) -> SharedCallQueue:
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = SharedCallQueue(self.link, key, slots, self.workers)
        return queue

    def _publish_breaker(self, target: str, change: Change) -> None:
        self.link.send(messages.BreakerChange(target, change))

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
        elif isinstance(message, messages.HealthCheck):
            self.on_health_check(message.backend, message.error)
