"""Starts what is compared, and puts each load on all of them, again and again."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import click
import psutil
from attrs import frozen

from tests.bench.bodies import EXPECTED, SHORT, hello
from tests.bench.figures import Values
from tests.bench.load import repeat
from tests.bench.measure import Loads, run
from tests.bench.processes import Cores, Target, free_port, on, peer, proxy_command, started
from tests.bench.proxy_config import ENVIRON, config_file
from tests.bench.report import FLOOR, PROXY
from tests.bench.start import starts


@frozen
class Comparison:
    """What is compared and how often. `peers` are URLs by name."""

    cores: Cores
    loads: Loads
    rounds: int
    starts: int
    backend_port: int
    peers: Mapping[str, str]
    python: str = sys.executable
    """The interpreter of llm-proxy. The floor has this one."""

    def measure(self) -> dict[str, Values]:
        """The figures of each: medians of all rounds."""
        with ExitStack() as exits:
            folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
            exits.enter_context(on(self.cores.rest))
            command = [sys.executable, "-m", "tests.bench.backend", str(self.backend_port)]
            backend = exits.enter_context(
                started("backend", command, self.backend_port, self.cores.rest, {})
            )
            config = config_file(folder, backend.url)
            begun = starts(config, self.cores.measured, self.starts, self.python)
            targets = [_ready(each) for each in self._targets(config, backend.url, exits)]
            measured = self._rounds(targets)
        return {**measured, PROXY: {**measured[PROXY], **begun}}

    def _targets(self, config: Path, backend: str, exits: ExitStack) -> Iterator[Target]:
        port = free_port()
        floor = [sys.executable, "-m", "tests.bench.floor", str(port), backend]
        yield exits.enter_context(started(FLOOR, floor, port, self.cores.measured, {}))
        port = free_port()
        proxy = proxy_command(config, port, self.python)
        yield exits.enter_context(started(PROXY, proxy, port, self.cores.measured, ENVIRON))
        for name, url in self.peers.items():
            target = peer(name, url)
            if target.process is None:
                click.echo(f"note: the process of {name} is not found: no CPU, no memory", err=True)
            elif self.cores.measured is not None:
                target.pin(self.cores.measured)
            yield target

    def _rounds(self, targets: list[Target]) -> dict[str, Values]:
        found: dict[str, list[Values]] = {target.name: [] for target in targets}
        for number in range(self.rounds):
            click.echo(f"round {number + 1} of {self.rounds}", err=True)
            for load in self.loads:
                for target in targets:  # close to each other, because a machine has its moods
                    found[target.name].append(load(target))
        return {target.name: {**_joined(found[target.name]), **_end(target)} for target in targets}


def _ready(target: Target) -> Target:
    """`target`, which has answered once."""
    run(repeat(target.url, [hello(SHORT)], EXPECTED[SHORT], 1, 0))
    target.at_rest = target.memory()
    return target


def _joined(found: list[Values]) -> dict[str, float]:
    keys = dict.fromkeys(key for each in found for key in each)
    values = {key: [each[key] for each in found if key in each] for key in keys}
    joined = {key: statistics.median(each) for key, each in values.items()}
    # Memory that streams have left is used again by later ones, which then seem to need less.
    return {**joined, **{key: max(values[key]) for key in ("stream_kb",) if key in values}}


def _end(target: Target) -> dict[str, float]:
    end = target.memory()
    if target.at_rest is None or end is None:
        return {}
    memory = {"rest_mb": target.at_rest / 1e6, "end_mb": end / 1e6}
    return {**memory, "answers": target.answered}


@contextlib.contextmanager
def disturbance() -> Iterator[list[float]]:
    """Yield a list. It gets the share of all cores that other processes used, in percent.

    The other proxies count too.
    """
    reported: list[float] = []
    busy, ours = _busy(), _ours()
    yield reported
    spent, passed = _busy()[0] - busy[0], _busy()[1] - busy[1]
    reported.append(100 * max(0.0, spent - (_ours() - ours)) / passed)


def _busy() -> tuple[float, float]:
    """Seconds that the cores were busy, and seconds in all, since the machine started."""
    times = psutil.cpu_times()
    everything = sum(times) - getattr(times, "guest", 0) - getattr(times, "guest_nice", 0)
    return everything - times.idle - getattr(times, "iowait", 0), everything


def _ours() -> float:
    """Seconds of CPU of this process and of those it has started and that have ended."""
    return sum(os.times()[:4])
