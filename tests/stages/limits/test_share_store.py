"""ShareStore: the bound of its error in random histories, and its calls of the store."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from attrs import Factory, define, field

from pipeline.task_groups import task_group
from stages.limits.memory import MemoryStore
from stages.limits.share_store import ShareStore
from stages.limits.store import Admitted, LimitStore, Refused, StoreUnavailableError, Want
from tests.cases import for_each
from tests.stages.limits.support import Ask, budget, places, rate

REPLICAS = 4
MAXIMUM = 6000.0
MAX_ERROR = 0.1
#: What each replica may have at most.
SIZE = MAXIMUM * MAX_ERROR / REPLICAS


@define
class Counted(MemoryStore):
    """A store in another process: its calls take turns of the event loop, and can fail."""

    calls: int = 0
    turns: random.Random = Factory(lambda: random.Random(0))
    lost: bool = False

    async def admit(
        self, hold: str, wants: Sequence[Want], amounts: Sequence[float], wait: float = 0.0
    ) -> Admitted | Refused:
        if self.lost:
            raise StoreUnavailableError
        self.calls += 1
        try:
            await self._take_turns()
            return await super().admit(hold, wants, amounts, wait)
        finally:
            await self._take_turns()

    async def settle(self, hold: str, used: Sequence[float]) -> None:
        self.calls += 1
        with anyio.CancelScope(shield=True):
            await self._take_turns()
            await super().settle(hold, used)

    async def _take_turns(self) -> None:
        for _ in range(self.turns.choice([0, 1, 3])):
            await anyio.lowlevel.checkpoint()


@define(repr=False)
class World:
    """Replicas with one store, and what their requests used. `now` is the time of all clocks."""

    random: random.Random
    replicas: int = REPLICAS
    max_error: float = MAX_ERROR
    now: float = 1_795_867_200.0
    store: Counted = field(init=False)
    stores: list[ShareStore] = field(init=False)
    running: dict[str, tuple[ShareStore, float]] = Factory(dict)
    """The store and the estimate of each request in flight."""
    used: float = 0.0
    """The use of requests that have ended, and the estimates of those in flight."""
    lowest: float = math.inf
    """The least that `_without_refill` was."""
    number: int = 0

    def __attrs_post_init__(self) -> None:
        self.store = Counted(clock=lambda: self.now, turns=self.random)
        self.stores = [self.make() for _ in range(self.replicas)]
        self.lowest = self._without_refill

    def make(self) -> ShareStore:
        return ShareStore(self.store, self.max_error, lambda: self.replicas, lambda: self.now)

    @property
    def _without_refill(self) -> float:
        return self.used - self.now * MAXIMUM / 60

    async def admit(self, store: ShareStore, estimate: float) -> bool:
        self.number += 1
        hold = str(self.number)
        result = await admit(store, hold, rate(MAXIMUM, estimate))
        if isinstance(result, Refused):
            return False
        self.running[hold] = store, estimate
        self.used += estimate
        excess = self._without_refill - self.lowest - MAXIMUM
        assert excess <= self.max_error * MAXIMUM + 1e-6, "since any time"
        return True

    async def settle(self, hold: str, part: float) -> None:
        store, estimate = self.running.pop(hold)
        self.used -= estimate * (1 - part)
        self.lowest = min(self.lowest, self._without_refill)
        await store.settle(hold, [estimate * part])

    async def step(self, estimates: Sequence[float]) -> None:
        """Some concurrent calls; then time passes, or a replica dies and another one starts."""
        async with task_group() as group:
            for _ in range(self.random.randint(1, 12)):
                store = self.random.choice(self.stores)
                group.start_soon(self.admit, store, self.random.choice(estimates))
            count = min(len(self.running), self.random.randint(0, 12))
            for hold in self.random.sample(sorted(self.running), count):
                group.start_soon(self.settle, hold, self.random.random())
        self.now += self.random.choice([0, 0, 0.01, 0.3, 2, 7])
        self.lowest = min(self.lowest, self._without_refill)
        if self.random.random() < 0.05:
            dead = self.stores.pop(0)
            self.stores.append(self.make())
            for hold, (store, _) in list(self.running.items()):
                if store is dead:
                    del self.running[hold]


async def admit(store: LimitStore, hold: str, *asks: Ask) -> Admitted | Refused:
    return await store.admit(hold, tuple([ask.want for ask in asks]), [ask.amount for ask in asks])


@for_each("seed", range(25))
async def test_a_limit_is_exceeded_by_at_most_the_shares_of_all_replicas(seed: int) -> None:
    world = World(random.Random(seed))
    for _ in range(120):
        await world.step([5, 40, SIZE, 3 * SIZE])
    assert world.number > 300


@pytest.mark.parametrize(
    ("seconds", "max_error", "excess"),
    [(4.9, 0.05, 300), (4.9, 0.2, 490)],
    ids=["all shares", "as much as was refilled"],
)
async def test_the_bound_is_reached(seconds: float, max_error: float, excess: float) -> None:
    """Each replica opens a share, which the limit refills; then all of both are used at once."""
    world = World(random.Random(1), max_error=max_error)
    for store in world.stores:
        await world.admit(store, 0)
    world.now += seconds
    world.lowest = world._without_refill
    for _ in range(3):  # a refusal opens no share for a second
        for store in world.stores:
            while await world.admit(store, 5):
                pass
    assert world.used == MAXIMUM + excess


@for_each("seed", range(10))
async def test_the_store_counts_what_was_used_when_all_shares_are_over(seed: int) -> None:
    world = World(random.Random(seed))
    world.store.clock = lambda: 1_795_867_200.0  # nothing leaks
    used = 0.0
    for _ in range(60):
        estimate = world.random.choice([1, 20, SIZE, 2 * SIZE])
        await world.admit(world.random.choice(world.stores), estimate)
        if world.running and world.random.random() < 0.9:
            hold = world.random.choice(list(world.running))
            await world.settle(hold, 0.1)
        world.now += world.random.choice([0, 0, 1])
    for hold in list(world.running):
        await world.settle(hold, 0.1)
    used = world.used
    world.now += 100
    for store in world.stores:
        await admit(store, "last", budget(1, 0))  # any call closes what is over
        await store.settle("last", [0])

    [level] = (await admit(world.store, "left", rate(MAXIMUM, 0))).levels
    assert MAXIMUM - level.remaining == pytest.approx(used)
    assert used > 0


async def test_requests_of_a_share_need_no_call() -> None:
    world = World(random.Random(1), replicas=2)
    [store, _] = world.stores
    for n in range(30):
        assert isinstance(await admit(store, str(n), rate(MAXIMUM, 10)), Admitted)
        await store.settle(str(n), [10])
    assert world.store.calls == 1, "300 are a size"

    assert isinstance(await admit(store, "next", rate(MAXIMUM, 10)), Admitted)
    assert world.store.calls == 3, "the first share is settled, and another one is opened"


async def test_a_share_is_over_after_five_seconds() -> None:
    world = World(random.Random(1), replicas=2)
    [store, _] = world.stores
    for n in range(4):
        await admit(store, str(n), rate(MAXIMUM, 10))
        await store.settle(str(n), [10])
        world.now += 4
    assert world.store.calls == 3, "two shares, the first of which is settled"


async def test_a_request_waits_for_few_shares_that_are_over() -> None:
    world = World(random.Random(1), replicas=1)
    [store] = world.stores
    for n in range(100):
        await admit(store, str(n), rate(MAXIMUM, 10, f"session:{n}"))
        await store.settle(str(n), [10])
    world.now += 5
    before = world.store.calls
    await admit(store, "next", rate(MAXIMUM, 10))
    assert world.store.calls - before <= 5
    for n in range(25):
        await admit(store, f"later {n}", rate(MAXIMUM, 10))
    assert len(store._open) == 1, "later requests close the others"


async def test_budgets_and_places_are_exact() -> None:
    world = World(random.Random(1))
    one, other = world.stores[:2]
    asks = (rate(MAXIMUM, 10), places(1), budget(5, 3))
    assert isinstance(await admit(one, "1", *asks), Admitted)
    result = await admit(other, "2", *asks)
    assert isinstance(result, Refused)
    assert (result.want, [round(level.remaining) for level in result.levels]) == (2, [5850, 0, 2])
    await one.settle("1", [10, 1, 3])
    assert isinstance(await admit(other, "3", rate(MAXIMUM, 10), places(1)), Admitted)


async def test_near_the_end_of_a_limit_requests_are_counted_one_by_one() -> None:
    world = World(random.Random(1))
    [one, other, *_] = world.stores
    admitted = 0
    for n in range(2 * int(MAXIMUM) // 50):
        admitted += isinstance(
            await admit(other if n % 2 else one, str(n), rate(MAXIMUM, 50)), Admitted
        )
    assert admitted == MAXIMUM / 50, "both had shares, and used them up"


async def test_a_request_larger_than_a_share_is_exact() -> None:
    world = World(random.Random(1))
    assert isinstance(await admit(world.stores[0], "1", rate(MAXIMUM, SIZE + 1)), Admitted)
    await world.stores[0].settle("1", [7])
    [level] = (await admit(world.store, "left", rate(MAXIMUM, 0))).levels
    assert level.remaining == MAXIMUM - 7


async def test_a_new_maximum_opens_a_new_share() -> None:
    world = World(random.Random(1), replicas=1)
    [store] = world.stores
    await admit(store, "1", rate(1000, 10))
    assert isinstance(await admit(store, "2", rate(20, 1)), Refused), "10 are in flight, 100 taken"
    await store.settle("1", [10])
    [level] = (await admit(store, "3", rate(20, 1))).levels
    assert level.remaining == 9


async def test_a_lost_store_takes_nothing() -> None:
    world = World(random.Random(1), replicas=1)
    [store] = world.stores
    await admit(store, "1", rate(MAXIMUM, 10))
    world.store.lost = True
    with pytest.raises(StoreUnavailableError):
        await admit(store, "2", rate(MAXIMUM, 10), places(1))
    assert isinstance(await admit(store, "3", rate(MAXIMUM, 590)), Admitted), "the share remains"
    with pytest.raises(StoreUnavailableError):
        await admit(store, "4", rate(MAXIMUM, 10))
    assert set(store._holds) == {"1", "3"}


async def test_a_request_that_is_cancelled_takes_nothing() -> None:
    world = World(random.Random(1), replicas=1)
    [store] = world.stores
    for n in range(20):
        with anyio.CancelScope() as scope:
            world.store.turns = CancelAfter(n % 5, scope)
            asks = (rate(MAXIMUM, 10), rate(90, 10, "key:a"), places(5))
            await admit(store, str(n), *asks)
        world.store.turns = random.Random(1)
        await store.settle(str(n), [0, 0, 0])  # as the stage does
    world.now += 5
    await admit(store, "last", budget(1, 0))

    asks = (rate(MAXIMUM, 0), rate(90, 0, "key:a"), places(5))
    levels = (await admit(world.store, "left", *asks)).levels
    assert [level.remaining for level in levels] == [MAXIMUM, 90, 4], "the probe itself has a place"


class CancelAfter(random.Random):
    """Cancels a scope at the call of this number."""

    def __init__(self, number: int, scope: anyio.CancelScope) -> None:
        super().__init__(number)
        self.number, self.scope = number, scope

    def choice(self, options: Any) -> Any:
        self.number -= 1
        if self.number < 0:
            self.scope.cancel()
        return 1
