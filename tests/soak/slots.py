"""Two replicas with a store and one slot: `python -m tests.soak.slots --requests 10000`.

A quarter of the clients disconnect, at a random moment. The backend must never have two calls at
once, and in the end the store must have none.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from tests.redis_server import RedisServer, Resp, running_redis
from tests.support import body
from tests.wire.client import Client, Response, raw
from tests.wire.command import Command, command
from tests.wire.counting_backend import counting_backend

CLIENTS = 32
START = 60.0
CONFIG = """
server: {{max_loop_delay: null}}
store: {{url: "{store}"}}
backends:
  one-slot: {{base_url: "{backend}/v1", max_concurrent_calls: 1}}
models: {{"*": {{backend: one-slot}}}}
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      - authenticate: {{keys: [client-key]}}
      - validate
      - resolve
      - translate-in
      - queue: {{max_queued: 1000}}
      - invoke
      - translate-out
      - stream-encode
"""


def client(proxies: list[Command], requests: int, outcomes: Counter[str]) -> None:
    """Send requests to a random proxy, one after the other."""
    for _ in range(requests):
        each = Client(random.choice(proxies).url)
        each.socket.sendall(raw(body()))
        if random.random() < 0.25:
            time.sleep(random.random() * 0.1)
            outcomes["disconnected"] += 1
        else:
            outcomes[str(Response.of(each.send(b"")).status)] += 1
        each.close()


def commands(store: RedisServer) -> dict[str, int]:
    """Calls of each command, and the total."""
    with Resp(store.port) as resp:
        lines = resp.call("INFO", "commandstats").decode().split()
    calls = {line.split(":")[0]: line for line in lines if line.startswith("cmdstat_")}
    return {
        name.removeprefix("cmdstat_"): int(line.split("calls=")[1].split(",")[0])
        for name, line in calls.items()
    }


def soak(requests: int, folder: Path) -> str:
    """Run it. Return a problem, if there is one."""
    with counting_backend() as backend, running_redis() as store:
        file = folder / "pipelines.yaml"
        file.write_text(CONFIG.format(store=store.url, backend=backend.url))
        with (
            command(file, until="", at_most=600) as one,
            command(file, until="", at_most=600) as two,
        ):
            for proxy in (one, two):
                proxy.says("is ready after", START)
            outcomes: Counter[str] = Counter()
            arguments = ([one, two], requests // CLIENTS, outcomes)
            threads = [threading.Thread(target=client, args=arguments) for _ in range(CLIENTS)]
            started = time.monotonic()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seconds = time.monotonic() - started
            time.sleep(1)
            lost = [line for proxy in (one, two) for line in proxy.log if "does not resp" in line]
            with Resp(store.port) as resp:
                keys = [key.decode() for key in resp.call("KEYS", "*leases")]
        counts = commands(store)
        print(f"{dict(outcomes)} in {seconds:.0f} s; at once: {backend.most}")  # noqa: T201
        print({k: v for k, v in counts.items() if k in ("evalsha", "publish", "time")})  # noqa: T201
    return "\n".join(lost + keys + (["two calls at once"] if backend.most > 1 else []))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    with tempfile.TemporaryDirectory() as folder:
        problem = soak(parser.parse_args().requests, Path(folder))
    sys.exit(problem or None)


if __name__ == "__main__":
    main()
