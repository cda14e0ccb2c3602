"""The LimitStore that settles rates in its process, with shares of a store: `mode: approximate`.

    the rates of an account                      are taken from
    ------------------------------------------   -----------------------------------------------
    fit into the open share                      the share, without a call of the store
    do not fit, but into a new one               a new share: two calls, for many requests
    need more than a size, or another request    the store, as with `mode: exact`
    is opening a share, or the store has less
    left than a size

Budgets and concurrency are always taken from the store. All processes together have shares of at
most `max_error` of a limit: see stages/limits/share.py.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

import anyio
from attrs import Factory, define, frozen

from stages.limits.share import Share
from stages.limits.store import Admitted, Level, LimitStore, Refused, StoreUnavailableError, Want

#: Seconds after which a share is over.
_SHARE_SECONDS = 5.0
#: Seconds without a new share of an account, after the store had less left than a size.
_SCARCE_SECONDS = 1.0
#: Shares that are over, of any account, that one request closes. It waits for each of them, and
#: has at most two accounts with names of clients: its session and its agent.
_MAX_CLOSED = 4
#: Accounts that are remembered as scarce.
_MAX_SCARCE = 1_000


@frozen
class _Part:
    """What a request took from a share: the wants at these indexes."""

    share: Share
    indexes: list[int]
    amounts: list[float]


@define(eq=False)
class _Hold:
    """What a request took."""

    parts: list[_Part] = Factory(list)
    exact: list[int] = Factory(list)
    """The indexes of the wants that were taken from the store."""


@define(eq=False)
class ShareStore:
    """See LimitStore. `processes` returns how many share the store now. `clock` is in seconds."""

    store: LimitStore
    max_error: float
    processes: Callable[[], int]
    clock: Callable[[], float] = time.monotonic
    _holds: dict[str, _Hold] = Factory(dict)
    _open: dict[str, Share] = Factory(dict)
    """By account, in the order of their ends."""
    _opening: set[str] = Factory(set)
    _scarce: dict[str, float] = Factory(dict)
    """Until when an account opens no share."""

    @property
    def lease(self) -> float:
        """See LimitStore."""
        return self.store.lease

    async def admit(
        self, hold: str, wants: Sequence[Want], amounts: Sequence[float], wait: float = 0.0
    ) -> Admitted | Refused:
        """See LimitStore."""
        is_new = hold not in self._holds
        taken = self._holds.setdefault(hold, _Hold())
        result: Admitted | Refused = Admitted(())
        try:
            if is_new:
                await self._take_shares(taken, wants, amounts)
            if exact := taken.exact:
                stored = tuple([wants[n] for n in exact])
                result = await self.store.admit(hold, stored, [amounts[n] for n in exact], wait)
        except StoreUnavailableError:
            await self._give_back(hold, taken)
            raise
        if isinstance(result, Refused):
            await self._give_back(hold, taken)
            levels = _merge(taken, result.levels, len(wants))
            return Refused(exact[result.want], result.retry_after, result.used_up, levels)
        return Admitted(_merge(taken, result.levels, len(wants)))

    async def _take_shares(
        self, taken: _Hold, wants: Sequence[Want], amounts: Sequence[float]
    ) -> None:
        """Take the rates of each account from a share, or leave them to the store."""
        await self._close_ended()
        accounts: dict[str, list[int]] = {}
        for n, want in enumerate(wants):
            if want.kind == "rate":
                accounts.setdefault(want.account, []).append(n)
            else:
                taken.exact.append(n)
        for account, indexes in accounts.items():
            rates = [wants[n] for n in indexes]
            estimates = [min(amounts[n], wants[n].maximum) for n in indexes]
            if share := await self._share(account, rates, estimates):
                taken.parts.append(_Part(share, indexes, estimates))
            else:
                taken.exact += indexes

    async def _share(
        self, account: str, wants: Sequence[Want], estimates: Sequence[float]
    ) -> Share | None:
        """The share that the estimates were taken from. Raises StoreUnavailableError."""
        share, now = self._open.get(account), self.clock()
        if share and share.wants == wants and share.take(now, estimates):
            return share
        part = self.max_error / max(1, self.processes())
        sizes = [want.maximum * part for want in wants]
        fits = all(n <= size for n, size in zip(estimates, sizes, strict=True))
        if not fits or account in self._opening or self._scarce.get(account, 0.0) > now:
            return None
        self._opening.add(account)
        try:
            await self._close(account)
            share = await self._make(account, wants, sizes)
        finally:
            self._opening.discard(account)
        return share if share and share.take(self.clock(), estimates) else None

    async def _make(
        self, account: str, wants: Sequence[Want], sizes: Sequence[float]
    ) -> Share | None:
        """Open a share, unless the store has less left."""
        hold, ends = f"share:{secrets.token_hex(8)}", self.clock() + _SHARE_SECONDS
        try:
            result = await self.store.admit(hold, wants, sizes)
        except anyio.get_cancelled_exc_class():
            await self.store.settle(hold, [0.0] * len(sizes))
            raise
        if isinstance(result, Refused):
            if len(self._scarce) >= _MAX_SCARCE:
                self._scarce.clear()
            self._scarce[account] = self.clock() + _SCARCE_SECONDS
            return None
        share = self._open[account] = Share(hold, wants, sizes, ends, result.levels)
        return share

    async def _close_ended(self) -> None:
        now, closed = self.clock(), 0
        while self._open and closed < _MAX_CLOSED:
            account, share = next(iter(self._open.items()))
            if share.ends > now:
                break
            await self._close(account)
            closed += 1

    async def _close(self, account: str) -> None:
        """Let no further request take from the share of an account."""
        share = self._open.pop(account, None)
        if share and not share.in_flight:
            await self.store.settle(share.hold, share.used)

    async def _end(self, part: _Part, used: Sequence[float]) -> None:
        share = part.share
        share.end(part.amounts, used)
        is_open = self._open.get(share.wants[0].account) is share
        if not (is_open or share.in_flight):
            await self.store.settle(share.hold, share.used)

    async def _give_back(self, hold: str, taken: _Hold) -> None:
        """End a request that was not admitted."""
        self._holds.pop(hold, None)
        for part in taken.parts:
            await self._end(part, [0.0] * len(part.amounts))

    async def settle(self, hold: str, used: Sequence[float]) -> None:
        """See LimitStore."""
        taken = self._holds.pop(hold, None)
        if taken is None:
            return
        for part in taken.parts:
            await self._end(part, [used[n] for n in part.indexes])
        if taken.exact:
            await self.store.settle(hold, [used[n] for n in taken.exact])

    async def renew(self, hold: str) -> None:
        """See LimitStore."""
        if (taken := self._holds.get(hold)) and taken.exact:
            await self.store.renew(hold)


def _merge(taken: _Hold, exact: Sequence[Level], count: int) -> tuple[Level, ...]:
    """The levels of all wants, in their order."""
    levels = [Level(0.0, 0.0)] * count
    for n, level in zip(taken.exact, exact, strict=True):
        levels[n] = level
    for part in taken.parts:
        for n, level in zip(part.indexes, part.share.levels(), strict=True):
            levels[n] = level
    return tuple(levels)
