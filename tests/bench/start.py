"""How long the proxy takes to start: medians of several starts, each a process of its own."""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import time
from pathlib import Path

from tests.bench.bodies import EXPECTED, SHORT, hello
from tests.bench.load import post
from tests.bench.processes import free_port, on, proxy_command, proxy_of, started
from tests.bench.proxy_config import ENVIRON, ROOT

_IMPORT = "import stages.backends.langchain"


def starts(config: Path, core: int | None, times: int, python: str) -> dict[str, float]:
    """The figures of starting, by their keys."""
    taken = []
    for _ in range(times):
        with on(core):
            check = _seconds([proxy_of(python), "check", "--config", str(config)])
            langchain = _seconds([python, "-c", _IMPORT])
            bare = _seconds([python, "-c", ""])
        accept, first = _serve(config, core, python)
        taken.append((check, accept, langchain - bare, first))
    keys = ("check_s", "accept_s", "import_s", "first_s")
    return dict(zip(keys, map(statistics.median, zip(*taken, strict=True)), strict=True))


def _seconds(command: list[str]) -> float:
    begin = time.monotonic()
    subprocess.run(command, cwd=ROOT, env=ENVIRON, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - begin


def _serve(config: Path, core: int | None, python: str) -> tuple[float, float]:
    """Seconds to the first connection, and to the response to a request sent at once."""
    port = free_port()
    begin = time.monotonic()
    with started("llm-proxy", proxy_command(config, port, python), port, core, ENVIRON) as proxy:
        accept = time.monotonic() - begin
        with contextlib.closing(socket.create_connection(("127.0.0.1", port), 30)) as client:
            client.sendall(post(proxy.url, hello(SHORT)))
            answer = b""
            while EXPECTED[SHORT] not in answer:
                data = client.recv(65536)
                if not data:
                    raise SystemExit(f"no response but {answer!r}")
                answer += data
        return accept, time.monotonic() - begin
