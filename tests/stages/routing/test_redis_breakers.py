"""Circuit breakers of several processes with a real store."""

from __future__ import annotations

import anyio
import pytest

from pipeline.task_groups import task_group
from stages.routing.breaker import Breakers
from stages.routing.redis_breakers import RedisBreakers
from stages.shared_store.connection import Connection
from tests.redis_server import RedisServer, needs_server
from tests.redis_server import redis_server as redis_server
from tests.waiting import until_async

pytestmark = needs_server


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_opening_reaches_processes_now_and_later(redis_server: RedisServer) -> None:
    processes: list[Breakers] = []
    async with task_group() as group:

        async def join() -> None:
            connection, breakers = Connection(redis_server.url, 5.0), Breakers(failures=1)
            member = RedisBreakers(connection)
            connection.members.append(member)
            member.attach(breakers, {"gpu": "http://gpu"})
            processes.append(breakers)
            await group.start(connection.run)

        await join()
        await join()
        now = anyio.current_time()
        processes[0].get("gpu").attempt(now).failed(now)
        await until_async(lambda: processes[1].states(now).get("gpu") == "open")
        await join()
        assert processes[2].states(anyio.current_time()) == {"gpu": "open"}
        group.cancel_scope.cancel()
