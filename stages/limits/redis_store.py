"""The LimitStore in Valkey or Redis, for all processes that use it.

    call     store responds   store is lost
    ------   --------------   --------------------------------------------------
    admit    admit.lua        the LoneStore decides
    settle   settle.lua       kept, and sent when the store responds again
    renew    renew.lua        nothing: a later renewal makes the hold active again

A script takes all accounts of a request at once, so `admit` is atomic. If the response of `admit`
was lost, the hold is settled with zeros later. When the store responds again, charge.lua adds what
the LoneStore counted. What its requests in flight use is added when they end.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence

import anyio
from attrs import Factory, define, field

from stages.limits.lone_store import LoneStore
from stages.limits.script_calls import WantsByAccount, admission, load_script
from stages.limits.store import Admitted, Refused, Want
from stages.shared_store.client import Script
from stages.shared_store.connection import Connection
from stages.shared_store.member import Member
from stages.shared_store.script_sender import StoreLostError

#: The channel that names waiting requests that may ask again.
READY = "llm-proxy:ready"
#: Seconds until a waiting request asks again, if no message says that it may.
_ASK_AGAIN = 0.5
#: Seconds after which a waiting request is dropped that did not ask again: its process is dead.
_PATIENCE = 4 * _ASK_AGAIN
#: Calls that are kept while the store is lost; beyond, the oldest are dropped.
_MAX_KEPT = 10_000


@define(eq=False)
class RedisStore(Member):
    """See LimitStore. The owner of `connection` runs it. `lease` is in seconds."""

    connection: Connection
    lone: LoneStore = Factory(LoneStore)
    lease: float = 60.0
    _holds: dict[str, WantsByAccount] = Factory(dict)
    """Of requests in flight that the store admitted, or may have admitted."""
    _kept: dict[str, tuple[Script, WantsByAccount, bytes]] = Factory(dict)
    """Calls that could not be sent, by hold, each with its last argument."""
    _events: dict[str, anyio.Event] = Factory(dict)
    """Of waiting requests: set when they may ask again."""
    _admit: Script = field(factory=lambda: load_script("admit"), init=False)
    _settle: Script = field(factory=lambda: load_script("settle"), init=False)
    _renew: Script = field(factory=lambda: load_script("renew"), init=False)
    _charge: Script = field(factory=lambda: load_script("charge"), init=False)

    def __attrs_post_init__(self) -> None:
        self.connection.members.append(self)

    @property
    def scripts(self) -> tuple[Script, ...]:
        """See Member."""
        return self._admit, self._settle, self._renew, self._charge

    @property
    def channels(self) -> tuple[str, ...]:
        """See Member."""
        return (READY,)

    async def admit(
        self, hold: str, wants: Sequence[Want], amounts: Sequence[float], wait: float = 0.0
    ) -> Admitted | Refused:
        """See LimitStore."""
        if self.connection.is_up:
            asking = self._holds[hold] = WantsByAccount(wants)
            try:
                result = await self._ask(hold, asking, amounts, wait)
                if wait > 0 and _lacks_place(result, wants):
                    result = await self._wait(hold, asking, amounts, result, wait)
            except StoreLostError:
                self._give_back(hold)
            else:
                if isinstance(result, Refused):
                    self._holds.pop(hold, None)
                return result
        return await self.lone.admit(hold, wants, amounts, wait, self.connection.processes)

    async def _ask(
        self, hold: str, asking: WantsByAccount, amounts: Sequence[float], wait: float
    ) -> Admitted | Refused:
        patience = _PATIENCE if wait > 0 else 0
        arguments = (*self._arguments(hold), patience, asking.items(amounts))
        return admission(await self.connection.call(self._admit, asking.keys, arguments))

    async def _wait(
        self,
        hold: str,
        asking: WantsByAccount,
        amounts: Sequence[float],
        result: Admitted | Refused,
        wait: float,
    ) -> Admitted | Refused:
        try:
            with anyio.move_on_after(wait):
                while _lacks_place(result, asking.wants):
                    event = self._events[hold] = anyio.Event()
                    with anyio.move_on_after(_ASK_AGAIN):
                        await event.wait()
                    result = await self._ask(hold, asking, amounts, wait)
            return result
        finally:
            del self._events[hold]
            if isinstance(result, Refused):
                self._give_back(hold)
                await self._send_kept()

    async def settle(self, hold: str, used: Sequence[float]) -> None:
        """See LimitStore."""
        with anyio.CancelScope(shield=True):
            if ending := self._holds.pop(hold, None):
                self._keep(hold, self._settle, ending, ending.amounts(used))
                await self._send_kept()
            elif await self.lone.settle(hold, used) and self.connection.is_up:
                self._keep_charges()
                await self._send_kept()

    async def renew(self, hold: str) -> None:
        """See LimitStore."""
        if (renewed := self._holds.get(hold)) and self.connection.is_up:
            with contextlib.suppress(StoreLostError):
                await self.connection.call(self._renew, renewed.keys, self._arguments(hold))

    def _arguments(self, hold: str) -> tuple[str, str, float]:
        """The first arguments of each script; the empty one is for the server's clock."""
        return hold, "", self.lease

    def on_message(self, channel: str, data: bytes) -> None:
        """See Member."""
        if channel == READY and (event := self._events.get(data.decode(errors="replace"))):
            event.set()

    def _give_back(self, hold: str) -> None:
        """Settle with zeros what the store may have admitted, or let it wait no longer."""
        if ending := self._holds.pop(hold, None):
            self._keep(hold, self._settle, ending, ending.amounts([0.0] * len(ending.wants)))

    def _keep_charges(self) -> None:
        for wants, amounts in self.lone.drain():
            charged = WantsByAccount(wants)
            self._keep(secrets.token_hex(8), self._charge, charged, charged.items(amounts))

    def _keep(self, hold: str, script: Script, wants: WantsByAccount, argument: bytes) -> None:
        if len(self._kept) >= _MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[hold] = script, wants, argument

    async def on_connect(self) -> None:
        """See Member. Send what was kept while the store was lost."""
        self._keep_charges()
        for hold in list(self._kept):
            await self._send(hold)

    async def _send_kept(self) -> None:
        """Send what is kept, if the store responds. Other calls may do so at the same time."""
        with contextlib.suppress(StoreLostError), anyio.CancelScope(shield=True):
            while self._kept and self.connection.is_up:
                await self._send(next(reversed(self._kept)))

    async def _send(self, hold: str) -> None:
        if kept := self._kept.pop(hold, None):
            script, wants, argument = kept
            try:
                arguments = (*self._arguments(hold), argument)
                await self.connection.call(script, wants.keys, arguments)
            except StoreLostError:
                self._keep(hold, script, wants, argument)
                raise


def _lacks_place(result: Admitted | Refused, wants: Sequence[Want]) -> bool:
    return isinstance(result, Refused) and wants[result.want].kind == "concurrency"
