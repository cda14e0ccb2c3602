"""One slot and several processes: the backend never has two calls at once, and keys take turns."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
from collections import Counter
from pathlib import Path

from attrs import Factory, define

from tests.redis_server import running_redis
from tests.soak.site import TIMEOUT, connect, read_response, request, site_of, store_option
from tests.wire.counting_backend import counting_backend

CALLS = 10_000
#: The part of the clients that disconnect, after at most this many seconds.
DISCONNECTS, PATIENCE = 0.25, 0.1
CLIENTS = {"alice": 24, "bob": 4}
#: Seconds that a call takes.
SECONDS = 0.001


@define
class _Calls:
    url: str
    remaining: int
    complete: Counter[str] = Factory(Counter)
    statuses: Counter[int] = Factory(Counter)

    async def client(self, key: str) -> None:
        while self.remaining > 0:
            self.remaining -= 1
            reader, writer = await connect(self.url)
            writer.write(request(key))
            if random.random() < DISCONNECTS:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1), random.random() * PATIENCE)
            else:
                status = await asyncio.wait_for(read_response(reader), TIMEOUT)
                self.statuses[status] += 1
                self.complete[key] += 1
            writer.close()


SETUPS: dict[str, dict[str, int]] = {
    "one process": {},
    "4 workers": {"workers": 4},
    "2 replicas, nginx, redis-server": {"replicas": 2},
}


async def slots(_: float) -> list[str]:
    """Compare 4 workers, and 2 replicas with a store, with one process."""
    wrong, shares = [], {}
    for name, setup in SETUPS.items():
        with contextlib.ExitStack() as exits:
            backend = exits.enter_context(counting_backend())
            backend.seconds = SECONDS
            port = int(backend.url.rpartition(":")[2])
            store = exits.enter_context(running_redis()) if "replicas" in setup else None
            limits = "all: {requests_per_minute: 1_000_000}"
            folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
            site = site_of(folder, port, limits, store=store_option(store), slots="1", **setup)
            made = await asyncio.to_thread(exits.enter_context, site)
            calls = _Calls(made.url, CALLS if setup else CALLS // 5)
            clients = [calls.client(key) for key, n in CLIENTS.items() for _ in range(n)]
            await asyncio.gather(*clients)
            lost = sum(made.lines("does not respond"))
        share = shares[name] = calls.complete["bob"] / calls.complete.total()
        print(  # noqa: T201
            f"slots: {name}: at most {backend.most} at once; statuses {dict(calls.statuses)}; the "
            f"store was lost {lost} times; bob, with {CLIENTS['bob']} of {sum(CLIENTS.values())} "
            f"clients, got {100 * share:.0f} %"
        )
        if backend.most != 1 or set(calls.statuses) != {200}:
            wrong.append(f"slots: {name}: {backend.most} calls at once")
        if abs(share - shares["one process"]) > 0.1:
            wrong.append(f"slots: {name}: not as fair as one process")
    return wrong
