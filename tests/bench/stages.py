"""What a stage costs a short answer: `python -m tests.bench.stages account`.

The name of a pipeline does the same for that: `ui` is the page, which records each exchange, and
with `--open-page` it is also read each second, as by a browser.

One process serves two configs on two ports: the shipped chain with the stage, and without it. Both
get the same load in turns. The figure is the median of the differences of the turns, in percent of
the CPU of a short response of the server, with its 95 % interval. The process's CPU is that of all
its threads. The load and the fake backend are in other processes. A turn includes what the process
does right after the load. The page is read during the turns with it.

With `--workers` or `--redis` there are two proxies on one core.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
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
from tests.bench.paired import difference
from tests.bench.processes import Cores, Target, cores, free_port, on, proxy_command, started
from tests.bench.proxy_config import ADDED, ENVIRON, config_file
from tests.redis_server import running_redis

_CONNECTIONS = 16
#: An open tab reads the page at this interval, so a turn with one takes at least this time.
_PAGE_SECONDS = 1.0


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
    """The CPU of a short response, in seconds. The target has nothing to do before."""
    before = _used(target)
    done = run(
        repeat(target.url, itertools.repeat(hello(SHORT)), EXPECTED[SHORT], _CONNECTIONS, seconds)
    )
    target.rest()  # what it does later counts as well
    if done.failed or not done.answers:
        raise SystemExit(f"{target.name}: {done.failed} responses were not right")
    return (_used(target) - before) / done.answers


def _used(target: Target) -> float:
    """Seconds of CPU of all threads. On Linux in nanoseconds, otherwise in 10 ms."""
    process = target.process
    folder = Path(f"/proc/{process.pid}/task") if process and not process.children() else None
    if folder is None or not (files := list(folder.glob("*/schedstat"))):
        return target.cpu() or 0
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--rounds", default=100, show_default=True, help="Pairs of turns.")
@click.option("--seconds", default=0.15, show_default=True, help="The load of each turn.")
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
    seconds = max(seconds, _PAGE_SECONDS) if open_page else seconds
    with ExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        exits.enter_context(on(pinned.rest))
        port = free_port()
        command = [sys.executable, "-m", "tests.bench.backend", str(port)]
        backend = exits.enter_context(started("backend", command, port, pinned.rest, {}))
        url = exits.enter_context(running_redis()).url if redis else ""
        configs = []
        more = ADDED.keys() & set(names)
        for name, without, added in (("without", names, ()), ("with", (), more)):
            (folder / name).mkdir()
            configs.append(config_file(folder / name, backend.url, without, added, url))
        separate = redis or workers > 1
        start = _two_proxies if separate else _two_apps
        targets = start(exits, configs, pinned.measured, workers)
        page = page_open if open_page else contextlib.nullcontext
        pairs = []
        for target in targets:
            target.rest()
        for number in range(rounds + 1):
            turn: dict[str, float] = {}
            for target in targets if number % 2 else targets[::-1]:
                with page(target.url) if target.name == "with" else contextlib.nullcontext():
                    turn[target.name] = cpu(target, seconds)
            if number:  # the first turn warms
                pairs.append((turn["without"], turn["with"]))
                click.echo({name: round(value * 1e6) for name, value in turn.items()}, err=True)
    place = "redis-server" if redis else f"{workers} workers" if workers > 1 else "one process"
    result = difference(pairs).text()
    click.echo(f"{', '.join(names)}, {place}: {result} of CPU of a short response of the server")


def _two_apps(
    exits: ExitStack, configs: list[Path], core: int | None, workers: int
) -> list[Target]:
    ports = [free_port() for _ in configs]
    arguments = [str(each) for pair in zip(configs, ports, strict=True) for each in pair]
    command = [sys.executable, "-m", "tests.bench.two_apps", *arguments]
    process = exits.enter_context(started("both", command, ports[-1], core, ENVIRON)).process
    names = ("without", "with")
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    return [Target(name, url, process) for name, url in zip(names, urls, strict=True)]


def _two_proxies(
    exits: ExitStack, configs: list[Path], core: int | None, workers: int
) -> list[Target]:
    targets = []
    for name, config in zip(("without", "with"), configs, strict=True):
        port = free_port()
        line = [*proxy_command(config, port), "--workers", str(workers)]
        targets.append(exits.enter_context(started(name, line, port, core, ENVIRON)))
    return targets


if __name__ == "__main__":
    main()
