"""What happens to limits while the shared store is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from attrs import Factory, define, evolve

from stages.limits.memory import MemoryStore
from stages.limits.store import Admitted, Level, Refused, StoreUnavailableError, Want

#: Limits that are remembered. Beyond, those that are forgotten are reported with their shares.
_MAX_LIMITS = 100_000
OnLoss = Literal["local", "allow", "refuse"]


@define(eq=False)
class LoneStore:
    """Decides in place of a lost store, as `on_loss` says.

    With `local`, the process counts alone. Each limit is divided by the number of processes. It
    remembers the whole limits, to report use to the store later.
    """

    on_loss: OnLoss = "local"
    memory: MemoryStore = Factory(MemoryStore)
    holds: set[str] = Factory(set)
    """Requests in flight that the memory admitted."""
    _limits: dict[tuple[str, str], Want] = Factory(dict)
    """The whole limits, by account and limit."""

    async def admit(
        self,
        hold: str,
        wants: Sequence[Want],
        amounts: Sequence[float],
        wait: float,
        processes: int,
    ) -> Admitted | Refused:
        """See LimitStore. `processes` share each limit."""
        if self.on_loss == "refuse":
            raise StoreUnavailableError
        if self.on_loss == "allow":
            return Admitted(tuple([Level(want.maximum, 0.0) for want in wants]))
        if len(self._limits) >= _MAX_LIMITS:
            self._limits.clear()
        self._limits |= {(want.account, want.limit): want for want in wants}
        shares = [_share(want, processes) for want in wants]
        result = await self.memory.admit(hold, shares, amounts, wait)
        if isinstance(result, Admitted):
            self.holds.add(hold)
        return result

    async def settle(self, hold: str, used: Sequence[float]) -> bool:
        """See LimitStore. Return whether the request was admitted here."""
        await self.memory.settle(hold, used)
        was_here = hold in self.holds
        self.holds.discard(hold)
        return was_here

    def drain(self) -> Iterator[tuple[list[Want], list[float]]]:
        """Yield what settled requests took: for each account its limits, and their amounts.

        It is removed here.
        """
        accounts: dict[str, tuple[list[Want], list[float]]] = {}
        for share, amount in self.memory.drain():
            whole = self._limits.get((share.account, share.limit), share)
            wants, amounts = accounts.setdefault(share.account, ([], []))
            wants.append(whole)
            amounts.append(amount)
        yield from (each for each in accounts.values() if any(each[1]))


def _share(want: Want, processes: int) -> Want:
    share = want.maximum / max(1, processes)
    return evolve(want, maximum=max(1.0, share // 1) if want.kind == "concurrency" else share)
