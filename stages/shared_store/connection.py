"""The connection to the store, and whether the store responds.

    state   call                              in the background
    -----   -------------------------------   --------------------------------------------------
    up      asks; lost after an error, or     each 5 s a heartbeat, which is a call, too; while a
            as stages/shared_store/           member waits for a message, a call after each
            script_sender.py says             `timeout` without one
    lost    raises StoreLostError at once     each second a new connection; up after the members'
                                              `on_connect`

So a store that does not respond delays a call once, for at most `timeout`. Each change of state is
logged once by each process, with its number: each has its own connection, and may lose it alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import anyio
from anyio.abc import TaskStatus
from attrs import Factory, define, field

from pipeline.task_groups import task_group
from stages.shared_store.client import (
    CONNECT_TIMEOUT,
    Script,
    ScriptCall,
    client_errors,
    load,
    make_client,
    reason_of,
)
from stages.shared_store.member import Member
from stages.shared_store.script_sender import ENDED, ScriptSender, StoreLostError

log = logging.getLogger("llm_proxy")

#: Seconds between two heartbeats. A process without one for three times as long does not count.
_HEARTBEAT = 5.0
_PORT = 6379
_STARTING = "it is being connected"


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

    `timeout` is in seconds, for each send: see ScriptSender. `consequence` says in the log what
    happens without the store.
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
    _sender: ScriptSender | None = None
    _lost: anyio.Event = Factory(anyio.Event)
    _since: float = 0.0
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
        if self._sender is None:
            raise StoreLostError(self.error or ENDED)
        return await self._sender.call(ScriptCall(script, keys, arguments))

    def _lose(self, sender: ScriptSender, reason: str) -> None:
        if sender is self._sender:
            self._sender = None
            self._lost.set()
            self._set_error(reason)

    def _set_error(self, error: str) -> None:
        """Change the state, and log the change."""
        was, self.error, now = self.error, error, anyio.current_time()
        if error and was in ("", _STARTING):
            self._since = now
            log.error(
                "store %s does not respond to process %d (%s): %s; "
                "check its server and the network",
                self.name,
                os.getpid(),
                error,
                self.consequence,
            )
        elif not error and was == _STARTING:
            log.info("limits, slots and circuit breakers are shared in the store %s", self.name)
        elif not error:
            seconds = now - self._since
            log.warning(
                "store %s responds to process %d again, after %.1f s",
                *(self.name, os.getpid(), seconds),
            )
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
                    sender = ScriptSender(client, group, self.timeout, self._lose)
                    try:
                        is_up = await self._open(sender)
                        has_tried()
                        if is_up:
                            for member in self.members:
                                group.start_soon(self._attend, member)
                            group.start_soon(self._watch, sender)
                            await self._keep()
                        group.cancel_scope.cancel()
                    finally:
                        sender.close()
                        self._sender = None
            except* client_errors() as errors:  # of the library's own tasks
                log.debug("connection to %s ended: %s", self.name, errors)
            if self.is_up:
                self._set_error(ENDED)
            await anyio.sleep(self.reconnect_after)

    async def _open(self, sender: ScriptSender) -> bool:
        """Use `sender` from now on, if it can connect."""
        client, missing = sender.client, "connection"
        try:
            with anyio.fail_after(CONNECT_TIMEOUT):
                await client.ping()
                missing = "subscription, for which its user needs the ACL rule `&llm-proxy:*`,"
                await sender.group.start(self._listen, sender)
                missing = "response to SCRIPT LOAD"
                await load(client, (_BEAT, *(s for member in self.members for s in member.scripts)))
            self._sender, self._lost = sender, anyio.Event()
            await self._beat()
            for member in self.members:
                await member.on_connect()
        except StoreLostError as error:
            self._set_error(str(error))
        except TimeoutError:
            self._set_error(f"no {missing} in {CONNECT_TIMEOUT:g} s")
        except client_errors() as error:
            self._set_error(reason_of(error))
        else:
            if self._sender is sender:  # not lost meanwhile
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

    async def _attend(self, member: Member) -> None:
        is_over = False
        while self.is_up and not is_over:  # a call of it may only be late
            with contextlib.suppress(StoreLostError):
                await member.attend()
                is_over = True

    async def _watch(self, sender: ScriptSender) -> None:
        while self.is_up:
            await self._waits.wait()
            self._waits = anyio.Event()
            while self.is_up and any(member.waits for member in self.members):
                heard = sender.heard
                await anyio.sleep(self.timeout)
                if sender.heard == heard:
                    with contextlib.suppress(StoreLostError):
                        await self.call(_ALIVE, [], [])

    async def _listen(self, sender: ScriptSender, *, task_status: TaskStatus[None]) -> None:
        """Receive messages, on a connection of its own."""
        started = False
        try:
            async with sender.client.connection_pool.acquire() as connection:
                channels = {channel for member in self.members for channel in member.channels}
                connection.send_command(b"SUBSCRIBE", *channels)
                async for kind, channel, data in connection.push_messages:
                    sender.heard = anyio.current_time()
                    if kind == b"message":
                        for member in self.members:
                            member.on_message(channel.decode(), data)
                    elif not started:
                        started = True
                        task_status.started()
        except client_errors() as error:
            if not started:
                raise
            self._lose(sender, reason_of(error))
