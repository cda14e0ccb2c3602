"""What the proxy costs beside passing bytes through untouched, and beside others.

    just bench [--quick] [--peer NAME=URL …] [--json FILE] [--plot FILE]

Measured are, in several rounds, one after the other:

- `floor`: uvicorn and aiohttp passing bytes through (floor.py);
- `llm-proxy`: the shipped pipelines.yaml with its whole chain, and a key;
- each peer: a proxy that runs already, and leads three models to the fake backend.

In front of the fake backend (backend.py), with a client that costs little (load.py), each gets:

- short answers, and streams of 200 chunks that arrive at once: as many as it can do, on 16
  connections; and the CPU it spends on each short answer;
- 100, 200 and 400 open streams of 50 tokens a second: the CPU per delta and what is added to
  each delta's way, from the backend's `write` to the client's read, while all are open;
  and how many of the deltas that were due have come;
- requests of 150 KB and 1.5 MB, one after the other: the CPU per request, to its end;
- memory (RSS): after the first answer, per stream with 400 open (against before the first
  stream), and at the end. What a garbage collector keeps for later is in it.

Starting: `check`, and `serve` until the port accepts and until a request sent then is answered.

Figures are medians of the rounds, so that a noisy machine disturbs ratios little. What not to
conclude: absolute figures belong to the machine, and to nothing that shares its cores; backend
and client share the second core, and where they fill it, the floor is the client's and not the
floor's. Answers are canned: a real backend is slower than all of this, by far.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click

from tests.bench.bodies import EXPECTED, KEY, MODELS, SHORT, hello
from tests.bench.declared import ENVIRON, declaration
from tests.bench.figures import Values
from tests.bench.load import repeat
from tests.bench.measure import Measurement, run
from tests.bench.plot import plot
from tests.bench.processes import (
    Cores,
    Target,
    cores,
    free_port,
    on,
    peer,
    proxy_command,
    started,
)
from tests.bench.report import FLOOR, PROXY, table
from tests.bench.start import starts


def main() -> None:
    """Measure, and print the table."""
    asked = _arguments()
    allowed = cores()
    use = Cores.of(allowed)
    if use.measured is None:
        click.echo("note: no two cores to choose: all share what there is, and ratios say less")
    begin = time.monotonic()
    with on(use.rest), tempfile.TemporaryDirectory() as folder:
        measured = _measured(asked, use, Path(folder))
    machine = (
        f"{platform.machine()}, {len(allowed) or '?'} cores, Python {platform.python_version()}"
    )
    click.echo(f"\n{table(measured)}\n\n{machine}; {time.monotonic() - begin:.0f} s")
    if asked.json:
        found = {"machine": machine, "date": time.strftime("%Y-%m-%d"), "figures": measured}
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    if asked.plot:
        asked.plot.write_text(plot(measured, f"one core for each; {machine}"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("just bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round, under a minute")
    parser.add_argument("--rounds", type=int, help="else 3")
    parser.add_argument("--peer", metavar="NAME=URL", action="append", default=[])
    parser.add_argument("--backend-port", type=int, default=0, help="for peers: a port that stays")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="write an SVG there")
    asked = parser.parse_args()
    for each in asked.peer:
        if "=http" not in each:
            parser.error(f"--peer {each}: write NAME=URL")
    return asked


def _measured(asked: argparse.Namespace, use: Cores, folder: Path) -> dict[str, Values]:
    measurement = Measurement(0.6, 1.0) if asked.quick else Measurement(2.0, 2.0)
    rounds: dict[str, list[dict[str, float]]] = {}
    with contextlib.ExitStack() as exits:
        port = asked.backend_port or free_port()
        command = [sys.executable, "-m", "tests.bench.backend", str(port)]
        backend = exits.enter_context(started("backend", command, port, use.rest, {}))
        config = declaration(folder, backend.url)
        begun = starts(config, use.measured, 1 if asked.quick else 5)
        targets = list(_targets(asked, use, config, backend.url, exits))
        for n in range(asked.rounds or (1 if asked.quick else 3)):
            for target in targets:
                click.echo(f"round {n + 1}: {target.name}", err=True)
                rounds.setdefault(target.name, []).append(measurement.round(target))
        measured = {target.name: _medians(rounds[target.name]) for target in targets}
        for target in targets:
            if (memory := target.memory()) is not None:
                measured[target.name] |= {"end_mb": memory / 1e6, "answers": target.answered}
    return {**measured, PROXY: {**measured[PROXY], **begun}}


def _targets(
    asked: argparse.Namespace,
    use: Cores,
    config: Path,
    backend: str,
    exits: contextlib.ExitStack,
) -> Iterator[Target]:
    """All that is measured, each of which has answered once."""
    port = free_port()
    floor = [sys.executable, "-m", "tests.bench.floor", str(port), backend]
    yield _ready(exits.enter_context(started(FLOOR, floor, port, use.measured, {})))
    port = free_port()
    command = proxy_command(config, port)
    yield _ready(exits.enter_context(started(PROXY, command, port, use.measured, ENVIRON)))
    if asked.peer:
        click.echo(f"peers: lead {', '.join(MODELS)} to {backend}/v1, and accept the key {KEY}")
    for each in asked.peer:
        name, _, url = each.partition("=")
        target = peer(name, url)
        if target.process is None:
            click.echo(f"note: the process of {name} is not found: no CPU, no memory")
        elif use.measured is not None:
            target.process.cpu_affinity([use.measured])
        yield _ready(target)


def _ready(target: Target) -> Target:
    """`target`, which has answered once."""
    run(repeat(target.url, hello(SHORT), EXPECTED[SHORT], 1, 0))
    return target


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    keys = {key: None for found in rounds for key in found}
    # Memory that streams have left is used again by later ones, which then seem to need less.
    join = {"stream_kb": max, "rest_mb": max}
    return {
        key: join.get(key, statistics.median)(found[key] for found in rounds if key in found)
        for key in keys
    }


if __name__ == "__main__":
    main()
