"""The LimitStore in Valkey or Redis, for all processes that use it.

    call     on the store        while the store is lost, by `on_loss`
    ------   -----------------   ---------------------------------------------------------------
    admit    admit.lua           local: a MemoryStore, with limits divided among the processes
                                 seen last; allow: Admitted; refuse: StoreUnavailableError
    settle   settle.lua          kept, and sent when the store responds again
    renew    renew.lua           nothing

A script takes all accounts of a request at once, so `admit` is atomic. The hold of a request whose
response was lost is settled with zeros later. scripts/counts.lua has the keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources
from typing import Literal

import anyio
import msgspec
from attrs import Factory, define, evolve, field

from stages.limits.memory import MemoryStore
from stages.limits.store import Admitted, Level, Refused, StoreUnavailableError, Want
from stages.shared_store.connection import Connection, Script, StoreLostError

#: Seconds until a waiting request asks again, if no message says that it may.
_ASK_AGAIN = 0.5
#: Seconds after which a waiting request is dropped that did not ask again: its process is dead.
_PATIENCE = 4 * _ASK_AGAIN
#: Settlements that are kept while the store is lost; beyond, the oldest are dropped.
_MAX_KEPT = 10_000


def load_script(name: str) -> Script:
    """A script of this package, with what all of them share."""
    folder = resources.files(__package__) / "scripts"
    return Script("".join((folder / f"{n}.lua").read_text("utf-8") for n in ("counts", name)))


@define(eq=False)
class Hold:
    """The places of a hold's wants by account."""

    accounts: dict[str, list[int]]
    wants: Sequence[Want]

    @classmethod
    def of(cls, wants: Sequence[Want]) -> Hold:
        accounts: dict[str, list[int]] = {}
        for n, want in enumerate(wants):
            accounts.setdefault(want.account, []).append(n)
        return cls(accounts, wants)

    @property
    def keys(self) -> list[str]:
        """Three keys for each account. Those of an account are in one slot of a cluster."""
        return [
            f"llm-proxy:{{{account}}}:{name}"
            for account in self.accounts
            for name in ("counts", "times", "waiting")
        ]

    def items(self, amounts: Sequence[float]) -> bytes:
        """The wants of each account, with their amounts, for admit.lua."""
        wants = self.wants
        return msgspec.msgpack.encode(
            [
                [
                    (w.limit, w.kind, w.period, w.maximum, amounts[n], n)
                    for n, w in ((n, wants[n]) for n in places)
                ]
                for places in self.accounts.values()
            ]
        )

    def used(self, used: Sequence[float]) -> bytes:
        """The amounts of each account, for settle.lua."""
        return msgspec.msgpack.encode(
            [[used[n] for n in places] for places in self.accounts.values()]
        )


@define(eq=False)
class RedisStore:
    """See LimitStore. The owner of `connection` runs it.

    `lease` is in seconds. `now` is the time that scripts use in place of the server's, for tests.
    """

    connection: Connection
    on_loss: Literal["local", "allow", "refuse"] = "local"
    lease: float = 60.0
    now: float | None = None
    _local: MemoryStore = Factory(MemoryStore)
    _holds: dict[str, Hold] = Factory(dict)
    """Of requests in flight that the store admitted, or may have admitted."""
    _kept: dict[str, tuple[Hold, Sequence[float]]] = Factory(dict)
    """Settlements that could not be sent."""
    _events: dict[str, anyio.Event] = Factory(dict)
    """Of waiting requests: set when they may ask again."""
    _admit_script: Script = field(factory=lambda: load_script("admit"), init=False)
    _settle_script: Script = field(factory=lambda: load_script("settle"), init=False)
    _renew_script: Script = field(factory=lambda: load_script("renew"), init=False)

    def __attrs_post_init__(self) -> None:
        self.connection.on_connect = self._send_kept
        self.connection.on_ready = self._wake

    async def admit(
        self, hold: str, wants: Sequence[Want], amounts: Sequence[float], wait: float = 0.0
    ) -> Admitted | Refused:
        """See LimitStore."""
        if self.connection.is_up:
            self._holds[hold] = Hold.of(wants)
            try:
                result = await self._ask(hold, amounts, wait)
                if wait > 0 and _waits(result, wants):
                    result = await self._wait(hold, amounts, result, wait)
            except StoreLostError:
                self._keep(hold, [0.0] * len(wants))
            else:
                if isinstance(result, Refused):
                    del self._holds[hold]
                return result
        return await self._admit_alone(hold, wants, amounts, wait)

    async def _ask(self, hold: str, amounts: Sequence[float], wait: float) -> Admitted | Refused:
        asking = self._holds[hold]
        patience = _PATIENCE if wait > 0 else 0
        arguments = [*self._arguments(hold), patience, asking.items(amounts)]
        packed = await self.connection.call(self._admit_script, asking.keys, arguments)
        want, retry_after, used_up, flat = msgspec.msgpack.decode(packed)
        levels = tuple([Level(*pair) for pair in zip(flat[::2], flat[1::2], strict=True)])
        return Admitted(levels) if want < 0 else Refused(want, retry_after, used_up, levels)

    async def _wait(
        self, hold: str, amounts: Sequence[float], result: Admitted | Refused, wait: float
    ) -> Admitted | Refused:
        wants = self._holds[hold].wants
        admitted = False
        try:
            with anyio.move_on_after(wait):
                while _waits(result, wants):
                    event = self._events[hold] = anyio.Event()
                    with anyio.move_on_after(_ASK_AGAIN):
                        await event.wait()
                    result = await self._ask(hold, amounts, wait)
            admitted = isinstance(result, Admitted)
            return result
        finally:
            del self._events[hold]
            if not admitted:
                await self._settle(hold, [0.0] * len(wants))

    async def settle(self, hold: str, used: Sequence[float]) -> None:
        """See LimitStore."""
        await self._local.settle(hold, used)
        await self._settle(hold, used)
        self._holds.pop(hold, None)

    async def _settle(self, hold: str, used: Sequence[float]) -> None:
        if ending := self._holds.get(hold):
            with anyio.CancelScope(shield=True):
                try:
                    await self._send(hold, ending, used)
                except StoreLostError:
                    self._keep(hold, used)

    async def _send(self, hold: str, ending: Hold, used: Sequence[float]) -> None:
        arguments = [*self._arguments(hold), ending.used(used)]
        await self.connection.call(self._settle_script, ending.keys, arguments)

    async def renew(self, hold: str) -> None:
        """See LimitStore."""
        if (renewed := self._holds.get(hold)) and self.connection.is_up:
            try:
                keys = renewed.keys
                await self.connection.call(self._renew_script, keys, self._arguments(hold))
            except StoreLostError:
                return  # it is logged; the next renewal makes an expired hold active again

    def _arguments(self, hold: str) -> list[str | float]:
        return [hold, "" if self.now is None else repr(self.now), self.lease]

    def _wake(self, hold: str) -> None:
        if event := self._events.get(hold):
            event.set()

    def _keep(self, hold: str, used: Sequence[float]) -> None:
        """Settle the hold when the store responds again."""
        if ending := self._holds.pop(hold, None):
            if len(self._kept) >= _MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[hold] = ending, used

    async def _send_kept(self) -> None:
        for hold, (ending, used) in list(self._kept.items()):
            await self._send(hold, ending, used)
            del self._kept[hold]

    async def _admit_alone(
        self, hold: str, wants: Sequence[Want], amounts: Sequence[float], wait: float
    ) -> Admitted | Refused:
        """Decide without the store."""
        if self.on_loss == "refuse":
            raise StoreUnavailableError(self.connection.error)
        if self.on_loss == "allow":
            return Admitted(tuple(Level(want.maximum, 0.0) for want in wants))
        return await self._local.admit(hold, list(self._shares(wants)), amounts, wait)

    def _shares(self, wants: Sequence[Want]) -> Iterator[Want]:
        """The wants with the part of their maxima that this process may use alone."""
        for want in wants:
            share = want.maximum / max(1, self.connection.processes)
            yield evolve(want, maximum=max(1.0, share // 1) if want.kind == "concurrency" else share)


def _waits(result: Admitted | Refused, wants: Sequence[Want]) -> bool:
    return isinstance(result, Refused) and wants[result.want].kind == "concurrency"
