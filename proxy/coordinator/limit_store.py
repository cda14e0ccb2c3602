"""The LimitStore of a worker: that of the coordinator, or its own while the link is lost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
from attrs import define, field

from proxy.coordinator import messages
from proxy.coordinator.link import Link
from proxy.coordinator.messages import FromCoordinator
from stages.limits.memory import MemoryStore
from stages.limits.store import Admitted, Refused, Want

#: Seconds that the response to a wait may be late. The link finds a loss sooner.
_SPARE = 1.0


@define(eq=False)
class SharedLimitStore:
    """See LimitStore. While the link is lost, each of the `workers` has its part of the limits.

    Holds end with the connection, so there are no leases.
    """

    link: Link
    workers: int
    lease: float = field(default=math.inf, init=False)
    _holds: set[str] = field(factory=set, init=False)
    """Those of the coordinator."""
    _waiting: int = field(default=0, init=False)
    _alone: MemoryStore = field(factory=MemoryStore, init=False)

    async def admit(
        self, hold: str, wants: Sequence[Want], amounts: Sequence[float], wait: float = 0.0
    ) -> Admitted | Refused:
        """See LimitStore."""
        n = self.link.number()
        message = messages.Admit(n, hold, tuple(wants), tuple(amounts), wait)
        result = await (self._after_wait(message) if wait else self.link.response(message))
        if result is None:
            parts = [attrs.evolve(each, maximum=self._part(each)) for each in wants]
            return await self._alone.admit(hold, parts, amounts, wait)
        if result.refused_by is None:
            self._holds.add(hold)
            return Admitted(result.levels)
        return Refused(result.refused_by, result.retry_after, result.used_up, result.levels)

    async def _after_wait(self, message: messages.Admit) -> messages.AdmitResult | None:
        self._waiting += 1
        self.link.watch()
        try:
            response: messages.AdmitResult | None
            response = await self.link.response(message, message.wait + _SPARE)
            return response
        finally:
            self._waiting -= 1

    def _part(self, want: Want) -> float:
        part = want.maximum / self.workers
        return max(1.0, part // 1) if want.kind == "concurrency" else part

    async def settle(self, hold: str, used: Sequence[float]) -> None:
        """See LimitStore."""
        self._holds.discard(hold)
        self.link.send(messages.Settle(hold, tuple(used)), keep=True)
        await self._alone.settle(hold, used)

    async def renew(self, hold: str) -> None:
        """See LimitStore. There is nothing to renew."""

    @property
    def waits(self) -> bool:
        """See Member."""
        return self._waiting > 0

    def on_joined(self) -> None:
        """See Member."""
        for hold in self._holds:
            self.link.send(messages.Renew(hold))

    def on_lost(self) -> None:
        """See Member."""

    def on_message(self, message: FromCoordinator) -> None:
        """See Member."""
