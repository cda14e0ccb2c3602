"""Connection with a real server: losses while it connects, and messages of other versions."""

from __future__ import annotations

import socket

import anyio
import pytest
from attrs import define, validators

from pipeline.task_groups import task_group
from proxy.store_sharing import StoreSharing
from stages.backends.call_queue import QueuedCall
from stages.backends.redis_call_queue import RedisCallQueue
from stages.routing.breaker import Breakers
from stages.routing.redis_breakers import RedisBreakers
from stages.shared_store.client import Script, make_client
from stages.shared_store.connection import Connection
from stages.shared_store.member import Member
from stages.shared_store.script_sender import ScriptSender, StoreLostError
from stages.shared_store.section import Store
from tests.redis_server import RedisServer, Resp, needs_server
from tests.redis_server import redis_server as redis_server
from tests.waiting import until_async

pytestmark = [
    needs_server,
    # coredis leaves streams open when it cannot connect.
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
]
_ONE = Script("return 1")


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
            await until_async(lambda: self.connection.is_lost)


async def test_a_connection_that_ends_while_it_is_made_is_made_again(
    redis_server: RedisServer,
) -> None:
    connection = Connection(redis_server.url, 0.2, reconnect_after=0.01)
    connection.members.append(cut := Cut(connection, redis_server.port))
    async with task_group() as group:
        await group.start(connection.run)
        await until_async(lambda: cut.connected >= 2 and connection.is_up)
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
        await until_async(lambda: breakers.states(anyio.current_time()).get("gpu") == "open")
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
    with validators.disabled():
        section = Store(redis_server.url, lease=0.3)
    sharing = StoreSharing(section, connection)
    connection.members.append(reloads := Reloads(sharing))
    async with task_group() as group:
        await group.start(connection.run)
        with Resp(redis_server.port) as client:
            client.call("CLIENT", "KILL", "TYPE", "pubsub")
        await until_async(lambda: reloads.queue is not None and reloads.queue._alone is None)
        assert reloads.queue is not None
        await reloads.queue.enter(QueuedCall(("key", ""), short=True), 1)
        with Resp(redis_server.port) as client:
            assert client.call("SCARD", "llm-proxy:{queue:new}:running") == 1
        group.cancel_scope.cancel()


async def test_200_calls_of_a_silent_store_share_one_deadline() -> None:
    """The server accepts, and never responds. The calls do not wait one after the other."""
    ended: list[float] = []

    async def call() -> None:
        with pytest.raises(StoreLostError):
            await connection.call(_ONE, [], [])
        ended.append(anyio.current_time() - began)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        connection = Connection(url, timeout=1.0, error="")
        async with task_group() as group, make_client(url) as client:
            connection._sender = ScriptSender(client, group, 1.0, connection._lose)
            began = anyio.current_time()
            async with task_group() as calls:
                for _ in range(200):
                    calls.start_soon(call)
            group.cancel_scope.cancel()

    assert len(ended) == 200
    assert connection.is_lost
    assert max(ended) < 12 * connection.timeout  # 10 without a CPU


async def test_a_user_without_channels_is_reported(redis_server: RedisServer) -> None:
    """The server's error response to SUBSCRIBE does not come out of the client library."""
    with Resp(redis_server.port) as client:
        client.call("ACL", "SETUSER", "u", "reset", "on", ">pw", "~llm-proxy:*", "+@all")
    connection = Connection(redis_server.url.replace("//", "//u:pw@"), 0.2)
    connection.members.append(Cut(connection, redis_server.port))
    async with task_group() as group:
        await group.start(connection.run)
        group.cancel_scope.cancel()
    assert "subscription" in connection.error
    assert "`&llm-proxy:*`" in connection.error


async def test_calls_that_wait_end_with_the_connection(redis_server: RedisServer) -> None:
    connection = Connection(redis_server.url, 10.0, reconnect_after=0.01)
    connection.members.append(Cut(connection, redis_server.port, connected=1))
    ended: list[str] = []

    async def call() -> None:
        with pytest.raises(StoreLostError) as error:
            await connection.call(_ONE, [], [])
        ended.append(str(error.value))

    async with task_group() as calls:
        async with task_group() as group:
            await group.start(connection.run)
            with redis_server.frozen():
                for _ in range(200):
                    calls.start_soon(call)
                sender = connection._sender
                assert sender is not None
                await until_async(lambda: sender.sends + sender.waiting == 4 + 200 - 4 * 16)
                group.cancel_scope.cancel()
        await call()

    assert ended == ["the connection has ended"] * 201
