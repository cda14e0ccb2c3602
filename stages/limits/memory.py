"""The LimitStore of one process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import anyio
from attrs import Factory, define, field

from stages.limits.ledger import Ledger
from stages.limits.store import Admitted, Refused, Want


@define(eq=False)
class MemoryStore:
    """Counts in the memory of this process, for requests of one event loop.

    `lease` is infinite: the counts end with the process that made the holds. `clock` is in Unix
    seconds.
    """

    lease: float = math.inf
    clock: Callable[[], float] = time.time
    _ledger: Ledger = field(init=False)
    _events: dict[str, anyio.Event] = Factory(dict)
    """Of waiting requests: set when they may try again."""

    @_ledger.default
    def _make_ledger(self) -> Ledger:
        return Ledger(self.lease)

    def admit_now(
        self, hold: str, wants: Sequence[Want], amounts: Sequence[float], queue: bool = False
    ) -> Admitted | Refused:
        """As `admit` without a wait, at once. `queue` is for `admit`."""
        result = self._ledger.admit(self.clock(), hold, wants, amounts, queue)
        if self._events:
            self._wake()
        return result

    def settle_now(self, hold: str, used: Sequence[float]) -> None:
        """As `settle`, at once."""
        self._ledger.settle(self.clock(), hold, used)
        if self._events:
            self._wake()

    async def admit(
        self, hold: str, wants: Sequence[Want], amounts: Sequence[float], wait: float = 0.0
    ) -> Admitted | Refused:
        """See LimitStore."""
        result = self.admit_now(hold, wants, amounts, queue=wait > 0)
        if wait > 0 and isinstance(result, Refused) and wants[result.want].kind == "concurrency":
            return await self._wait(hold, wants, amounts, result, wait)
        return result

    async def _wait(
        self,
        hold: str,
        wants: Sequence[Want],
        amounts: Sequence[float],
        result: Admitted | Refused,
        wait: float,
    ) -> Admitted | Refused:
        try:
            with anyio.move_on_after(wait):
                while isinstance(result, Refused) and wants[result.want].kind == "concurrency":
                    event = self._events[hold] = anyio.Event()
                    with anyio.move_on_after(self._ledger.next_end - self.clock()):
                        await event.wait()
                    result = self._ledger.admit(self.clock(), hold, wants, amounts, queue=True)
                    self._wake()
            return result
        finally:
            self._events.pop(hold, None)
            self._ledger.leave(hold)
            self._wake()

    async def settle(self, hold: str, used: Sequence[float]) -> None:
        """See LimitStore."""
        self.settle_now(hold, used)

    async def renew(self, hold: str) -> None:
        """See LimitStore."""
        self._ledger.renew(self.clock(), hold)
        self._wake()

    def abandon(self, hold: str) -> None:
        """End the lease of a hold at once, or the waiting of a request: its process has died."""
        self._ledger.abandon(self.clock(), hold)
        self._wake()

    def drain(self) -> list[tuple[Want, float]]:
        """Remove what settled requests took from each limit, and return it. Holds stay."""
        return self._ledger.drain(self.clock())

    def _wake(self) -> None:
        for hold in self._ledger.take_ready():
            if event := self._events.get(hold):
                event.set()
