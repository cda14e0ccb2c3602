"""Many requests with faults and disconnects mixed in: `python -m tests.soak --requests 100000`.

The proxy is a process of its own, started as a person starts it. A fifth of the responses of its
backend fail, and a fifth of its clients leave early. In the end its file descriptors, tasks and
memory have to be as after the first tenth, each response has to be the expected one, and the log
has to have one line for each request.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from pathlib import Path

from tests.secrets import PROMPT
from tests.soak.backend import Backend
from tests.soak.clients import SECONDS, Run
from tests.soak.proxy import State, start

CLIENTS = 32
_GROWTH = 16 * 1024  # kB of memory that are no leak: what the allocator keeps


async def soak(requests: int, folder: Path) -> list[str]:
    """Run it; what is wrong."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Backend, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy = start(folder, port)
    try:
        runs, states, started = [], [], time.monotonic()
        for share in (requests // 10, requests - requests // 10):
            runs.append(Run(proxy.address, share))
            await asyncio.gather(*(runs[-1].client() for _ in range(CLIENTS)))
            states.append(await proxy.state())
        print(f"{requests} requests in {time.monotonic() - started:.0f} s: {states}")  # noqa: T201
        print(dict(sum((run.outcomes for run in runs), Counter())))  # noqa: T201
    finally:
        proxy.process.terminate()
        proxy.process.communicate(timeout=SECONDS)
        server.close()
    before, after = states
    return _judge(runs, before, after, (folder / "log").read_text())


def _judge(runs: list[Run], before: State, after: State, log: str) -> list[str]:
    wrong = [each for run in runs for each in run.wrong][:5]
    if after.tasks > before.tasks:
        wrong.append(f"tasks are left: {before.tasks} before, {after.tasks} after")
    if after.descriptors > before.descriptors + CLIENTS:  # connections to the backend are kept
        wrong.append(f"files are left open: {before.descriptors} before, {after.descriptors} after")
    if after.kilobytes > before.kilobytes + _GROWTH:
        wrong.append(f"memory grows: {before.kilobytes} kB before, {after.kilobytes} kB after")
    lines = Counter(re.findall(r" (req_\w+) POST /v1/messages \d+ [\d.]+s", log))
    sent = sum(run.sent for run in runs)
    if lines.total() != sent or len(lines) != sent:
        wrong.append(f"{sent} requests have {lines.total()} lines, of {len(lines)} ids")
    if unknown := {each for run in runs for each in run.seen} - lines.keys():
        wrong.append(f"{len(unknown)} answers have no line in the log")
    if PROMPT in log:
        wrong.append("there is a prompt in the log")
    if "Traceback" in log or " failed\n" in log:
        wrong.append("there is a bug in the log: " + log[log.find(" failed\n") - 200 :][:2000])
    return wrong
