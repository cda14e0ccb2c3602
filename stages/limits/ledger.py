"""The counts of all accounts and the holds of requests in flight. Pure: time is an argument.

    state of a hold   admit             settle                 renew           lease ends, abandon
    ---------------   ---------------   --------------------   -------------   -------------------
    none              active, or        nothing                nothing
                      refused
    active            nothing           none: charges `used`,  lease begins    expired
                                        and gives back         again
    expired           as none           none: charges `used`   active          (an hour later)
                                                                               none

See stages/limits/counts.py for what a hold takes, and stages/limits/store.py for the contract of
each call. `admit` checks all wants before it takes from one. A process that dies leaks nothing: its
holds expire, and what they took from rates leaks out by time.

All leases have the same length, so the order of renewals is that of their ends.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from attrs import Factory, define, field

from stages.limits.counts import AnyCount, Budget, Lack, Places, Rate
from stages.limits.request_counts import RequestCounts
from stages.limits.store import Admitted, Refused, Want, make_admitted

_COUNTS: dict[str, type[Rate | Budget | Places]] = {
    "rate": Rate,
    "budget": Budget,
    "concurrency": Places,
}
#: Seconds for which an expired hold can still be settled.
_SETTLE_EXPIRED = 3600.0
#: Counts that may be in memory; beyond, those of sessions and agents are dropped, oldest first.
_MAX_COUNTS = 100_000
#: Unused counts are searched for when their number has doubled, at the earliest here.
_FIRST_SWEEP = 1000
#: Tuples of wants whose counts are remembered.
_MAX_RECENT = 1_000
#: Accounts with names that clients choose.
_OF_CLIENTS = ("session:", "agent:")


@define(eq=False)
class _Hold:
    wants: Sequence[Want]
    amounts: Sequence[float]
    """The estimates, each at most the maximum."""
    since: float
    ends: float


@define(eq=False)
class Ledger:
    """All counts and holds of one store. `lease` is in seconds."""

    lease: float = math.inf
    max_counts: int = _MAX_COUNTS
    _counts: dict[tuple[str, str], tuple[AnyCount, Want]] = Factory(dict)
    """By account and limit, with the latest Want."""
    _holds: dict[str, _Hold] = Factory(dict)
    """In the order of the ends of their leases."""
    _expired: dict[str, _Hold] = Factory(dict)
    """In the order of the ends of their leases."""
    _queues: dict[str, Places] = Factory(dict)
    """Where each waiting request waits."""
    _ready: list[str] = Factory(list)
    _sweep_at: int = field(default=_FIRST_SWEEP, init=False)
    _recent: dict[int, RequestCounts] = field(factory=dict, init=False)
    """By the `id` of a tuple of wants. The value keeps the tuple, so the `id` stays its own."""

    def admit(
        self,
        now: float,
        hold: str,
        wants: Sequence[Want],
        amounts: Sequence[float],
        queue: bool = False,
    ) -> Admitted | Refused:
        """Take from all wants, or from none. `amounts` has an estimate for each want.

        `queue`: if only concurrency refuses, the request waits from now on, until it is admitted,
        or refused for another reason, or calls `leave`.
        """
        if self._expired or self.lease != math.inf:
            self.expire(now)
        if len(self._counts) >= self._sweep_at:
            self._sweep(now)
        counts = self._recent.get(id(wants)) or self._remember(wants)
        if hold in self._holds:
            return Admitted(counts.levels(now))
        turn = self._queues[hold].waiting[hold] if hold in self._queues else None
        levels = counts.take(now, amounts, hold, turn)
        if levels is None:
            amounts = list(map(min, amounts, counts.maxima))
            levels = counts.take(now, amounts, hold, turn)
        if levels is None:
            lacks = counts.lacks(now, amounts, hold, turn)
            result = self._refused(now, hold, counts, lacks, queue)
            self._wake(counts)
            return result
        self.leave(hold)
        self._wake(counts)
        if self._expired:
            self._expired.pop(hold, None)
        self._holds[hold] = _Hold(wants, amounts, now, now + self.lease)
        return make_admitted((levels,))

    def _refused(
        self,
        now: float,
        hold: str,
        counts: RequestCounts,
        lacks: dict[int, Lack],
        queue: bool,
    ) -> Refused:
        wants = counts.wants
        # Concurrency comes last: a request waits for a place only if everything else fits.
        worst = max(lacks, key=lambda n: _severity(lacks[n], wants[n]))
        if queue and wants[worst].kind == "concurrency":
            self._wait(now, hold, counts.counts[worst])
        else:
            self.leave(hold)
        lack = lacks[worst]
        return Refused(worst, lack.retry_after, lack.used_up, counts.levels(now))

    def settle(self, now: float, hold: str, used: Sequence[float]) -> None:
        """End a hold, or the waiting of a request. `used` is in the order of the wants."""
        if self._expired or self.lease != math.inf:
            self.expire(now)
        if self._queues:
            self.leave(hold)
        active = self._holds.pop(hold, None)
        ended = active or self._expired.pop(hold, None)
        if ended is None:
            return
        if len(used) != len(ended.amounts):
            raise ValueError("an amount is missing")
        counts = self._recent.get(id(ended.wants)) or self._remember(ended.wants)
        counts.settle(now, ended.amounts, used, ended.since, bool(active))
        if active:
            self._wake(counts)

    def renew(self, now: float, hold: str) -> None:
        """Begin the lease of a hold again."""
        self.expire(now)
        renewed = self._holds.pop(hold, None)
        if renewed is None and (renewed := self._expired.pop(hold, None)):
            self._counts_of(renewed.wants).renew(renewed.amounts)
        if renewed:
            renewed.ends = now + self.lease
            self._holds[hold] = renewed

    def abandon(self, now: float, hold: str) -> None:
        """End the lease of a hold, or the waiting of a request: its process has died."""
        self.expire(now)
        self.leave(hold)
        if abandoned := self._holds.pop(hold, None):
            abandoned.ends = now
            self._expire(hold, abandoned)

    def drain(self, now: float) -> list[tuple[Want, float]]:
        """Remove what settled requests took from each limit, and return it. Holds stay."""
        self.expire(now)
        reserved: defaultdict[tuple[str, str], float] = defaultdict(float)
        for active in self._holds.values():
            for want, n in zip(active.wants, active.amounts, strict=True):
                reserved[want.account, want.limit] += n
        return [
            (want, count.drain(now, want, reserved[key]))
            for key, (count, want) in self._counts.items()
        ]

    def leave(self, hold: str) -> None:
        """Let a request wait no longer."""
        if places := self._queues.pop(hold, None):
            del places.waiting[hold]
            self._ready += places.next_waiting()

    def expire(self, now: float) -> None:
        """End the leases that are over."""
        while self.next_end <= now:
            hold = next(iter(self._holds))
            self._expire(hold, self._holds.pop(hold))
        while self._expired:
            hold, expired = next(iter(self._expired.items()))
            if expired.ends + _SETTLE_EXPIRED > now:
                break
            del self._expired[hold]

    def _expire(self, hold: str, expired: _Hold) -> None:
        self._expired[hold] = expired
        counts = self._counts_of(expired.wants)
        counts.release(expired.amounts)
        self._wake(counts)

    @property
    def next_end(self) -> float:
        """When the next lease ends, if nobody renews it; infinite without holds."""
        for active in self._holds.values():
            return active.ends
        return math.inf

    def take_ready(self) -> list[str]:
        """The waiting requests that may call `admit` again, since the last call of this method."""
        ready, self._ready = self._ready, []
        return ready

    def _wake(self, counts: RequestCounts) -> None:
        """Let those ask again that have a place now. A reload may have made more places."""
        if self._queues:
            self._ready += counts.next_waiting()

    def _wait(self, now: float, hold: str, places: AnyCount) -> None:
        before = self._queues.get(hold)
        if before is not places and isinstance(places, Places):
            turn = before.waiting[hold] if before else None
            self.leave(hold)
            places.wait(now, hold, turn)
            self._queues[hold] = places

    def _counts_of(self, wants: Sequence[Want]) -> RequestCounts:
        """The counts of a request. Requests with the same accounts have the same tuple of wants."""
        return self._recent.get(id(wants)) or self._remember(wants)

    def _remember(self, wants: Sequence[Want]) -> RequestCounts:
        counts = RequestCounts(wants, [self._count(want) for want in wants])
        if len(self._recent) >= _MAX_RECENT:
            self._recent.clear()
        if isinstance(wants, tuple):
            self._recent[id(wants)] = counts
        return counts

    def _count(self, want: Want) -> AnyCount:
        key = want.account, want.limit
        entry = self._counts.get(key)
        if entry is None or entry[1] is not want:
            count: AnyCount = entry[0] if entry else _COUNTS[want.kind]()
            entry = self._counts[key] = count, want
        return entry[0]

    def _sweep(self, now: float) -> None:
        """Drop unused counts, and the oldest of clients' names if there are too many."""
        unused = [key for key, (count, want) in self._counts.items() if count.is_unused(now, want)]
        for key in unused:
            del self._counts[key]
        excess = len(self._counts) - self.max_counts * 9 // 10
        if len(self._counts) >= self.max_counts:
            names = [
                key
                for key, (count, _) in self._counts.items()
                if key[0].startswith(_OF_CLIENTS) and not isinstance(count, Places)
            ]
            for key in names[:excess]:
                del self._counts[key]
        self._recent.clear()
        number = len(self._counts)
        self._sweep_at = min(max(_FIRST_SWEEP, 2 * number), self.max_counts)
        if self._sweep_at <= number:  # the config has that many keys
            self._sweep_at = number + _FIRST_SWEEP


def _severity(lack: Lack, want: Want) -> tuple[bool, bool, float]:
    return lack.used_up, want.kind != "concurrency", lack.retry_after
