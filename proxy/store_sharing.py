"""Connects a config to the store: its queues and circuit breakers. `limits` connects itself."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

import anyio
from attrs import define, field

from pipeline.config.schema import Config
from stages.backends.backend import Backend
from stages.backends.call_queue import LocalCallQueue
from stages.backends.redis_call_queue import SCRIPTS, RedisCallQueue
from stages.backends.session import strip_credentials
from stages.routing.redis_breakers import RedisBreakers
from stages.shared_store.client import Script
from stages.shared_store.connection import Connection
from stages.shared_store.member import Member
from stages.shared_store.section import Store

#: Seconds between two renewals of waiting calls.
_RENEW = 1.0


@define(eq=False)
class StoreSharing(Member):
    """What this process shares with all processes that use the store.

    `host` is the name of this machine.
    """

    store: Store
    connection: Connection
    host: str = field(factory=socket.gethostname)
    _breakers: RedisBreakers = field(init=False)
    _queues: dict[str, RedisCallQueue] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._breakers = RedisBreakers(self.connection)
        self.connection.members += [self, self._breakers]

    @classmethod
    def of(cls, config: Config) -> StoreSharing | None:
        """Return that of a config; None without a store."""
        store: Store = config.sections["store"]
        return cls(store, store.connection) if store.connection else None

    def attach(self, config: Config) -> None:
        """Share the state of a config. An embedded model belongs to its machine."""
        sections = config.sections
        backends: dict[str, Backend] = sections["backends"]
        for name, backend in backends.items():
            if isinstance(backend.queue, LocalCallQueue) and not backend.profile.embedded:
                queue = self.queue(self._identity(name, backend), backend.queue.slots)
                backend.queue = queue
        identities = {
            target.label: self._identity(target.backend, backends[target.backend])
            for entry in sections["models"].values()
            for target in entry.targets
            if not backends[target.backend].profile.embedded
        }
        self._breakers.attach(sections["circuit_breaker"], identities)

    def queue(self, name: str, slots: int) -> RedisCallQueue:
        """Return the queue with that name in the store."""
        queue = self._queues.get(name)
        if queue is None:
            on_loss, lease = self.store.on_loss, self.store.lease
            queue = self._queues[name] = RedisCallQueue(
                name, slots, self.connection, on_loss, lease
            )
        return queue

    def _identity(self, name: str, backend: Backend) -> str:
        """Return the same text in all processes that call the same server by the same name."""
        url = strip_credentials(backend.profile.base_url)
        return f"{name} {url} {self.host}" if _is_loopback(url) else f"{name} {url}"

    @property
    def scripts(self) -> tuple[Script, ...]:
        """See Member."""
        return SCRIPTS

    @property
    def channels(self) -> tuple[str, ...]:
        """See Member."""
        return (f"llm-proxy:calls:{self.connection.id}",)

    @property
    def waits(self) -> bool:
        """See Member."""
        return any(queue.waits for queue in self._queues.values())

    async def on_connect(self) -> None:
        """See Member."""
        for queue in [*self._queues.values()]:
            await queue.on_connect()

    def on_lost(self) -> None:
        """See Member."""
        for queue in self._queues.values():
            queue.on_lost()

    def on_message(self, channel: str, data: bytes) -> None:
        """See Member. A call has started."""
        if channel in self.channels:
            for queue in self._queues.values():
                queue.on_start(data.decode(errors="replace"))

    async def attend(self) -> None:
        """See Member. Renew the leases of calls."""
        while True:
            await anyio.sleep(min(_RENEW, self.store.lease / 3))
            for queue in [*self._queues.values()]:
                await queue.renew_due()


def _is_loopback(url: str) -> bool:
    """Whether each machine, or container, has its own server at this URL."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
