"""What a stage costs a short answer: `python -m tests.bench.stages account`.

The name of a pipeline does the same for that: `ui` is the page, which records each exchange, and
with `--open-page` it is also read each second, as by a browser.

Two proxies run at the same time, on one core: one with the shipped chain and the stage, one without
the stage. They get the same load in turns. The figure is the ratio of their CPU, each in its best
round: what else the machine does only adds to it.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import math
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import click

from tests.bench.bodies import EXPECTED, KEY, SHORT, hello
from tests.bench.load import repeat
from tests.bench.measure import run
from tests.bench.processes import Cores, Target, cores, free_port, on, proxy_command, started
from tests.bench.proxy_config import ADDED, ENVIRON, config_file
from tests.redis_server import running_redis

_CONNECTIONS = 16


@contextlib.contextmanager
def page_open(url: str) -> Iterator[None]:
    """Read the page as often as an open tab does: see page.js."""
    end = threading.Event()

    def read() -> None:
        headers = {"x-api-key": KEY, "hx-request": "true"}
        while not end.is_set():
            began = time.monotonic()
            connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
            connection.request("GET", "/ui", headers=headers)
            response = connection.getresponse()
            response.read()
            connection.close()
            if response.status != 200:
                raise SystemExit(f"the page has the status {response.status}")
            end.wait(min(max(100 * (time.monotonic() - began), 1), 5))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def cpu(target: Target, seconds: float) -> float:
    """The CPU of a short answer, in seconds."""
    target.rest()
    before = target.cpu() or 0
    done = run(
        repeat(target.url, itertools.repeat(hello(SHORT)), EXPECTED[SHORT], _CONNECTIONS, seconds)
    )
    target.rest()  # what it does later counts as well
    if done.failed or not done.answers:
        raise SystemExit(f"{target.name}: {done.failed} answers were not right")
    return ((target.cpu() or 0) - before) / done.answers


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--rounds", default=7, show_default=True)
@click.option("--seconds", default=1.5, show_default=True, help="The load of each round.")
@click.option("--open-page", is_flag=True, help="Read the page each second meanwhile.")
@click.option("--workers", default=1, show_default=True, help="Of each proxy: `limit` asks them.")
@click.option("--redis", is_flag=True, help="Count limits in redis-server, whose CPU is not shown.")
def main(
    names: tuple[str, ...], rounds: int, seconds: float, open_page: bool, workers: int, redis: bool
) -> None:
    """Measure what stages cost: those of the shipped chain, and `limit`; or pipelines.

    `limit --workers 4` is the cost with the coordinator.
    """
    pinned = Cores.of(cores())
    with ExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        exits.enter_context(on(pinned.rest))
        port = free_port()
        command = [sys.executable, "-m", "tests.bench.backend", str(port)]
        backend = exits.enter_context(started("backend", command, port, pinned.rest, {}))
        url = exits.enter_context(running_redis()).url if redis else ""
        targets = []
        more = ADDED.keys() & set(names)
        for name, without, added in (("with", (), more), ("without", names, ())):
            (folder / name).mkdir()
            config = config_file(folder / name, backend.url, without, added, url)
            port = free_port()
            proxy_line = [*proxy_command(config, port), "--workers", str(workers)]
            proxy = started(name, proxy_line, port, pinned.measured, ENVIRON)
            targets.append(exits.enter_context(proxy))
        for target in targets:
            cpu(target, seconds)  # warm
        if open_page:
            exits.enter_context(page_open(targets[0].url))
        best = {target.name: math.inf for target in targets}
        for number in range(rounds):
            order = targets if number % 2 else targets[::-1]
            by_name = {target.name: cpu(target, seconds) for target in order}
            best = {name: min(value, by_name[name]) for name, value in best.items()}
            click.echo({name: round(value * 1e6) for name, value in by_name.items()}, err=True)
    cost = 100 * (best["with"] / best["without"] - 1)
    place = "redis-server" if redis else f"{workers} workers" if workers > 1 else "one process"
    difference = f"{1e6 * (best['with'] - best['without']):.0f} us"
    click.echo(f"{', '.join(names)}, {place}: {cost:+.1f} % CPU of a short answer, {difference}")


if __name__ == "__main__":
    main()
