"""The port of the stage `limit` to where limits are counted, and the values that cross it.

    implementation                   processes that share it
    ------------------------------   -----------------------
    MemoryStore, in memory.py        one
    RedisStore, in redis_store.py    those of several machines
    ShareStore, in share_store.py    the same, with fewer calls of the RedisStore
    SharedLimitStore, in             the workers of one machine
      proxy/coordinator/limit_store

Arguments and results are numbers and texts, so a store may be in another process.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple, Protocol

from attrs import frozen

from stages.limits.config import Period

Kind = Literal["rate", "budget", "concurrency"]
PERIODS: Mapping[Kind, Container[Period]] = {
    "rate": ("minute", "hour", "day"),
    "budget": ("day", "month"),
    "concurrency": ("",),
}


@frozen
class Want:
    """One limit of one account, from which a request takes an amount.

    `account` and `limit` identify the count, such as `key:alice` and `requests_per_minute`. The
    store has no config: `maximum` and `period` are those of the config now.

        kind          period               a request takes
        -----------   ------------------   ---------------------------------------------------
        rate          minute, hour, day    its amount, from a bucket that refills `maximum` a period
        budget        day, month           its amount, of `maximum` in each day or month of UTC
        concurrency   (empty)              one of `maximum` places
    """

    account: str
    limit: str
    kind: Kind
    period: Period
    maximum: float


class Level(NamedTuple):
    """The state of one limit. `reset_after`: seconds until all of it is available again.

    `remaining` is negative while settled requests had used more than the limit has. With
    concurrency `reset_after` is 0: nobody knows.
    """

    remaining: float
    reset_after: float


class Admitted(NamedTuple):
    """The request may start. `levels` are those after it, one for each Want, in their order."""

    levels: tuple[Level, ...]


#: Make a Level or an Admitted of a tuple of its fields, in a third of the time of a call of the
#: class, which is a Python function.
make_level = partial(tuple.__new__, Level)
make_admitted = partial(tuple.__new__, Admitted)


class Refused(NamedTuple):
    """The request may not start. `levels` are those without it, as in Admitted.

    `want` is the index of the Want that did not fit; of several, the one that needs most time.
    `retry_after`: seconds until it fits, if no other request comes first. `used_up`: a budget was
    spent, so only its next day or month helps; otherwise requests in flight may give some back.
    """

    want: int
    retry_after: float
    used_up: bool
    levels: tuple[Level, ...]


class StoreUnavailableError(Exception):
    """The store cannot be asked, and the config says to refuse requests then."""


class LimitStore(Protocol):
    """Counts what requests take from limits.

    Hold ids are unique among all processes: they are the random ids of requests.

    *Atomic.* `admit` takes from all wants or from none. No other call sees a part of it. Calls of
    several processes take effect one after the other.

    *Amounts* are at least 0. An amount above the `maximum` of its want takes `maximum`: such a
    request needs the whole limit, but is possible. `settle` then charges what was used.

    *Idempotent.* `admit` with the id of a hold changes nothing, and returns Admitted. Only the
    first `settle` of a hold has an effect. `settle` and `renew` of an unknown id do nothing. So a
    caller may repeat each call whose result it did not get.

    *Leases.* A hold without `renew` for `lease` seconds expires: its places and its part of budgets
    are free. What it took from rates refills anyway. A later `settle` (within an hour) still
    charges what was used. A later `renew` makes it a hold again, also above a maximum.

    *Clock.* The store's own, in Unix seconds, never the caller's. If it goes back, rates refill
    from the new time on, and a budget stays that of the later day or month, unless the clock goes
    back by more than one of them.

    *Bounded.* A count that equals that of an unused limit takes no memory. The oldest counts of
    sessions and agents, whose names come from clients, are dropped if there are too many.

    *Errors.* `admit` raises StoreUnavailableError, and nothing else. `settle` and `renew` raise
    nothing. A store that can be lost decides itself what happens then, as the config says, and logs
    the change once. A call takes at most 50 ms, apart from `wait`.

    *Cancellation.* `settle` completes also in a cancelled scope: a store that awaits in it shields
    itself.
    """

    @property
    def lease(self) -> float:
        """Seconds. The caller renews each hold after every third of it. Infinite: no renewals."""

    async def admit(
        self, hold: str, wants: Sequence[Want], amounts: Sequence[float], wait: float = 0.0
    ) -> Admitted | Refused:
        """Take from all `wants`, or return the Refused of one. `amounts` has an estimate for each.

        If only concurrency refuses, wait for at most `wait` seconds for a place. The request that
        waits longest goes first, and a request with `wait=0` does not pass those that wait. A
        waiting request holds nothing. When it gets a place, all wants are checked again.

        If the caller is cancelled, or the call fails, the store may have taken: call `settle` with
        zeros.
        """

    async def settle(self, hold: str, used: Sequence[float]) -> None:
        """End a hold, and correct its estimates. `used` has an amount for each Want of `admit`.

        A rate gets back what it gave too much, or gives the rest, perhaps below 0. A budget spends
        `used` in the day and month of now. A place is free.
        """

    async def renew(self, hold: str) -> None:
        """Begin the lease of a hold again."""
