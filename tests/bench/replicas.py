"""Compare two replicas with one: `python -m tests.bench.replicas`, or `just bench-replicas`.

Each replica is one process on a core of its own. The backend is nginx with a fixed response, and
the load is wrk: both are so cheap that they leave the cores to the replicas. One replica has the
first core; the backend and its load have the second. Two replicas have both cores, and share them
with the backend and the load. So the factor is at most 2 minus what these two need.

It needs two cores, nginx and wrk (Debian: `apt install nginx-light wrk`).
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from tests.bench.bodies import KEY, SHORT, completion, hello
from tests.bench.processes import Cores, Target, cores, free_port, proxy_command, started
from tests.bench.proxy_config import ENVIRON, config_file

_NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log /dev/null;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000; client_body_temp_path {folder};
  server {{
    listen 127.0.0.1:{port};
    location / {{ default_type application/json; return 200 '{body}'; }}
  }}
}}
"""
_REQUEST = """
wrk.method = "POST"
wrk.body = [[{body}]]
wrk.headers["content-type"] = "application/json"
wrk.headers["x-api-key"] = "{key}"
"""
_CONNECTIONS = 16


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=4, show_default=True, help="Seconds of each load.")
def main(rounds: int, seconds: int) -> None:
    """Measure how many short responses two replicas send, compared with one."""
    places = Cores.of(cores())
    if places.rest is None:
        raise SystemExit("this needs two cores")
    with ExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        script = folder / "request.lua"
        script.write_text(_REQUEST.format(body=hello(SHORT).decode(), key=KEY))
        backend = _backend(folder, places.rest, exits)
        first, second = (
            _replica(folder, backend, core, exits) for core in (places.measured, places.rest)
        )
        click.echo("responses per second:    one replica    two     factor")
        factors = []
        for number in range(rounds + 1):  # in the first round the replicas import LangChain
            one = _load([first], script, seconds, places.rest)
            two = _load([first, second], script, seconds, None)
            if number:
                factors.append(two / one)
                click.echo(f"{one:36.0f} {two:6.0f} {two / one:10.2f}")
    click.echo(f"median factor {statistics.median(factors):.2f}")


def _backend(folder: Path, core: int, exits: ExitStack) -> str:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not nginx or not shutil.which("wrk"):
        raise SystemExit("this needs nginx and wrk: apt install nginx-light wrk")
    port = free_port()
    config = folder / "nginx.conf"
    body = completion().decode().replace("'", r"\'")
    config.write_text(_NGINX.format(folder=folder, port=port, body=body))
    command = [nginx, "-c", str(config), "-p", str(folder)]
    return exits.enter_context(started("backend", command, port, core, {})).url


def _replica(folder: Path, backend: str, core: int | None, exits: ExitStack) -> Target:
    own = folder / f"replica-{core}"
    own.mkdir()
    port = free_port()
    command = proxy_command(config_file(own, backend), port)
    environ = {**ENVIRON, "XDG_STATE_HOME": str(own)}
    return exits.enter_context(started(f"replica {core}", command, port, core, environ))


def _load(targets: Sequence[Target], script: Path, seconds: int, core: int | None) -> float:
    """Responses per second of all targets together."""
    place = [] if core is None else ["taskset", "-c", str(core)]
    running = [
        subprocess.Popen(
            [*place, "wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}", "-s", script, url],
            stdout=subprocess.PIPE,
            text=True,
        )
        for url in (f"{target.url}/v1/messages" for target in targets)
    ]
    return sum(_rate(each.communicate()[0]) for each in running)


def _rate(report: str) -> float:
    if "Non-2xx" in report or "Socket errors" in report:
        raise SystemExit(f"not all responses were right:\n{report}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", report)
    if found is None:
        raise SystemExit(f"wrk reported nothing:\n{report}")
    return float(found[1])


if __name__ == "__main__":
    sys.exit(main(prog_name="just bench-replicas"))
