"""One slot and several workers: the backend never has two calls at once, and keys take turns."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
from collections import Counter
from pathlib import Path

from attrs import Factory, define

from tests.soak.site import TIMEOUT, connect, read_response, request, site_of
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


async def slots(_: float) -> list[str]:
    """Compare 4 workers with one process."""
    wrong, shares = [], {}
    for workers, number in ((1, CALLS // 5), (4, CALLS)):
        with counting_backend() as backend, tempfile.TemporaryDirectory() as folder:
            backend.seconds = SECONDS
            port = int(backend.url.rpartition(":")[2])
            limits = "all: {requests_per_minute: 1_000_000}"
            site = site_of(Path(folder), port, limits, workers=workers, slots="1")
            with contextlib.ExitStack() as exits:
                made = await asyncio.to_thread(exits.enter_context, site)
                calls = _Calls(made.url, number)
                clients = [calls.client(key) for key, n in CLIENTS.items() for _ in range(n)]
                await asyncio.gather(*clients)
            share = shares[workers] = calls.complete["bob"] / calls.complete.total()
        print(  # noqa: T201
            f"slots: {workers} workers, {number} calls: at most {backend.most} at once; statuses "
            f"{dict(calls.statuses)}; bob, with {CLIENTS['bob']} of "
            f"{sum(CLIENTS.values())} clients, got {100 * share:.0f} %"
        )
        if backend.most != 1 or set(calls.statuses) != {200}:
            wrong.append(f"slots: {workers} workers: {backend.most} calls at once")
    if abs(shares[1] - shares[4]) > 0.1:
        wrong.append("slots: the workers are not as fair as one process")
    return wrong
