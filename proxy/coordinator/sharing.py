"""Connects a config to the coordinator: its limits, queues, circuit breakers and health checks.

The folder of the workers has the coordinator's socket, the metrics, and the sockets of embedded
models; see stages/backends/shared_model.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
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
from stages.backends.call_queue import LocalCallQueue
from stages.backends.embedded_model import LocalModel
from stages.backends.session import strip_credentials
from stages.backends.shared_model import MAX_NAME, SharedModel
from stages.limits.memory import MemoryStore
from stages.routing.breaker import Breakers, Change

#: The name of the socket in the folder that the workers share.
SOCKET = "sock"
#: Bytes of a socket's path, with the zero at its end: 108 on Linux, 104 on macOS and BSD.
_MAX_PATH = 104
#: What `serve` says at start.
NOTE = (
    "the workers share `limits`, `max_concurrent_calls` and circuit breakers; "
    "`max_buffered_body_bytes` is for each worker"
)


def make_folder() -> tempfile.TemporaryDirectory[str]:
    """Make the folder that the workers share, which only this user can open. Raises OSError.

    It is in TMPDIR, but in /tmp if the paths of its sockets would be too long there.
    """
    prefix = "llm-proxy-"
    folder = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
    if len(os.fsencode(folder.name)) + len("/") + MAX_NAME >= _MAX_PATH:
        folder.cleanup()
        return tempfile.TemporaryDirectory(prefix=prefix, dir="/tmp", ignore_cleanup_errors=True)
    return folder


@define(eq=False)
class Sharing:
    """What this worker shares with the `workers` of its machine."""

    path: Path
    workers: int
    link: Link = field(init=False)
    _limits: SharedLimitStore = field(init=False)
    _queues: dict[str, SharedCallQueue] = field(factory=dict, init=False)
    _monitors: dict[str, BackendMonitor] = field(factory=dict, init=False)
    """By the name of the backend."""
    _breakers: Breakers = field(factory=Breakers, init=False)
    _folder: int = field(init=False)
    """The folder, which each worker locks for reading."""

    def __attrs_post_init__(self) -> None:
        self._folder = os.open(self.path.parent, os.O_RDONLY)
        fcntl.flock(self._folder, fcntl.LOCK_SH)
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
            if isinstance(backend.embedded_model, LocalModel):
                backend.embedded_model = SharedModel(self.path.parent, backend.profile)
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
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(self.path.parent, ignore_errors=True)

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
