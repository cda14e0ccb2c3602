"""Openings of circuit breakers in Valkey or Redis, for all processes that use it.

    event                       effect
    -------------------------   ------------------------------------------------------------------
    a breaker changes           breaker.lua sends the change to the other processes, later: no
                                request waits for it
    a process connects          breaker.lua returns the breakers that are open now
    the store is lost           each process goes on with its own breakers; changes are dropped
    a process dies in a probe   the others allow a probe after the cool-down
    two probes begin at once    both are sent

A target is known by its label and by its backend's identity, so another config is no problem.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import partial

import anyio
import msgspec
from attrs import Factory, define, field

from stages.routing.breaker import Breakers, Change
from stages.shared_store.client import Script, load_script
from stages.shared_store.connection import Connection
from stages.shared_store.member import Member

_SCRIPT = load_script("stages.routing", "breaker")
_KEY = _CHANNEL = "llm-proxy:breakers"
#: Changes that wait to be sent; beyond, the oldest are dropped.
_MAX_UNSENT = 1_000


class _Message(msgspec.Struct, array_like=True):
    process: str
    target: str
    change: Change


_DECODER = msgspec.json.Decoder(_Message)


@define(eq=False)
class RedisBreakers(Member):
    """Shares the changes of `breakers`, which a reload replaces by `attach`."""

    connection: Connection
    _breakers: Breakers = Factory(Breakers)
    _labels: Mapping[str, str] = field(factory=dict, init=False)
    """Of targets in this config, by their names in the store."""
    _unsent: deque[tuple[str, Change]] = field(init=False)
    _has_unsent: anyio.Event = field(default=Factory(anyio.Event), init=False)

    @_unsent.default
    def _make_unsent(self) -> deque[tuple[str, Change]]:
        return deque(maxlen=_MAX_UNSENT)

    @property
    def scripts(self) -> tuple[Script, ...]:
        """See Member."""
        return (_SCRIPT,)

    @property
    def channels(self) -> tuple[str, ...]:
        """See Member."""
        return (_CHANNEL,)

    def attach(self, breakers: Breakers, identities: Mapping[str, str]) -> None:
        """Share these breakers. `identities`: of each target's backend, by the target's label."""
        self._labels = {f"{label} {identity}": label for label, identity in identities.items()}
        self._breakers = breakers
        names = {label: name for name, label in self._labels.items()}
        breakers.on_change = partial(self._publish, names)

    def _publish(self, names: Mapping[str, str], label: str, change: Change) -> None:
        if label in names and not self.connection.is_lost:
            self._unsent.append((names[label], change))
            self._has_unsent.set()

    async def on_connect(self) -> None:
        """See Member. Open the breakers that are open in the store."""
        for target, seconds in await self._call("", ""):
            if label := self._labels.get(target.decode()):
                since = anyio.current_time() + float(seconds) - self._breakers.cooldown
                self._breakers.apply(label, "opened", since)

    def on_lost(self) -> None:
        """See Member."""
        self._unsent.clear()
        self._breakers.release_probes()

    def on_message(self, channel: str, data: bytes) -> None:
        """See Member."""
        if channel != _CHANNEL:
            return
        try:
            message = _DECODER.decode(data)
        except msgspec.MsgspecError:  # of another version of the proxy
            return
        label = self._labels.get(message.target)
        if label and message.process != self.connection.id:
            self._breakers.apply(label, message.change, anyio.current_time())

    async def attend(self) -> None:
        """See Member. Send changes."""
        while True:
            await self._has_unsent.wait()
            self._has_unsent = anyio.Event()
            while self._unsent:
                target, change = self._unsent.popleft()
                message = _Message(self.connection.id, target, change)
                await self._call(target, change, msgspec.json.encode(message))

    async def _call(self, target: str, change: str, message: bytes = b"") -> list[list[bytes]]:
        arguments = (target, change, self._breakers.cooldown, _CHANNEL, message)
        result: list[list[bytes]] = await self.connection.call(_SCRIPT, [_KEY], arguments)
        return result
