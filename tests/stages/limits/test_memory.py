"""MemoryStore: who waits for a place, and for how long."""

from __future__ import annotations

import math

import anyio
import anyio.abc
import pytest
from attrs import Factory, define

from pipeline.task_groups import task_group
from stages.limits.memory import MemoryStore
from stages.limits.store import Admitted, LimitStore, Refused
from tests.stages.limits.support import Ask, places, rate


async def admit(store: LimitStore, hold: str, *asks: Ask, wait: float = 0) -> Admitted | Refused:
    """Ask a store for these."""
    return await store.admit(hold, [ask.want for ask in asks], [ask.amount for ask in asks], wait)


@define
class Asking:
    """Requests to a store, each in its task; those that were admitted, in their order."""

    group: anyio.abc.TaskGroup
    store: MemoryStore
    admitted: list[str] = Factory(list)
    refused: list[str] = Factory(list)
    scopes: dict[str, anyio.CancelScope] = Factory(dict)

    async def ask(self, hold: str, *asks: Ask, wait: float = 1000) -> None:
        """Ask; on return the request was admitted or refused, or waits."""
        self.group.start_soon(self._ask, hold, asks, wait)
        await anyio.wait_all_tasks_blocked()

    async def _ask(self, hold: str, asks: tuple[Ask, ...], wait: float) -> None:
        with anyio.CancelScope() as self.scopes[hold]:
            result = await admit(self.store, hold, *asks, wait=wait)
            (self.refused if isinstance(result, Refused) else self.admitted).append(hold)

    async def settle(self, hold: str) -> None:
        await self.store.settle(hold, [1])
        await anyio.wait_all_tasks_blocked()


async def test_it_is_a_store() -> None:
    store: LimitStore = MemoryStore()
    assert store.lease == math.inf
    assert isinstance(await admit(store, "1", rate(1)), Admitted)
    assert isinstance(await admit(store, "2", rate(1)), Refused)
    await store.settle("1", [0])
    await store.renew("1")
    assert isinstance(await admit(store, "2", rate(1)), Admitted)


async def test_places_go_to_those_that_wait_in_their_order() -> None:
    async with task_group() as group:
        asking = Asking(group, MemoryStore())
        for hold in "abcd":
            await asking.ask(hold, places(2))
        assert asking.admitted == ["a", "b"]
        await asking.settle("b")
        await asking.settle("a")
        assert asking.admitted == ["a", "b", "c", "d"]


async def test_a_request_that_does_not_wait_passes_nobody() -> None:
    async with task_group() as group:
        asking = Asking(group, MemoryStore())
        await asking.ask("a", places(1))
        await asking.ask("b", places(1))
        asking.store._ledger.settle(0, "a", [1])  # "b" is ready, but has not run yet
        await asking.ask("c", places(1), wait=0)
        assert asking.refused == ["c"]
        await asking.settle("a")
        group.cancel_scope.cancel()


async def test_a_cancelled_request_holds_nothing_and_the_next_one_goes_on() -> None:
    async with task_group() as group:
        asking = Asking(group, MemoryStore())
        for hold in "abc":
            await asking.ask(hold, places(1))
        asking.scopes["b"].cancel()
        await anyio.wait_all_tasks_blocked()
        await asking.settle("a")
        assert asking.admitted == ["a", "c"]
        await asking.settle("c")
        assert not asking.store._events
        assert not asking.store._ledger._queues


async def test_a_place_that_is_free_goes_on_if_the_first_one_is_cancelled() -> None:
    async with task_group() as group:
        asking = Asking(group, MemoryStore())
        for hold in "abc":
            await asking.ask(hold, places(1))
        await asking.store.settle("a", [1])
        asking.scopes["b"].cancel()  # it is ready, and has not run yet
        await anyio.wait_all_tasks_blocked()
        assert asking.admitted in (["a", "b"], ["a", "c"])
        await asking.settle("b")
        await asking.settle("c")


async def test_a_config_with_more_places_wakes_requests_that_wait() -> None:
    async with task_group() as group:
        asking = Asking(group, MemoryStore())
        for hold in "abcd":
            await asking.ask(hold, places(1))
        await asking.ask("new", places(5))
        assert asking.admitted[:2] == ["a", "new"]
        assert sorted(asking.admitted[2:]) == ["b", "c", "d"]  # they wake in any order


async def test_a_request_waits_for_the_places_of_two_accounts() -> None:
    async with task_group() as group:
        asking = Asking(group, MemoryStore())
        await asking.ask("a", places(1))
        await asking.ask("k", places(1, "key:k"))
        await asking.ask("both", places(1), places(1, "key:k"))
        await asking.store.settle("a", [1])
        await anyio.wait_all_tasks_blocked()
        assert asking.admitted == ["a", "k"]
        await asking.settle("k")
        assert asking.admitted == ["a", "k", "both"]


async def test_a_rate_that_is_used_up_meanwhile_refuses() -> None:
    async with task_group() as group:
        asking = Asking(group, MemoryStore(clock=lambda: 0))
        await asking.ask("a", places(1))
        await asking.ask("b", places(1), rate(1))
        await asking.ask("rate", rate(1))
        await asking.settle("a")
        assert asking.refused == ["b"]


async def test_a_request_waits_no_longer_than_it_said() -> None:
    store = MemoryStore()
    await admit(store, "a", places(1))
    with anyio.fail_after(30):
        result = await admit(store, "b", places(1), wait=0.01)
    assert isinstance(result, Refused)
    assert not store._ledger._queues


async def test_the_end_of_a_lease_frees_the_place() -> None:
    store = MemoryStore(lease=0.02)
    await admit(store, "dead", places(1))
    with anyio.fail_after(30):
        assert isinstance(await admit(store, "b", places(1), wait=4), Admitted)


@pytest.mark.parametrize("number", [200])
async def test_a_hundred_of_many_concurrent_requests_are_admitted(number: int) -> None:
    async with task_group() as group:
        asking = Asking(group, MemoryStore(clock=lambda: 0))
        for n in range(number):
            group.start_soon(asking._ask, str(n), (rate(100), rate(150, account="key:a")), 0)
        await anyio.wait_all_tasks_blocked()
    assert (len(asking.admitted), len(asking.refused)) == (100, number - 100)
