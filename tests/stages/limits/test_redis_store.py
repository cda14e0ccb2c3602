"""RedisStore with a real server: several processes, loss, and return."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from pipeline.task_groups import task_group
from stages.limits.lone_store import LoneStore
from stages.limits.redis_store import READY, RedisStore
from stages.limits.store import Admitted, LimitStore, Refused, StoreUnavailableError
from stages.shared_store.connection import Connection
from tests.redis_server import RedisServer, Resp, needs_server, running_redis
from tests.redis_server import empty_redis as empty_redis
from tests.redis_server import redis_server as redis_server
from tests.stages.limits.support import Ask, budget, places, rate
from tests.waiting import until_async

# coredis leaves streams open when it cannot connect.
pytestmark = [
    needs_server,
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
]
#: Nothing here takes so long, in seconds, unless it hangs.
LIMIT = 20.0
WAITING = "llm-proxy:{all}:waiting"


@contextlib.asynccontextmanager
async def stores(server: RedisServer, number: int = 1, **options: Any) -> AsyncIterator[list[Any]]:
    """Stores of several processes."""
    timeout = options.pop("timeout", 5.0)
    opened = []
    async with task_group() as group:
        for _ in range(number):
            connection = Connection(server.url, timeout, reconnect_after=0.01)
            opened.append(RedisStore(connection, **options))
            await group.start(connection.run)
            assert connection.is_up, connection.error
        yield opened
        group.cancel_scope.cancel()


async def admit(store: LimitStore, hold: str, *asks: Ask, wait: float = 0) -> Admitted | Refused:
    return await store.admit(hold, [ask.want for ask in asks], [ask.amount for ask in asks], wait)


async def left(store: LimitStore, ask: Ask) -> float:
    """What remains of a limit, by an admission that takes nothing."""
    levels = (await store.admit("left", [ask.want], [0])).levels
    await store.settle("left", [0])
    return levels[0].remaining


async def until_up(store: RedisStore) -> None:
    await until_async(lambda: store.connection.is_up)


def lost_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if line.startswith("store ")]


async def test_200_requests_to_two_processes_get_100_places(server: RedisServer) -> None:
    admitted = []

    async def ask(store: RedisStore, hold: str) -> None:
        asks = (rate(100, account="key:a", period="day"), rate(150))
        if isinstance(await admit(store, hold, *asks), Admitted):
            admitted.append(hold)

    async with stores(server, 2) as both, task_group() as group:
        for n in range(200):
            group.start_soon(ask, both[n % 2], str(n))
    assert len(admitted) == 100


async def test_each_process_reads_what_the_others_took(server: RedisServer) -> None:
    async with stores(server, 2) as (one, other):
        await admit(one, "1", budget(100, 30), rate(1000, 200, period="day"), places(5))
        assert await left(other, budget(100, 0)) == 70
        await one.settle("1", [10, 50, 1])
        await one.settle("1", [10, 50, 1])
        assert await left(other, budget(100, 0)) == 90
        assert await left(other, rate(1000, 0, period="day")) == pytest.approx(950, abs=1)
        assert await left(other, places(5)) == 4, "the probe itself has a place"


async def test_places_go_to_those_that_wait_in_their_order(server: RedisServer) -> None:
    order = []

    async def ask(store: RedisStore, hold: str) -> None:
        result = await admit(store, hold, places(1), wait=LIMIT)
        assert isinstance(result, Admitted)
        order.append(hold)
        await store.settle(hold, [1])

    async with stores(server, 2) as (one, other):
        await admit(one, "first", places(1))
        async with task_group() as group:
            for n, store in enumerate((other, one, other)):
                group.start_soon(ask, store, str(n))
                await waiting(server, n + 1)
            assert isinstance(await admit(one, "impatient", places(1)), Refused)
            await one.settle("first", [1])
    assert order == ["0", "1", "2"]


async def waiting(server: RedisServer, number: int) -> None:
    """Wait until this number of requests waits."""
    with Resp(server.port) as client:
        await until_async(lambda: client.call("ZCARD", WAITING) == number)


async def test_a_wait_has_an_end_and_holds_nothing(server: RedisServer) -> None:
    async with stores(server, 2) as (one, other):
        await admit(one, "1", places(1))
        assert isinstance(await admit(other, "2", places(1), wait=0.01), Refused)
        with anyio.move_on_after(0.05):
            await admit(other, "3", places(1), wait=LIMIT)
        await other.settle("3", [0])  # as the stage does
        await one.settle("1", [1])
        assert isinstance(await admit(one, "4", places(1)), Admitted)
        assert not other._holds
        assert not other._kept


async def test_the_holds_of_a_process_that_died_are_free_after_the_lease(
    server: RedisServer,
) -> None:
    async with stores(server, 1, lease=0.3) as (dying,):
        for n in range(20):
            await admit(dying, f"stream {n}", places(20), budget(40, 1))
    async with stores(server, 1) as (other,):
        with anyio.fail_after(LIMIT):
            result = await admit(other, "next", places(20), budget(40, 1), wait=LIMIT)
            assert isinstance(result, Admitted)
            # Each hold has a lease of its own.
            while await left(other, budget(40, 0)) != 39:  # noqa: ASYNC110
                await anyio.sleep(0.01)


async def test_a_renewed_hold_stays(server: RedisServer) -> None:
    async with stores(server, 1, lease=1.0) as (store,):
        await admit(store, "1", places(1))
        for _ in range(11):
            await anyio.sleep(0.1)
            await store.renew("1")
        assert isinstance(await admit(store, "2", places(1)), Refused)


@pytest.mark.parametrize("on_loss", ["local", "allow", "refuse"])
async def test_a_frozen_store_delays_one_request(
    on_loss: Any, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llm_proxy")
    asks = (rate(10, period="day"), budget(10, 1))
    options = {"timeout": 0.2, "lone": LoneStore(on_loss)}
    async with stores(server, 1, **options) as (store,):
        await admit(store, "before", *asks)
        with server.frozen():
            admitted = 0
            for n in range(20):
                with contextlib.suppress(StoreUnavailableError):
                    result = await admit(store, f"lost {n}", *asks)
                    admitted += isinstance(result, Admitted)
                    await store.settle(f"lost {n}", [1, 1])
            assert admitted == {"local": 10, "allow": 20, "refuse": 0}[on_loss]
            await store.settle("before", [1, 1])
        await until_up(store)
        used = 10 if on_loss == "local" else 0
        assert await left(store, budget(10, 0)) == 10 - 1 - used
    [line, back] = lost_lines(caplog)
    silence = re.search(
        rf"does not respond to process {os.getpid()} \(no response in (\d+) ms\)", line
    )
    assert silence
    assert int(silence[1]) >= 200
    assert f"responds to process {os.getpid()} again, after" in back


async def test_what_the_process_counted_alone_is_added_once(server: RedisServer) -> None:
    async with stores(server, 1, timeout=0.2) as (store,):
        await admit(store, "before", budget(100, 10))
        await store.settle("before", [10])
        with server.frozen():
            await admit(store, "ends", budget(100, 30), rate(1000, 300, period="day"))
            await store.settle("ends", [20, 200])
            await admit(store, "runs", budget(100, 30), rate(1000, 300, period="day"))
        await until_up(store)
        assert await left(store, budget(100, 0)) == 70
        await store.settle("runs", [5, 100])
        assert await left(store, budget(100, 0)) == 65
        assert await left(store, rate(1000, 0, period="day")) == pytest.approx(700, abs=1)


async def test_each_process_alone_has_its_share(server: RedisServer) -> None:
    async with stores(server, 2, timeout=0.2) as (_, store):
        assert store.connection.processes == 2
        with server.frozen():
            number = 0
            for n in range(20):
                number += isinstance(await admit(store, str(n), rate(10, period="day")), Admitted)
            assert number == 5


async def test_a_store_that_restarted_empty_serves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "llm_proxy")
    with running_redis() as own:
        async with stores(own, timeout=0.2) as (store,):
            await admit(store, "1", rate(10, 4, period="day"), places(1))
            own.stop()
            assert isinstance(await admit(store, "2", rate(10, 4, period="day")), Admitted)
            own.start()
            await until_up(store)
            await store.settle("1", [4, 1])
            await store.settle("2", [4])
            assert isinstance(await admit(store, "3", places(1)), Admitted)
    assert len(lost_lines(caplog)) == 2


async def test_without_a_server_it_starts_lost(caplog: pytest.LogCaptureFixture) -> None:
    connection = Connection("redis://user:hidden@127.0.0.1:1/0", 0.2)
    store = RedisStore(connection)
    async with task_group() as group:
        await group.start(connection.run)
        assert isinstance(await admit(store, "1", rate(1)), Admitted)
        assert isinstance(await admit(store, "2", rate(1)), Refused)
        group.cancel_scope.cancel()
    [line] = lost_lines(caplog)
    assert line.startswith("store redis://127.0.0.1:1/0 does not respond to process ")
    assert "(ConnectionError" in line
    assert "hidden" not in caplog.text


async def test_a_message_that_is_not_utf_8_is_ignored(server: RedisServer) -> None:
    async with stores(server) as (store,):
        store.on_message(READY, b"\xff")
