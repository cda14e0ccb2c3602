"""The cost of the proxy, compared with forwarding bytes and with other proxies.

`just bench --help` lists the options. Each round measures these servers, one after the other:

- `floor`: uvicorn and aiohttp forwarding bytes (floor.py);
- `llm-proxy`: the shipped pipelines.yaml with its whole chain, and a key;
- each peer: a proxy that already runs and sends three models to the fake backend.

All of them call the fake backend (backend.py). The client costs little (load.py). The loads are:

- short responses, and streams of 200 chunks that arrive at once: the rate on 16 connections, and
  the CPU per response;
- 100, 200 and 400 open streams of 50 tokens/s: the CPU per delta while all are open, the time of a
  delta from the backend's `write` to the client's read, and the share of the due deltas that
  arrived (sustained);
- conversations of 150 KB and 1.5 MB, with one more turn in each request, and new requests of
  1.5 MB, one after the other: the CPU per request, to its end;
- 50 open streams, with and without new requests of 1.5 MB: the longest delay of a delta;
- memory (RSS): after the first response, per stream with 400 open (compared with none), and at the
  end. It includes memory that the garbage collector has not freed yet.

The start: `check`, and `serve` until the port accepts, and until the first response.

A figure is the median of the rounds, so noise on the machine changes ratios little. The CPU is
measured per process, so noise changes it least. Rates and latencies are valid only if little else
ran: the report has the share of other processes. Do not compare figures of two runs or of two
machines. The responses are canned: a real backend takes far longer than the proxy.
"""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from tests.bench.bodies import KEY, MODELS
from tests.bench.comparison import Comparison, disturbance
from tests.bench.measure import Loads
from tests.bench.plot import plot
from tests.bench.processes import Cores, cores, proxy_of
from tests.bench.report import table

_PEERS = f"""
Start a peer before the benchmark. It must send the models {", ".join(MODELS)} to the fake backend,
http://127.0.0.1:PORT/v1, with any key, and accept the key {KEY} from its clients.
"""


def _check_python(path: str) -> str:
    if not Path(proxy_of(path)).is_file():
        raise click.BadParameter(
            f"{path} has no llm-proxy next to it; type: {path} -m pip install -c constraints.txt ."
        )
    return path


def _version(python: str) -> str:
    """The version of the proxy's interpreter, and of this one if it differs."""
    code = "import platform; print(platform.python_version())"
    command = [python, "-c", code]
    version = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    own = platform.python_version()
    return version if version == own else f"{version} (floor: {own})"


@click.command(epilog=_PEERS)
@click.option("--quick", is_flag=True, help="One short round, in less than a minute.")
@click.option("--peer", "peers", metavar="NAME=URL", multiple=True, help="A proxy; see below.")
@click.option("--port", default=18099, show_default=True, help="The port of the fake backend.")
@click.option(
    "--python",
    metavar="PATH",
    default=sys.executable,
    callback=lambda _, __, path: _check_python(path),
    help="Run llm-proxy with this interpreter, in whose environment it is installed.",
)
@click.option("--rounds", default=5, show_default=True)
@click.option("--json", "json_to", metavar="FILE", type=Path, help="Write the figures to FILE.")
@click.option("--plot", "plot_to", metavar="FILE", type=Path, help="Write an SVG to FILE.")
def main(
    quick: bool,
    peers: tuple[str, ...],
    port: int,
    python: str,
    rounds: int,
    json_to: Path | None,
    plot_to: Path | None,
) -> None:
    """Measure the cost of the proxy, compared with forwarding bytes and with other proxies."""
    urls = dict(peer.split("=", 1) for peer in peers if "=" in peer)
    if len(urls) < len(peers):
        raise click.UsageError("write each peer as NAME=URL; no two may have the same NAME")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the child processes end too
    allowed = cores()
    if len(allowed) < 2:
        click.echo("note: this needs two cores to give exact ratios", err=True)
    loads = Loads(0.6, 1.0) if quick else Loads(1.0, 1.5)
    comparison = Comparison(
        *(Cores.of(allowed), loads, 1 if quick else rounds, 1 if quick else 5, port, urls),
        python=python,
    )
    begin = time.monotonic()
    with disturbance() as disturbances:
        measured = comparison.measure()
    where = f"{len(allowed)} cores ({platform.machine()}), Python {_version(python)}"
    click.echo(f"\n{table(measured)}\n\n{where}; {time.monotonic() - begin:.0f} s")
    click.echo(f"other processes used {disturbances[0]:.0f} % of the machine at the same time")
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
