"""`/metrics` of several workers: each response has the sums of all, also after one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.waiting import until
from tests.wire.client import Client
from tests.wire.command import LIMIT, command

WORKERS = 4
MESSAGES = 24
REFUSED = 8
ALL = MESSAGES + REFUSED

#: A stage in place of a backend, so that no worker imports LangChain, which takes seconds.
STAGE = """
import time
from attrs import frozen
from pipeline import Send, Stage
from stages.events import HttpRequest, HttpResponse, ResponseBody, ResponseStart
from stages.exchange import Attempt, Target
from stages.messages_api.usage import Usage


@frozen
class Reply(Stage[HttpRequest, HttpResponse]):
    async def handle(self, event: HttpRequest, forward: Send[HttpResponse]) -> None:
        now = time.monotonic()
        event.exchange.attempts.append(Attempt(Target("gpu", "qwen3"), sent=now, ended=now))
        event.exchange.usage = Usage(input_tokens=12, output_tokens=3)
        event.exchange.stream, event.exchange.first_token = True, now
        event.exchange.longest_gap = 0.25
        await forward(ResponseStart(int(event.path_params["status"]), {"content-length": "0"}))
        await forward(ResponseBody(b""))
"""
CONFIG = """
server: {allowed_hosts: ["*"]}
pipelines:
  messages:
    route: "GET /reply/{status}"
    stages: ["reply:Reply"]
  metrics:
    route: GET /metrics
    stages: [authenticate, {metrics: {stage_times: true}}]
"""

Samples = dict[tuple[str, ...], float]
OF_GPU = ("gpu", "other")
RESPONSES = ("llm_proxy_responses_total", "messages")


def scrape(url: str) -> Samples:
    """The samples, by name and labels, from whichever worker accepts the connection."""
    client = Client(url)
    text = client.get("/metrics").body.decode()
    client.close()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def wait_for_workers(folder: Path) -> None:
    """Wait until all workers serve. On a busy machine they take long to start."""
    until(
        lambda: len(list(folder.glob("llm-proxy-*/*.lock"))) >= WORKERS,
        "not all workers serve",
        within=4 * LIMIT,
    )


def ask(url: str, status: int, times: int) -> None:
    """Send requests, each on a connection of its own: any worker may accept it."""
    for _ in range(times):
        client = Client(url)
        client.socket.settimeout(LIMIT)  # the workers may be starting
        assert client.get(f"/reply/{status}").status == status
        client.close()


def test_a_scrape_of_any_of_four_workers_has_the_sums_of_all(tmp_path: Path) -> None:
    file = tmp_path / "pipelines.yaml"
    file.write_text(CONFIG)
    (tmp_path / "reply.py").write_text(STAGE)
    workers = ("--workers", str(WORKERS))
    with (
        tempfile.TemporaryDirectory(prefix="w") as short,  # paths of sockets have a limit
        command(file, *workers, at_most=4 * LIMIT, until="", TMPDIR=short) as proxy,
    ):
        folder = Path(short)
        wait_for_workers(folder)
        ask(proxy.url, 200, MESSAGES)
        [shared] = folder.glob("llm-proxy-*")
        ask(proxy.url, 400, REFUSED)

        def complete(samples: Samples) -> bool:
            counted = sum(n for key, n in samples.items() if key[:2] == RESPONSES)
            serving = sum(n for key, n in samples.items() if key[0] == "llm_proxy_config_info")
            return counted >= ALL and serving == len(list(shared.glob("*.lock"))) == WORKERS

        def settled() -> Samples:
            """The samples of each of many scrapes: workers publish twice a second."""
            # Scrapes count, too: without them each scrape is the same.
            scrapes = [without_scrapes(scrape(proxy.url)) for _ in range(3 * WORKERS)]
            same = complete(scrapes[0]) and all(each == scrapes[0] for each in scrapes)
            return scrapes[0] if same else {}

        sums = until(settled, "the scrapes differ, or not all requests are counted")
        assert sums[(*RESPONSES, "200")] == MESSAGES
        assert sums[(*RESPONSES, "400")] == REFUSED
        assert sums["llm_proxy_tokens_total", "gpu", "input"] == 12 * ALL
        assert sums["llm_proxy_tokens_total", "gpu", "output"] == 3 * ALL
        assert sums["llm_proxy_prompt_tokens_sum", *OF_GPU] == 12 * ALL
        key = (*OF_GPU, "complete", "messages")
        assert sums["llm_proxy_request_seconds_count", *key] == ALL
        assert sums["llm_proxy_gap_seconds_sum", "gpu"] == ALL / 4
        assert sums["llm_proxy_stage_seconds_count", "messages", "reply:Reply"] == ALL
        assert sums["llm_proxy_request_seconds_bucket", "gpu", "+Inf", *key[1:]] == ALL

        dead = worker_of(proxy.process.pid)
        os.kill(dead, signal.SIGKILL)
        proxy.says(f"worker {dead} died", within=60)
        ask(proxy.url, 200, 2)

        def counted() -> Samples:
            samples = scrape(proxy.url)
            return samples if samples[(*RESPONSES, "200")] >= MESSAGES + 2 else {}

        after = until(counted, "the requests are not counted")
        assert after["llm_proxy_tokens_total", "gpu", "output"] == 3 * (ALL + 2)

        proxy.send_signal(signal.SIGTERM)
        assert proxy.ends() == 0
        assert list(folder.iterdir()) == []


def without_scrapes(samples: Samples) -> Samples:
    return {key: value for key, value in samples.items() if "metrics" not in key}


def worker_of(supervisor: int) -> int:
    """One of the workers of a supervisor."""
    found = subprocess.run(["pgrep", "-P", str(supervisor), "-f", "fork"], stdout=subprocess.PIPE)
    return int(found.stdout.split()[0])
