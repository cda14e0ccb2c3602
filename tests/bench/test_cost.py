"""The cost of a request and of a delta, in function calls: without a clock, so without noise.

The ceilings are some 12 % above what the code needs today, on the Python that needs most; that of
a delta of text, which is most of what there is, has no slack: one call more is 3 % of it. A failed
test lists the calls with their counts. Where it is worth its cost the ceiling goes
up, and where the code got faster it comes down.

What this does not see is time within one C function, as a larger copy or a slower parser takes:
`just bench` does.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from pipeline.chain import Chain
from proxy.app import App
from proxy.config import read, referenced_backends
from proxy.endpoint import ResponseWriter
from stages.events import ChatChunk, ChatEvent, ChatStart, Resolved
from stages.exchange import Exchange, Target
from stages.messages_api.part_cache import PARTS
from stages.stream_encode import StreamEncode
from stages.translate_out import TranslateOut
from stages.translation.conversation_cache import CONVERSATIONS
from stages.translation.request import chat_request as translated
from stages.validate import Validate
from stages.wire.json_codec import encode
from tests.bench.backend import Clock, FakeBackend
from tests.bench.bodies import BURST, EXPECTED, KEY, PACED, SHORT, conversation, hello
from tests.bench.counting import Calls, listing
from tests.bench.proxy_config import ENVIRON, config_file
from tests.proxy.support import Server, part
from tests.stages.translation.support import THINKING, call, calls, delta, text
from tests.support import chat_request, http, profile


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the client of the backend is aiohttp's


def check(cost: Calls, ceiling: float, times: int = 1) -> None:
    """Fail if one of `times` repetitions makes more than `ceiling` calls on average."""
    each = cost.total / times
    assert each <= ceiling, (
        f"{each:.2f} calls, at most {ceiling}. To see which of them are new, set the ceiling "
        f"to 0 on an earlier commit, and compare with this:\n{listing(cost, times)}"
    )


# ---- deltas: translate-out, stream-encode, the edge ----


@frozen
class Kind:
    """A kind of delta: the first chunks of its response, and the calls that one delta may cost.

    `kept`: blocks of memory per delta that may stay until the response ends.
    """

    one: Callable[[int], dict[str, Any]]
    calls: float
    first: tuple[dict[str, Any], ...] = ()
    kept: int = 0

    async def cost(self, count: int) -> tuple[Calls, int]:
        """The calls that `count` deltas cost within a response, and the blocks that are kept."""
        chain = Chain.of((TranslateOut(), StreamEncode()), ChatEvent)
        async with chain.open(ResponseWriter(_forget, Exchange()).write) as receive:
            await receive(ChatStart(chat_request(stream=True, thinking=THINKING)))
            for data in (*self.first, self.one(-2), self.one(-1)):
                await receive(ChatChunk(data))
            gc.collect()  # or it may run meanwhile, and free what was there before
            before = sys.getallocatedblocks()
            chunks = [self.one(n) for n in range(count)]
            with Calls() as cost:
                for data in chunks:
                    await receive(ChatChunk(data))
            del chunks, data
            return cost, sys.getallocatedblocks() - before


async def _forget(message: Any) -> None:
    pass


TOOL = calls(call("read", "", index=0, id="call_1"))
KINDS = {
    "text": Kind(lambda n: text(f" token{n}"), 25),
    "thinking": Kind(lambda n: delta(reasoning_content=f" token{n}"), 94),
    # It is only known to be whole when it can be read, so it is kept.
    "arguments": Kind(lambda n: calls(call(arguments=f'{n}, "', index=0)), 95, (TOOL,), kept=1),
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@each_kind
async def test_a_delta_costs_no_more_than_today(kind: Kind) -> None:
    (few, _), (many, _) = await kind.cost(10), await kind.cost(110)
    check(many.beyond(few), kind.calls, 100)


@each_kind
async def test_ten_times_the_deltas_cost_ten_times_the_calls(kind: Kind) -> None:
    (few, _), (many, _) = await kind.cost(100), await kind.cost(1000)
    check(many, 10.5 * few.total)


@each_kind
async def test_deltas_that_were_sent_are_not_kept(kind: Kind) -> None:
    (_, few), (_, many) = await kind.cost(100), await kind.cost(1100)
    assert many - few <= 1000 * kind.kept + 100


# ---- requests: the whole application, and a real connection to a backend ----


class OnDemand(Clock):
    """Send a chunk to the open stream at each `tick`."""

    def start(self, connection: FakeBackend) -> None:
        self._connection = connection

    def tick(self) -> None:
        self._tick({}, self._connection, 1)


@pytest.fixture
def clock() -> OnDemand:
    return OnDemand()


@pytest.fixture
def without() -> tuple[str, ...]:
    """Pipelines that the config does not have. The page makes the proxy record each exchange."""
    return ("ui",)


@pytest.fixture
async def app(
    tmp_path: Path,
    clock: OnDemand,
    caplog: pytest.LogCaptureFixture,
    without: tuple[str, ...],
) -> AsyncIterator[App]:
    # The line of a request is read here by pytest, which costs.
    caplog.set_level(logging.WARNING, "llm_proxy")
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: FakeBackend(clock), "127.0.0.1", 0) as backend:
        port = backend.sockets[0].getsockname()[1]
        file = config_file(tmp_path, f"http://127.0.0.1:{port}", without=without)
        config = read(str(file), ENVIRON)
        yield App(config)
        for each in referenced_backends(config).values():
            await each.aclose()


async def ask(app: App, body: bytes, model: str) -> None:
    server = Server([part(body)])
    await app.route(server.scope([("x-api-key", KEY)]), server.receive, server.send)
    assert server.status == 200
    assert EXPECTED[model] in server.body


async def least(app: App, body: bytes, model: str) -> Calls:
    """The lowest cost of a request. A response may arrive in more parts than usual."""
    await ask(app, hello(SHORT), SHORT)  # opens the backend
    costs = []
    for _ in range(10):
        with Calls() as cost:
            await ask(app, body, model)
        costs.append(cost)
    return min(costs, key=lambda cost: cost.total)


async def test_a_short_request_costs_no_more_than_today(app: App) -> None:
    check(await least(app, hello(SHORT), SHORT), 1232)  # 22 of them for the usage record


@pytest.mark.parametrize("without", [()], ids=["page"])
async def test_the_page_adds_few_calls_to_a_short_request(app: App) -> None:
    check(await least(app, hello(SHORT), SHORT), 1410)  # 155 of them for the times of stages


class Listener(Server):
    """Knows when something was sent."""

    heard: asyncio.Event

    async def send(self, message: Any) -> None:
        self.heard.set()


async def test_a_delta_that_arrives_alone_costs_no_more_than_today(
    app: App, clock: OnDemand
) -> None:
    """From the backend's socket to the server: with all that waits for it in between."""
    server = Listener([part(hello(PACED))])
    server.heard = asyncio.Event()
    asked = app.route(server.scope([("x-api-key", KEY)]), server.receive, server.send)
    task = asyncio.ensure_future(asked)
    await server.heard.wait()
    costs = []
    for _ in range(30):
        server.heard.clear()
        with Calls() as cost:
            clock.tick()
            await server.heard.wait()
        costs.append(cost)
    server.signals.disconnect()
    await task

    check(min(costs, key=lambda cost: cost.total), 173)


async def test_a_stream_that_arrives_at_once_costs_no_more_than_today(app: App) -> None:
    check(await least(app, hello(BURST), BURST), 14_500)


async def test_a_large_request_costs_the_event_loop_no_more_than_today(app: App) -> None:
    check(await least(app, conversation(), SHORT), 1_700)


@pytest.fixture
def _without_caches() -> None:
    PARTS.resize(0)
    CONVERSATIONS.resize(0)


def off_the_loop(body: bytes) -> Calls:
    """What a request costs in a thread, where calls are not counted: here they are made without."""
    with Calls() as cost:
        resolved = Resolved(http(), Validate().parse(body), Target("fake", SHORT))
        made = translated(resolved, profile())
        encode({**made.options, "messages": made.messages})
    return cost


@pytest.mark.usefixtures("_without_caches")
def test_a_large_request_costs_no_more_than_today() -> None:
    check(off_the_loop(conversation()), 8_600)


@pytest.mark.usefixtures("_without_caches")
def test_ten_times_the_conversation_costs_ten_times_the_calls() -> None:
    short, long = off_the_loop(conversation(150_000)), off_the_loop(conversation(1_500_000))
    check(long, 11 * short.total)


@pytest.mark.untraced
async def test_nothing_is_kept_of_a_request(app: App) -> None:
    page = app.current.config.sections["ui"]
    page.max_bytes = 0  # it would keep 20 requests of each second
    page.serve(page.pipelines, page.backend_errors)

    async def blocks_after(count: int) -> int:
        for _ in range(count):
            await ask(app, hello(SHORT), SHORT)
        await ask(app, hello(BURST), BURST)
        app.current.config.sections["usage"].close()  # its rows wait in memory for 0.5 seconds
        for _ in range(200):  # asyncio drops timers that are cancelled when there are many
            asyncio.get_running_loop().call_later(60, gc.collect).cancel()
        await asyncio.sleep(0)
        gc.collect()
        return sys.getallocatedblocks()

    # Memory of other tests in this process may come and go meanwhile; a leak of each request
    # is there in each round.
    marks = [await blocks_after(300) for _ in range(4)]
    assert min(later - earlier for earlier, later in itertools.pairwise(marks)) <= 100
