"""The CallQueue in Valkey or Redis, for all processes that use it.

    a call is   enter.lua            message   store is lost            store is back
    ---------   ------------------   -------   ----------------------   -----------------------
    entering    running, waiting,    running   as in one process, with
                or Full                        this process's part of
                                               the slots
    waiting                          running   the same, without Full   after JOIN: waiting, or
                                                                        running
    running                                    running                  running, also without a
                                                                        free slot

That is `on_loss: local`. With `allow`, all calls run while the store is lost. With `refuse`, calls
that enter or wait are refused.

    event                          effect
    ----------------------------   ---------------------------------------------------------------
    a slot is free                 the script that freed it starts the next call, and sends its
                                   process a message
    a message is lost              the process renews its waiting calls each second, and receives
                                   which of them run
    a process dies                 its calls leave when their leases end, by the store's clock, at
                                   the next call of a script
    the store is lost              each process goes on alone, at once
    the store is back              each process reports its running calls at once, also to a store
                                   that is empty now. It goes on alone for JOIN attempts to connect:
                                   by then the others have reported theirs, too
"""

from __future__ import annotations

import hashlib
import itertools
import math
import sys
from collections import deque
from typing import Any, Literal

import anyio
import msgspec
from attrs import define, field

from stages.backends.call_queue import Full, QueuedCall
from stages.backends.fair_queue import FairQueue
from stages.backends.remote_call_queue import RemoteCall, RemoteCallQueue
from stages.shared_store.client import load_script
from stages.shared_store.connection import Connection
from stages.shared_store.script_sender import StoreLostError

OnLoss = Literal["local", "allow", "refuse"]

_ENTER, _LEAVE, _RENEW = SCRIPTS = tuple(
    load_script("stages.backends", "call_queue", name) for name in ("enter", "leave", "renew")
)
_KEYS = ("state", "leases", "running", "waiting", "turns", "nodes")
#: Attempts to connect for which a process goes on alone after the store is back.
JOIN = 3
#: Ids of calls that left while the store was lost; beyond, the leases of the oldest have to end.
_MAX_ENDED = 10_000
_numbers = itertools.count()


@define(eq=False)
class _Call(RemoteCall):
    path: str
    """See call_queue.lua."""


@define(eq=False)
class RedisCallQueue(RemoteCallQueue[_Call]):
    """See CallQueue. `name` is that of the queue in the store. `lease` is in seconds.

    It decides alone while the store is lost, and for JOIN attempts to connect afterwards.
    """

    connection: Connection
    on_loss: OnLoss = "local"
    lease: float = 60.0
    _keys: list[str] = field(init=False)
    _joins_at: float = field(default=math.inf, init=False)  # until on_connect or renew_due
    _renewed_at: float = field(default=-math.inf, init=False)
    _ended: deque[str] = field(factory=lambda: deque(maxlen=_MAX_ENDED), init=False)
    """Calls that the store has to forget."""

    def __attrs_post_init__(self) -> None:
        if self.connection.is_lost:
            self.on_lost()

    @_keys.default
    def _make_keys(self) -> list[str]:
        return [f"llm-proxy:{{queue:{self.name}}}:{key}" for key in _KEYS]

    async def enter(self, call: QueuedCall, max_queued: int) -> Full | None:
        """See CallQueue."""
        entered = _Call(call, f"{self.connection.id}:{next(_numbers)}", max_queued, _path(call))
        self._add(entered)
        if self._alone is not None:
            self._enter_alone(self._alone, entered, max_queued)
            return entered.full
        with anyio.CancelScope(shield=True):  # `leave` would overtake it
            try:
                result = await self._ask(_ENTER, entered.id, entered.path, max_queued)
            except StoreLostError:
                if self._alone is None:
                    self.on_lost()
            else:
                self._on_result(entered, result)
        return entered.full

    def _on_result(self, entered: _Call, result: bytes | int) -> None:
        if entered.state != "entering":  # a message came before, or the store was lost
            return
        if isinstance(result, int):
            self._refuse(entered, Full(result, self._retry_after))
        elif result == b"running":
            entered.start()
        else:
            entered.become("waiting")
            self.connection.watch()

    async def leave(self, call: QueuedCall, seconds: float | None = None) -> None:
        """See CallQueue."""
        entered = await self._remove(call, seconds)
        if entered is None:
            return
        if self._alone is not None:
            self._ended.append(entered.id)
            self._leave_alone(self._alone, entered, seconds)
            return
        with anyio.CancelScope(shield=True):
            try:
                await self._ask(_LEAVE, entered.id, "" if seconds is None else seconds)
            except StoreLostError:
                self._ended.append(entered.id)

    def resize(self, slots: int) -> None:
        """See CallQueue."""
        self.slots = slots
        self._renewed_at = -math.inf
        self._resize_alone()

    async def _ask(self, script: Any, *arguments: Any) -> Any:
        """Call a script, and start calls. Return its result. Raises StoreLostError."""
        common = ("", self.lease, self.connection.id, self.slots)
        response = await self.connection.call(script, self._keys, (*common, *arguments))
        self._retry_after, result, started = response
        for name in started:
            self.on_start(name.decode())
        return result

    def on_start(self, name: str) -> None:
        """Start a call, if it is here and still waits for the store."""
        entered = self._by_id.get(name)
        if entered and self._alone is None and entered.state != "running":
            entered.start()

    # While the store is lost.

    @property
    def _part(self) -> int:
        if self.on_loss == "allow":
            return sys.maxsize
        return max(1, self.slots // max(1, self.connection.processes))

    def on_lost(self) -> None:
        """See Member."""
        self._joins_at = math.inf
        if self._alone is None:
            super().on_lost()

    def _enter_alone(self, alone: FairQueue[_Call], entered: _Call, max_queued: int) -> None:
        if self.on_loss == "refuse":
            self._refuse(entered)
            entered.call.store_is_lost = True
            entered.call.may_start.set()
        else:
            super()._enter_alone(alone, entered, max_queued)

    def _refuse(self, entered: _Call, full: Full | None = None) -> None:
        super()._refuse(entered, full)
        if self._alone is not None:  # `enter` may have had its effect in the store
            self._ended.append(entered.id)

    async def on_connect(self) -> None:
        """See Member."""
        if self._alone is not None:
            self._ended += self._ids("waiting")  # those of before the loss
            await self.renew()
            self._joins_at = anyio.current_time() + JOIN * self.connection.reconnect_after

    # In the background.

    async def renew_due(self) -> None:
        """Renew leases, if it is time. Raises StoreLostError."""
        now = anyio.current_time()
        self._joins_at = min(self._joins_at, now + JOIN * self.connection.reconnect_after)
        if self._alone is not None and now >= self._joins_at:
            self._alone = None
            if self._ids("waiting"):
                self.connection.watch()
        is_due = now >= self._renewed_at + self.lease / 3
        if self._ended or self._alone is not None or self.waiting or (is_due and self._calls):
            self._renewed_at = now
            await self.renew()

    async def renew(self) -> None:
        """Renew the leases of all calls. Raises StoreLostError.

        A call may leave meanwhile, and the store may take its `leave` first.
        """
        while True:
            ended, self._ended = self._ended, deque(maxlen=_MAX_ENDED)
            running = self._ids("running")
            waiting = [] if self._alone is not None else self._ids("waiting")
            paths = [(name, self._by_id[name].path) for name in waiting]
            try:
                await self._ask(_RENEW, *map(_pack, ([*ended], running, paths)))
            except StoreLostError:
                self._ended = deque([*ended, *self._ended], _MAX_ENDED)
                raise
            self._ended += [name for name in (*running, *waiting) if name not in self._by_id]
            if not self._ended:
                return

    def _ids(self, state: str) -> list[str]:
        return [name for name, entered in self._by_id.items() if entered.state == state]


_pack = msgspec.msgpack.encode


def _path(call: QueuedCall) -> str:
    client, session = (
        hashlib.blake2b(name.encode(), digest_size=8).hexdigest() for name in call.names
    )
    return f"{'s' if call.short else 'l'}{client}{session}"
