"""ScriptSender with a real server: which scripts are sent together, and which are not sent."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream
from attrs import Factory, define

from pipeline.task_groups import task_group
from stages.shared_store.client import Script, ScriptCall, make_client
from stages.shared_store.script_sender import ScriptSender, StoreLostError
from tests.redis_server import RedisServer, Resp, needs_server
from tests.redis_server import empty_redis as empty_redis
from tests.redis_server import redis_server as redis_server
from tests.waiting import until_async

pytestmark = needs_server
_COUNT = Script("return redis.call('INCR', KEYS[1])")
_ECHO = Script("return ARGV[1]")
_FAIL = Script("return redis.error_reply('it fails')")


@define(eq=False)
class Relay:
    """Passes bytes to a server and back. It counts what the client writes."""

    port: int
    writes: list[bytes] = Factory(list)

    async def serve(self, client: SocketStream) -> None:
        async with (
            client,
            await anyio.connect_tcp("127.0.0.1", self.port) as server,
            task_group() as group,
        ):
            group.start_soon(self._copy, client, server, self.writes.append)
            await self._copy(server, client, lambda _: None)
            group.cancel_scope.cancel()

    async def _copy(
        self, source: SocketStream, target: SocketStream, seen: Callable[[bytes], None]
    ) -> None:
        async for data in source:
            seen(data)
            await target.send(data)


@asynccontextmanager
async def open_sender(
    port: int, seconds: float = 10.0, lost: list[str] | None = None
) -> AsyncIterator[ScriptSender]:
    lost = [] if lost is None else lost
    async with task_group() as group, make_client(f"redis://127.0.0.1:{port}") as client:
        yield ScriptSender(client, group, seconds, lambda _, reason: lost.append(reason))
        group.cancel_scope.cancel()


async def call(sender: ScriptSender, script: Script, *arguments: str) -> object:
    return await sender.call(ScriptCall(script, ["key"], arguments))


async def until_sent(sender: ScriptSender, sends: int, waiting: int) -> None:
    await until_async(lambda: (sender.sends, sender.waiting) == (sends, waiting))


async def fail(sender: ScriptSender, reason: str) -> None:
    with pytest.raises(StoreLostError, match=reason):
        await call(sender, _ECHO, "text")


async def hear(sender: ScriptSender) -> None:
    """Pretend that messages come."""
    while True:
        sender.heard = anyio.current_time()
        await anyio.sleep(0.01)


async def test_a_burst_of_calls_is_sent_in_few_writes(server: RedisServer) -> None:
    """The client library would need a turn of the event loop for each call before it writes."""
    relay, responses = Relay(server.port), set()

    async def count() -> None:
        responses.add(await call(sender, _COUNT))

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    async with listener, task_group() as group:
        group.start_soon(listener.serve, relay.serve)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with open_sender(port) as sender:
            assert await call(sender, _COUNT) == 1
            relay.writes.clear()
            async with task_group() as calls:
                for _ in range(200):
                    calls.start_soon(count)
        group.cancel_scope.cancel()

    assert responses == {*range(2, 202)}
    assert b"".join(relay.writes).count(b"EVALSHA") == 200
    assert len(relay.writes) <= 13
    assert max(write.count(b"EVALSHA") for write in relay.writes) <= 4 * 16


async def test_calls_that_wait_are_sent_in_order_after_a_send_has_ended(
    server: RedisServer,
) -> None:
    responses: dict[int, object] = {}

    async def count(n: int) -> None:
        responses[n] = await call(sender, _COUNT)

    async with open_sender(server.port) as sender, task_group() as calls:
        assert await call(sender, _COUNT) == 1
        await until_sent(sender, 0, 0)
        with server.frozen():
            for n in range(20):
                calls.start_soon(count, n)
                await until_sent(sender, min(n + 1, 4), max(n - 3, 0))
    assert responses == {n: n + 2 for n in range(20)}


async def test_a_call_that_is_cancelled_while_it_waits_is_not_sent(server: RedisServer) -> None:
    async with open_sender(server.port) as sender:
        assert await call(sender, _COUNT) == 1
        await until_sent(sender, 0, 0)
        async with task_group() as calls:
            with server.frozen():
                for n in range(4):
                    calls.start_soon(call, sender, _COUNT)
                    await until_sent(sender, n + 1, 0)
                with anyio.move_on_after(0):
                    await call(sender, _COUNT)
        await until_sent(sender, 0, 0)
        with anyio.move_on_after(0):  # nothing else is in flight
            await call(sender, _ECHO, "text")
        await until_sent(sender, 0, 0)
        assert await call(sender, _COUNT) == 6  # not 7


async def test_scripts_that_the_server_does_not_have_are_loaded_once(server: RedisServer) -> None:
    """Each call gets its own result, also if only some scripts are unknown."""
    responses: dict[int, object] = {}
    counted: list[Any] = []

    async def echo(n: int) -> None:
        responses[n] = await call(sender, _ECHO, str(n))

    async def count() -> None:
        counted.append(await call(sender, _COUNT))

    with Resp(server.port) as client:
        async with open_sender(server.port) as sender:
            client.call("SCRIPT", "FLUSH")
            client.call("CONFIG", "RESETSTAT")
            client.call("SCRIPT", "LOAD", _COUNT.text)
            async with task_group() as calls:
                for n in range(8):
                    calls.start_soon(echo, n)
                    calls.start_soon(count)
        stats = client.call("INFO", "commandstats").decode()

    assert responses == {n: str(n).encode() for n in range(8)}
    assert sorted(counted) == [*range(1, 9)]
    assert "cmdstat_script|load:calls=2," in stats  # one is the test's own


async def test_a_cancelled_call_is_not_sent_again_with_its_script(server: RedisServer) -> None:
    with Resp(server.port) as client:
        async with open_sender(server.port) as sender:
            await call(sender, _ECHO, "first")
            await until_sent(sender, 0, 0)
            client.call("SCRIPT", "FLUSH")
            async with task_group() as calls:
                with server.frozen():
                    calls.start_soon(call, sender, _COUNT)
                    await until_sent(sender, 1, 0)
                    calls.cancel_scope.cancel()
            await until_sent(sender, 0, 0)
            assert await call(sender, _COUNT) == 1


async def test_an_error_of_one_script_does_not_end_the_calls_next_to_it(
    server: RedisServer,
) -> None:
    lost: list[str] = []
    async with open_sender(server.port, lost=lost) as sender, task_group() as calls:

        async def fail() -> None:
            with pytest.raises(StoreLostError, match="it fails"):
                await call(sender, _FAIL)

        calls.start_soon(fail)
        assert await call(sender, _ECHO, "text") == b"text"
    assert lost == ["ResponseError: it fails"]


async def test_a_silent_store_ends_the_calls_that_wait_too(server: RedisServer) -> None:
    """They do not wait for a send of their own."""
    lost: list[str] = []
    ended: list[int] = []

    async def note() -> None:
        await fail(sender, "no response in")
        ended.append(sender.waiting)

    async with open_sender(server.port, seconds=0.5, lost=lost) as sender:
        await call(sender, _ECHO, "first")
        with server.frozen():
            async with task_group() as calls:
                for _ in range(200):
                    calls.start_soon(note)
    assert ended == [0] * 200
    assert {reason[:14] for reason in lost} == {"no response in"}
    with pytest.raises(StoreLostError, match="no response in"):
        await call(sender, _ECHO, "later")


async def test_a_late_send_ends_alone_and_keeps_the_connection(server: RedisServer) -> None:
    """The response comes later: other calls still get their own."""
    lost: list[str] = []
    async with open_sender(server.port, seconds=0.2, lost=lost) as sender:
        assert await call(sender, _COUNT) == 1
        async with task_group() as group:
            group.start_soon(hear, sender)
            with server.frozen(), pytest.raises(StoreLostError, match="no response in"):
                await call(sender, _COUNT)
            group.cancel_scope.cancel()
        assert await call(sender, _COUNT) == 3
    assert lost == []


async def test_a_late_send_ends_the_calls_that_wait(server: RedisServer) -> None:
    async with open_sender(server.port, seconds=0.2) as sender:
        heard = sender.heard
        await call(sender, _ECHO, "first")
        await until_sent(sender, 0, 0)
        assert sender.heard > heard
        sender.sends = 3  # only one more is sent
        async with task_group() as group:
            group.start_soon(hear, sender)
            with server.frozen():
                async with task_group() as calls:
                    for _ in range(30):
                        calls.start_soon(fail, sender, "no response in")
                    await until_sent(sender, 4, 14)
            group.cancel_scope.cancel()
        assert (sender.sends, sender.waiting) == (3, 0)
        sender.sends = 0
        assert await call(sender, _ECHO, "later") == b"later"


async def test_a_call_that_waits_for_ten_timeouts_is_not_sent(server: RedisServer) -> None:
    async with open_sender(server.port, seconds=0.02) as sender, task_group() as calls:
        sender.sends = 4
        calls.start_soon(fail, sender, "not sent in 0.2 s")
        await until_sent(sender, 4, 1)
        end = anyio.current_time() + 0.2
        await until_async(lambda: anyio.current_time() > end)
        sender.sends = 0
        with contextlib.suppress(StoreLostError):  # this one may be late on a busy machine
            assert await call(sender, _ECHO, "text") == b"text"


async def test_close_ends_calls_that_wait_and_later_ones(server: RedisServer) -> None:
    async with open_sender(server.port) as sender, task_group() as calls:
        sender.sends = 4
        for _ in range(3):
            calls.start_soon(fail, sender, "the connection has ended")
        await until_sent(sender, 4, 3)
        sender.close()
        await fail(sender, "the connection has ended")


async def test_calls_in_flight_end_with_their_tasks(server: RedisServer) -> None:
    async with task_group() as calls, open_sender(server.port) as sender:
        await call(sender, _ECHO, "first")
        await until_sent(sender, 0, 0)
        with server.frozen():
            calls.start_soon(fail, sender, "the connection has ended")
            await until_sent(sender, 1, 0)
            sender.group.cancel_scope.cancel()
            await until_sent(sender, 1, 0)
