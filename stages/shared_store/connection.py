"""The connection to the store, and whether the store responds.

    state   call                              in the background
    -----   -------------------------------   --------------------------------------------------
    up      asks; lost after an error, or     each 5 s a heartbeat, which is a call, too; while a
            after `timeout` without response  member waits for a message, a call after each
                                              `timeout` without one
    lost    raises StoreLostError at once     each second a new connection; up after the members'
                                              `on_connect`

So a store that does not respond delays a call once, for at most `timeout`. Each change of state is
logged once.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
from anyio.abc import TaskGroup, TaskStatus
from attrs import Factory, define, field

from pipeline.task_groups import task_group
from pipeline.timers import delayed
from stages.shared_store.client import (
    CONNECT_TIMEOUT,
    Script,
    client_errors,
    evaluate,
    make_client,
    reason_of,
)
from stages.shared_store.member import Member

if TYPE_CHECKING:
    from coredis import Redis

log = logging.getLogger("llm_proxy")

#: Seconds between two heartbeats. A process without one for three times as long does not count.
_HEARTBEAT = 5.0
_PORT = 6379
#: The part of a timeout that is one wait, and the number of waits in the rest.
_FIRST, _WAITS = 0.2, 8
#: Timeouts that a call may take in a burst of calls, while there are responses to others.
_BURST = 10
#: Calls in flight; others wait. coredis sends nothing as long as each turn of the event loop adds a
#: call, so a burst of calls would get no response.
_MAX_CALLS = 16
_STARTING = "it is being connected"


class StoreLostError(Exception):
    """The store does not respond. The call may have had its effect."""


_BEAT = Script(
    """
    local now = tonumber(redis.call('TIME')[1])
    redis.call('ZADD', KEYS[1], now, ARGV[1])
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
    redis.call('EXPIRE', KEYS[1], ARGV[2])
    return redis.call('ZCARD', KEYS[1])
    """
)
_PROCESSES = "llm-proxy:processes"
_ALIVE = Script("return 1")


@define(eq=False)
class Connection:
    """Calls scripts of the store at `url`. `run` connects, and keeps the connection.

    `timeout` is in seconds, for each call. `consequence` says in the log what happens without the
    store.
    """

    url: str = field(repr=False)
    timeout: float = 0.05
    consequence: str = ""
    reconnect_after: float = 1.0
    """Seconds between two attempts to connect."""
    error: str = _STARTING
    """Why the store does not respond; empty if it does."""
    processes: int = 1
    """The processes with a connection at the last heartbeat, this one included."""
    members: list[Member] = Factory(list)
    """Complete before `run`."""
    id: str = Factory(lambda: secrets.token_hex(8))
    """The name of this process in the store."""
    _client: Redis[bytes] | None = None
    _lost: anyio.Event = Factory(anyio.Event)
    _since: float = 0.0
    _in_flight: anyio.Semaphore = Factory(lambda: anyio.Semaphore(_MAX_CALLS, fast_acquire=True))
    _heard: float = 0.0
    """When the latest response or message came."""
    _waits: anyio.Event = Factory(anyio.Event)

    @property
    def is_up(self) -> bool:
        """Whether calls reach the store."""
        return not self.error

    @property
    def is_lost(self) -> bool:
        """Whether calls failed to reach the store. It is not lost before the first attempt."""
        return self.error not in ("", _STARTING)

    @property
    def name(self) -> str:
        """The URL without user, password and query."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}:{parts.port or _PORT}{parts.path}"

    async def call(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script. Raises StoreLostError.

        The caller may repeat a call that raised, so a script must allow repetition.
        """
        async with self._in_flight:
            client = self._client
            if client is None:
                raise StoreLostError(self.error)
            return await self._send(client, script, keys, arguments)

    async def _send(
        self, client: Redis[bytes], script: Script, keys: Sequence[str], arguments: Sequence[Any]
    ) -> Any:
        reason = f"no response in {self.timeout * 1000:g} ms"
        with anyio.CancelScope() as scope:
            give_up = partial(self._give_up, scope, anyio.current_time())
            timer = delayed(self.timeout * _FIRST, give_up)
            try:
                result = await evaluate(client, script, keys, arguments)
                self._heard = timer.now()
                return result
            except client_errors() as error:
                reason = reason_of(error)
            finally:
                await timer.stop()
        self._lose(client, reason)
        raise StoreLostError(reason)

    async def _give_up(self, scope: anyio.CancelScope, started: float) -> None:
        """Cancel a call when the store is silent.

        A burst of calls may need more than the timeout. As long as there are responses to any of
        them, the store is not lost. Short waits are counted, not seconds: an event loop that is
        late itself may not have sent the call, or not have read the response. A wait that took
        twice its time does not count: this process, and maybe the store, got no CPU.
        """
        heard, waits, end = self._heard, 0, started + self.timeout * _BURST
        wait, before = self.timeout * (1 - _FIRST) / _WAITS, anyio.current_time()
        while waits < _WAITS and before < end:
            await anyio.sleep(wait)
            now = anyio.current_time()
            if self._heard != heard:
                waits = 0
            elif now - before <= 2 * wait:
                waits += 1
            heard, before = self._heard, now
        scope.cancel()

    def _lose(self, client: Redis[bytes], reason: str) -> None:
        if client is self._client:
            self._client = None
            self._lost.set()
            self._set_error(reason)

    def _set_error(self, error: str) -> None:
        """Change the state, and log the change."""
        was, self.error, now = self.error, error, anyio.current_time()
        if error and was in ("", _STARTING):
            self._since = now
            log.error(
                "store %s does not respond (%s): %s; check its server and the network",
                self.name,
                error,
                self.consequence,
            )
        elif not error and was == _STARTING:
            log.info("limits, slots and circuit breakers are shared in the store %s", self.name)
        elif not error:
            log.warning("store %s responds again, after %.1f s", self.name, now - self._since)
        if error and was in ("", _STARTING):
            for member in self.members:
                member.on_lost()

    def watch(self) -> None:
        """Notice that the store is silent also without a call, as long as a member waits."""
        self._waits.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep a connection until cancelled. It has started after the first attempt to connect."""
        started = False

        def has_tried() -> None:
            nonlocal started
            if not started:
                task_status.started()
            started = True

        while True:
            try:
                async with make_client(self.url) as client, task_group() as group:
                    is_up = await self._open(client, group)
                    has_tried()
                    if is_up:
                        for member in self.members:
                            group.start_soon(self._attend, member)
                        group.start_soon(self._watch)
                        await self._keep()
                    group.cancel_scope.cancel()
            except* client_errors() as errors:  # of the library's own tasks
                log.debug("connection to %s ended: %s", self.name, errors)
            await anyio.sleep(self.reconnect_after)

    async def _open(self, client: Redis[bytes], group: TaskGroup) -> bool:
        """Use `client` from now on, if it can connect."""
        try:
            with anyio.fail_after(CONNECT_TIMEOUT):
                await client.ping()
                await group.start(self._listen, client)
                for script in (_BEAT, *(s for member in self.members for s in member.scripts)):
                    await client.script_load(script.text)
            self._client, self._lost = client, anyio.Event()
            await self._beat()
            for member in self.members:
                await member.on_connect()
        except StoreLostError as error:
            self._set_error(str(error))
        except TimeoutError:
            self._set_error(f"no connection in {CONNECT_TIMEOUT:g} s")
        except client_errors() as error:
            self._set_error(reason_of(error))
        else:
            if self._client is client:  # not lost meanwhile
                self._set_error("")
        return self.is_up

    async def _keep(self) -> None:
        """Send heartbeats until the connection is lost."""
        while self.is_up:
            with anyio.move_on_after(_HEARTBEAT):
                await self._lost.wait()
            if self.is_up:
                with contextlib.suppress(StoreLostError):
                    await self._beat()
        await anyio.sleep(self.timeout)  # until the calls in flight have ended

    async def _beat(self) -> None:
        self.processes = await self.call(_BEAT, [_PROCESSES], [self.id, int(3 * _HEARTBEAT)])

    @staticmethod
    async def _attend(member: Member) -> None:
        with contextlib.suppress(StoreLostError):
            await member.attend()

    async def _watch(self) -> None:
        with contextlib.suppress(StoreLostError):
            while True:
                await self._waits.wait()
                self._waits = anyio.Event()
                while any(member.waits for member in self.members):
                    heard = self._heard
                    await anyio.sleep(self.timeout)
                    if self._heard == heard:
                        await self.call(_ALIVE, [], [])

    async def _listen(self, client: Redis[bytes], *, task_status: TaskStatus[None]) -> None:
        """Receive messages, on a connection of its own."""
        started = False
        try:
            async with client.connection_pool.acquire() as connection:
                channels = {channel for member in self.members for channel in member.channels}
                connection.send_command(b"SUBSCRIBE", *channels)
                async for kind, channel, data in connection.push_messages:
                    self._heard = anyio.current_time()
                    if kind == b"message":
                        for member in self.members:
                            member.on_message(channel.decode(), data)
                    elif not started:
                        started = True
                        task_status.started()
        except client_errors() as error:
            if not started:
                raise
            self._lose(client, reason_of(error))
