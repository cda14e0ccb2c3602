"""Limits of many processes under load: `python -m tests.soak.limits`, or with names of checks.

    check      what it does
    --------   ----------------------------------------------------------------------------------
    exact      200 clients of one key for `--seconds`: a limit of 100 requests, then one of
               1,000,000 tokens a minute, in memory, with 4 workers, with 2 replicas after nginx
    store      2 replicas: the store is stopped for 5 s, restarts empty, and is killed, with each
               `on_loss`; how long requests waited, and the lines of the log
    workers    4 workers: the supervisor is stopped for 5 s; the same
    crash      a replica with 20 streams is killed; when its places are free
    slots      one slot: 4 workers, and 2 replicas: 10,000 calls each, a quarter of the clients
               disconnect

It needs redis-server and nginx (Debian: `apt install redis-server nginx-light`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define

from tests.redis_server import RedisServer, running_redis
from tests.soak.site import (
    OUTPUT,
    PROMPT,
    Backend,
    Clients,
    Site,
    connect,
    read_response,
    request,
    site_of,
    store_option,
)
from tests.soak.slots import slots

CLIENTS = 200
#: Clients that measure how long requests wait, and their pause in seconds.
MEASURING, PAUSE = 8, 0.05
#: Seconds of a stop, and before and after it.
STOPPED, AROUND = 5.0, 4.0
#: Seconds that a request may wait more.
MORE = 0.1
#: Seconds that a call may need from the proxy to the backend, and more than another one.
LATE = 0.2
STREAMS, LEASE = 20, 3.0
PER_MINUTE = {
    "requests_per_minute": (100, 1),
    "tokens_per_minute": (1_000_000, PROMPT + OUTPUT),
}
SETUPS: dict[str, dict[str, Any]] = {
    "in memory": {},
    "4 workers": {"workers": 4},
    "2 replicas, nginx, redis-server": {"replicas": 2},
}


@define
class Scene:
    """A site, its backend's calls, and its store."""

    site: Site
    calls: list[float]
    redis: RedisServer | None


@contextlib.asynccontextmanager
async def scene(limits: str, option: str = "", **setup: Any) -> AsyncIterator[Scene]:
    """Start all that a check needs. `option` are more options of the store."""
    calls: list[float] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(Backend, calls), "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    with contextlib.ExitStack() as exits:
        redis = exits.enter_context(running_redis()) if setup.get("replicas", 1) > 1 else None
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        started = site_of(folder, port, limits, store=store_option(redis, option), **setup)
        site = await asyncio.to_thread(exits.enter_context, started)
        yield Scene(site, calls, redis)
    server.close()


async def exact(seconds: float) -> list[str]:
    """The limits of a minute hold."""
    wrong: list[str] = []
    for name, setup in SETUPS.items():
        for limit, (maximum, amount) in PER_MINUTE.items():
            async with scene(f"keys: {{{limit}: {maximum}}}", **setup) as made:
                clients = Clients(made.site.url, CLIENTS)
                running = asyncio.create_task(clients.run())
                await asyncio.sleep(seconds)
                clients.stopped = True
                await running
                losses = [
                    line for proxy in made.site.proxies for line in proxy.log if "respond" in line
                ]
            statuses = Counter(result.status for result in clients.results)
            span = max(made.calls) - min(made.calls)
            allowed = maximum * (1 + span / 60) / amount
            number = len(made.calls)
            print(  # noqa: T201
                f"exact: {name}, {limit}: {number} requests were admitted in {span:.2f} s, and "
                f"{allowed:.2f} are allowed; statuses: {dict(statuses)}"
            )
            wrong += [f"{name}: {limit}: {line}" for line in losses]
            late = maximum / 60 / amount * LATE
            if not allowed - 2 <= number <= allowed + late + 0.05 or statuses[200] != number:
                wrong.append(f"{name}: {limit} does not hold")
            if statuses.keys() - {200, 429}:
                wrong.append(f"{name}: {limit}: other statuses")
    return wrong


async def store(_: float) -> list[str]:
    """What happens without the store."""
    wrong: list[str] = []
    for on_loss in ("local", "allow", "refuse"):
        limits = "keys: {requests_per_minute: 1_000_000}"
        async with scene(limits, f", on_loss: {on_loss}", replicas=2) as made:
            redis = made.redis
            assert redis

            def restart(redis: RedisServer = redis) -> None:
                redis.stop()
                redis.start()

            steps: list[tuple[str, Callable[[], object], Callable[[], object] | None]] = [
                (
                    "stopped for 5 s",
                    partial(redis.process.send_signal, signal.SIGSTOP),
                    partial(redis.process.send_signal, signal.SIGCONT),
                ),
                ("restarted empty", restart, None),
                ("killed", redis.stop, None),
            ]
            for number, (name, begin, end) in enumerate(steps, 1):
                label = f"store: on_loss: {on_loss}, {name}"
                statuses = await outage(label, made, begin, end, wrong)
                wanted = {529} if on_loss == "refuse" else {200}
                if name != "restarted empty" and set(statuses) != wanted:
                    wrong.append(f"{label}: statuses {statuses}")
                lost = made.site.lines("does not respond")
                again = made.site.lines(" again, after")
                if lost != [number] * 2 or again != [min(number, 2)] * 2:
                    wrong.append(f"{label}: {lost} and {again} lines after {number} changes")
    return wrong


async def workers(_: float) -> list[str]:
    """What happens without the coordinator."""
    wrong: list[str] = []
    async with scene("keys: {requests_per_minute: 1_000_000}", workers=4) as made:
        supervisor = made.site.proxies[0].process
        await outage(
            "workers: supervisor stopped for 5 s",
            made,
            partial(supervisor.send_signal, signal.SIGSTOP),
            partial(supervisor.send_signal, signal.SIGCONT),
            wrong,
        )
        lost = made.site.lines("the coordinator does not respond")
        again = made.site.lines("the coordinator responds again")
        print(f"workers: lines of the log: {lost}, {again}")  # noqa: T201
        if not 1 <= lost[0] <= 4 or again != lost:  # a worker without a request notices nothing
            wrong.append(f"workers: {lost} and {again} lines")
    return wrong


async def outage(
    label: str,
    made: Scene,
    begin: Callable[[], object],
    end: Callable[[], object] | None,
    wrong: list[str],
) -> Counter[int]:
    """Measure requests before, during and after an outage. Return the statuses in its middle."""
    clients = Clients(made.site.url, MEASURING, PAUSE)
    running = asyncio.create_task(clients.run())
    start = time.monotonic()
    await asyncio.sleep(AROUND)
    began = time.monotonic()
    await asyncio.to_thread(begin)
    await asyncio.sleep(STOPPED)
    ended = time.monotonic()
    if end:
        end()
    await asyncio.sleep(AROUND)
    clients.stopped = True
    await running
    phases = ((start, began), (began, ended), (ended, time.monotonic()))
    waits = [sorted(each.seconds for each in clients.between(*phase)) for phase in phases]
    text = ", ".join(f"{1000 * w[len(w) // 2]:.0f}/{1000 * w[-1]:.0f}" for w in waits)
    middle = clients.between(began + 1.5, ended - 0.1)
    statuses = Counter(result.status for result in middle if result.at > began + 1.5)
    print(  # noqa: T201
        f"{label}: median/maximum in ms, before, during, after: {text}; statuses {dict(statuses)}; "
        f"{sum(map(len, waits))} requests"
    )
    if max(waits[1][-1], waits[2][-1]) > waits[0][-1] + MORE:
        wrong.append(f"{label}: a request waited more than {MORE:g} s longer")
    return statuses


async def crash(_: float) -> list[str]:
    """The places of a killed replica are free after the lease."""
    limits = f"keys: {{concurrent_requests: {STREAMS}}}"
    async with scene(limits, f", lease: {LEASE:g}", replicas=2) as made:
        killed, other = made.site.proxies
        streams = [await connect(killed.url) for _ in range(STREAMS)]
        for reader, writer in streams:
            writer.write(request("alice", stream=True))
            await reader.readuntil(b"text_delta")
        reader, writer = await connect(other.url)
        writer.write(request("alice"))
        before = await read_response(reader)
        killed.process.kill()
        start = time.monotonic()
        status = 0
        while status != 200 and time.monotonic() - start < 3 * LEASE:
            writer.write(request("alice"))
            status = await read_response(reader)
            await asyncio.sleep(0.02)
        seconds = time.monotonic() - start
    print(  # noqa: T201
        f"crash: {before} with {STREAMS} streams; after the kill, {status} after {seconds:.2f} s "
        f"with a lease of {LEASE:g} s"
    )
    free = status == 200 and seconds < LEASE + 0.5
    return [] if before == 429 and free else ["crash: the places are not free after the lease"]


CHECKS: dict[str, Callable[[float], Awaitable[list[str]]]] = {
    "exact": exact,
    "store": store,
    "workers": workers,
    "crash": crash,
    "slots": slots,
}


async def check(names: list[str], seconds: float) -> list[str]:
    """Run the checks; what is wrong."""
    return [each for name in names for each in await CHECKS[name](seconds)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checks", nargs="*", choices=[[], *CHECKS], help="default: all")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load of `exact`")
    options = parser.parse_args()
    sys.exit("\n".join(asyncio.run(check(options.checks or [*CHECKS], options.seconds))) or None)


if __name__ == "__main__":
    main()
