"""Connection with a real server: losses while it connects, and messages of other versions."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest
from attrs import define

from pipeline.task_groups import task_group
from proxy.store_sharing import StoreSharing
from stages.backends.call_queue import QueuedCall
from stages.backends.redis_call_queue import RedisCallQueue
from stages.routing.breaker import Breakers
from stages.routing.redis_breakers import RedisBreakers
from stages.shared_store.client import Script
from stages.shared_store.connection import Connection
from stages.shared_store.member import Member
from stages.shared_store.section import Store
from tests.redis_server import RedisServer, Resp
from tests.redis_server import redis_server as redis_server

# coredis leaves streams open when it cannot connect.
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning")
_ONE = Script("return 1")


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.005)


@define(eq=False)
class Cut(Member):
    """The server closes the first connection of `connection` while this member connects."""

    connection: Connection
    port: int
    connected: int = 0

    @property
    def channels(self) -> tuple[str, ...]:
        return ("llm-proxy:test",)

    async def on_connect(self) -> None:
        self.connected += 1
        if self.connected == 1:
            with Resp(self.port) as client:
                client.call("CLIENT", "KILL", "TYPE", "pubsub")
            await until(lambda: self.connection.is_lost)


async def test_a_connection_that_ends_while_it_is_made_is_made_again(
    redis_server: RedisServer,
) -> None:
    connection = Connection(redis_server.url, 0.2, reconnect_after=0.01)
    connection.members.append(cut := Cut(connection, redis_server.port))
    async with task_group() as group:
        await group.start(connection.run)
        await until(lambda: cut.connected >= 2 and connection.is_up)
        assert await connection.call(_ONE, [], []) == 1
        group.cancel_scope.cancel()


async def test_a_message_that_is_no_change_of_a_breaker_is_ignored(
    redis_server: RedisServer,
) -> None:
    connection, breakers = Connection(redis_server.url, 0.2), Breakers(failures=1)
    connection.members.append(member := RedisBreakers(connection))
    member.attach(breakers, {"gpu": "http://gpu"})
    async with task_group() as group:
        await group.start(connection.run)
        with Resp(redis_server.port) as client:
            client.call("PUBLISH", "llm-proxy:breakers", '["other","gpu http://gpu","melted"]')
            client.call("PUBLISH", "llm-proxy:breakers", b"\xff")
            client.call("PUBLISH", "llm-proxy:breakers", '["other","gpu http://gpu","opened"]')
        await until(lambda: breakers.states(anyio.current_time()).get("gpu") == "open")
        group.cancel_scope.cancel()


@define(eq=False)
class Reloads(Member):
    """A reload adds a queue while the connection is made again."""

    sharing: StoreSharing
    queue: RedisCallQueue | None = None

    async def on_connect(self) -> None:
        if self.sharing.connection.is_lost and self.queue is None:
            self.queue = self.sharing.queue("new", 1)


async def test_a_queue_that_is_new_while_the_store_comes_back_is_shared(
    redis_server: RedisServer,
) -> None:
    connection = Connection(redis_server.url, 0.2, reconnect_after=0.01)
    sharing = StoreSharing(Store(redis_server.url, lease=0.3), connection)
    connection.members.append(reloads := Reloads(sharing))
    async with task_group() as group:
        await group.start(connection.run)
        with Resp(redis_server.port) as client:
            client.call("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: reloads.queue is not None and reloads.queue._alone is None)
        assert reloads.queue is not None
        await reloads.queue.enter(QueuedCall(("key", ""), short=True), 1)
        with Resp(redis_server.port) as client:
            assert client.call("SCARD", "llm-proxy:{queue:new}:running") == 1
        group.cancel_scope.cancel()
