"""ShareStore over RedisStore, with a real server and two processes."""

from __future__ import annotations

from pipeline.task_groups import task_group
from stages.limits.share_store import ShareStore
from stages.limits.store import Admitted
from tests.redis_server import RedisServer, Resp, needs_server
from tests.redis_server import empty_redis as empty_redis
from tests.redis_server import redis_server as redis_server
from tests.stages.limits.support import rate
from tests.stages.limits.test_redis_store import admit, left, stores

pytestmark = needs_server
MAXIMUM = 100_000
MAX_ERROR = 0.1
REQUESTS = 400


def calls(server: RedisServer) -> int:
    """How many scripts the server has run."""
    with Resp(server.port) as client:
        stats = client.call("INFO", "commandstats").decode()
    [line] = [line for line in stats.splitlines() if line.startswith("cmdstat_evalsha:")]
    return int(line.split("calls=")[1].split(",")[0])


async def test_two_processes_share_a_limit_in_few_calls(server: RedisServer) -> None:
    used = []
    ask = rate(MAXIMUM, 300, period="day")

    async with stores(server, 2) as both:
        sharing = [ShareStore(store, MAX_ERROR, lambda: 2) for store in both]

        async def request(store: ShareStore, hold: str) -> None:
            if isinstance(await admit(store, hold, ask), Admitted):
                used.append(250)
                await store.settle(hold, [250])

        before = calls(server)
        for n in range(REQUESTS):
            await request(sharing[n % 2], str(n))
        some = calls(server) - before

        async with task_group() as group:
            for n in range(REQUESTS):
                group.start_soon(request, sharing[n % 2], f"more {n}")
        remaining = await left(both[0], rate(MAXIMUM, 0, period="day"))

    assert some < REQUESTS / 2, "an exact store needs 800 for 400 requests"
    assert MAXIMUM * (1 - MAX_ERROR) - 300 <= sum(used) <= MAXIMUM + 100, (
        "a second refills one token"
    )
    assert remaining < 300
