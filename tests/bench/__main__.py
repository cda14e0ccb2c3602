"""The cost of the proxy, compared with forwarding bytes and with other proxies.

`just bench --help` lists the options. Measured are, close to each other and in several rounds:

- `floor`: uvicorn and aiohttp forwarding bytes (floor.py);
- `llm-proxy`: the shipped pipelines.yaml with its whole chain, and a key;
- each peer: a proxy that runs already, and leads three models to the fake backend.

In front of the fake backend (backend.py), with a client that costs little (load.py), each gets:

- short answers, and streams of 200 chunks that arrive at once: as many as it can do on 16
  connections, and the CPU that each costs;
- 100, 200 and 400 open streams of 50 tokens/s: while all are open, the CPU per delta; how long a
  delta takes from the backend's `write` to the client's read; and which share of the deltas that
  were due came (sustained);
- requests of 150 KB and 1.5 MB, one after the other: the CPU per request, to its end;
- memory (RSS): after the first response, per stream with 400 open (against before the first
  stream), and at the end. What a garbage collector keeps for later is in it.

Starting: `check`, and `serve` until the port accepts and until a request sent then is answered.

Figures are medians of the rounds, so that a noisy machine disturbs ratios little. The CPU, which
is read off the processes, bears noise best; rates and latencies mean something only when little
else ran: the share of other processes is reported. Do not compare figures of two runs, or of two
machines. The responses are canned, and a real backend takes much longer than all of this.
"""

from __future__ import annotations

import json
import platform
import signal
import sys
import time
from pathlib import Path

import click

from tests.bench.bodies import KEY, MODELS
from tests.bench.comparison import Comparison, disturbance
from tests.bench.measure import Loads
from tests.bench.plot import plot
from tests.bench.processes import Cores, cores
from tests.bench.report import table

_PEERS = f"""
A peer runs already. It leads the models {", ".join(MODELS)} to the fake backend,
http://127.0.0.1:PORT/v1, which takes any key, and accepts the key {KEY} itself.
"""


@click.command(epilog=_PEERS)
@click.option("--quick", is_flag=True, help="One short round, in less than a minute.")
@click.option("--peer", "peers", metavar="NAME=URL", multiple=True, help="Another; see below.")
@click.option("--port", default=18099, show_default=True, help="The fake backend's.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--json", "json_to", metavar="FILE", type=Path, help="Write the figures there.")
@click.option("--plot", "plot_to", metavar="FILE", type=Path, help="Draw them there, as an SVG.")
def main(
    quick: bool,
    peers: tuple[str, ...],
    port: int,
    rounds: int,
    json_to: Path | None,
    plot_to: Path | None,
) -> None:
    """Measure the cost of the proxy, compared with forwarding bytes and with other proxies."""
    found = dict(peer.split("=", 1) for peer in peers if "=" in peer)
    if len(found) < len(peers):
        raise click.UsageError("write each peer as NAME=URL, each with a name of its own")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # or what was started would go on
    allowed = cores()
    if len(allowed) < 2:
        click.echo("note: there are no two cores to choose: ratios say less", err=True)
    loads = Loads(0.6, 1.0) if quick else Loads(1.0, 1.5)
    comparison = Comparison(
        Cores.of(allowed), loads, 1 if quick else rounds, 1 if quick else 5, port, found
    )
    begin = time.monotonic()
    with disturbance() as disturbances:
        measured = comparison.measure()
    where = f"{len(allowed)} cores ({platform.machine()}), Python {platform.python_version()}"
    click.echo(f"\n{table(measured)}\n\n{where}; {time.monotonic() - begin:.0f} s")
    click.echo(f"other processes used {disturbances[0]:.0f} % of the machine meanwhile")
    if json_to:
        reported = {
            "where": where,
            "date": time.strftime("%Y-%m-%d"),
            "others_percent": disturbances[0],
        }
        json_to.write_text(json.dumps({**reported, "figures": measured}, indent=1) + "\n")
    if plot_to:
        plot_to.write_text(plot(measured, f"On one core of {where}"))


if __name__ == "__main__":
    main(prog_name="just bench")
