"""The metrics of several workers: sums, dead workers, and slots that are taken over."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from prometheus_client.core import CounterMetricFamily, Metric

from stages.backends.backend import Backend
from stages.backends.call_queue import LocalCallQueue, QueuedCall
from stages.counters import Counters
from stages.exchange import Exchange
from stages.metric_families import metric_families
from stages.shared_metrics import SharedMetrics, allocate
from tests.support import backend

REQUESTS = "llm_proxy_request_seconds_count"
RESPONSES = "llm_proxy_responses_total"
RUNNING = "llm_proxy_queue_running"


class Worker:
    """What one worker counts; a backend with one running call. `die` leaves its files."""

    def __init__(self, folder: Path) -> None:
        self.shared = SharedMetrics(folder)
        self.counters = Counters()
        self.backends: dict[str, Backend] = {"gpu": backend(max_concurrent_calls=1)}
        queue = self.backends["gpu"].queue
        assert isinstance(queue, LocalCallQueue)
        queue.calls.enter(QueuedCall(("", ""), short=True), ("", ""), short=True)

    def count(self, requests: int, seconds: float = 1.0) -> None:
        for _ in range(requests):
            ended = Exchange(pipeline="messages", status=200, received=5.0, ended=5.0 + seconds)
            self.counters.count(ended)
        self.publish()

    def publish(self) -> None:
        self.shared.publish(metric_families(self.counters, self.backends, {"gpu": "open"}))

    def sums(self) -> dict[str, float]:
        """The samples by name; the buckets of a histogram are under their bound."""
        return {
            sample.labels.get("le", sample.name): sample.value
            for family in self.shared.sums()
            for sample in family.samples
        }

    def die(self) -> None:
        self.shared.close()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[tuple[Worker, Worker]]:
    with ExitStack() as stack:
        pair = Worker(tmp_path), Worker(tmp_path)
        for worker in pair:
            stack.enter_context(closing(worker.shared))
        yield pair


def test_each_worker_reads_the_sums_of_all(workers: tuple[Worker, Worker]) -> None:
    one, two = workers
    one.count(3, seconds=0.015)
    two.count(4, seconds=1.0)

    assert one.sums() == two.sums()
    assert one.sums().items() >= {REQUESTS: 7, RESPONSES: 7, RUNNING: 2}.items()
    assert [one.sums()[bound] for bound in ("0.01", "0.02", "0.64", "1.28", "+Inf")] == [
        *(0, 3, 3, 7, 7)
    ]


def test_counters_of_a_dead_worker_stay_and_its_gauges_do_not(
    workers: tuple[Worker, Worker],
) -> None:
    one, two = workers
    one.count(3)
    two.count(4)
    one.die()

    assert two.sums().items() >= {REQUESTS: 7, RESPONSES: 7, RUNNING: 1}.items()


def test_a_new_worker_takes_over_a_dead_workers_slot_and_counters(
    tmp_path: Path, workers: tuple[Worker, Worker]
) -> None:
    one, two = workers
    one.count(3)
    two.count(4)
    for _ in range(20):
        one.die()
        one = Worker(tmp_path)
        assert one.shared.slot == 0
        assert two.sums().get(RUNNING) == 1
        one.count(1)

    assert two.sums().items() >= {REQUESTS: 27, RESPONSES: 27, RUNNING: 2}.items()
    assert len(list(tmp_path.iterdir())) == 2 * 4
    one.die()


def test_gauges_of_a_backend_that_a_reload_removes_become_zero(
    workers: tuple[Worker, Worker],
) -> None:
    one, two = workers
    one.publish()
    one.backends.clear()
    one.publish()

    assert two.sums()[RUNNING] == 0


def test_a_full_disk_raises_an_error_and_ends_no_process(tmp_path: Path) -> None:
    """A write to a page without space would be a SIGBUS."""
    limit = 16384

    def allocate(descriptor: int, start: int, size: int) -> None:
        if start + size > limit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.posix_fallocate(descriptor, start, size)

    def families(number: int) -> Iterator[Metric]:
        for n in range(number):
            yield CounterMetricFamily(f"m{n}", "x" * 100, value=n + 1)

    with closing(SharedMetrics(tmp_path, allocate)) as shared:
        with pytest.raises(OSError, match="No space"):
            shared.publish(families(200))
        file = tmp_path / "counter_slot0.db"
        assert file.stat().st_blocks * 512 <= limit
        limit = 1 << 20
        shared.publish(families(200))
        assert {family.name: family.samples[0].value for family in shared.sums()} == {
            f"m{n}": n + 1 for n in range(200)
        }


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, None])
def test_space_is_allocated_without_posix_fallocate(number: int | None, tmp_path: Path) -> None:
    def refuse(descriptor: int, start: int, size: int) -> None:
        raise OSError(number, "refused")

    with (tmp_path / "file").open("w+b") as file:
        file.write(b"kept")
        file.truncate(10_000)
        file.flush()
        allocate(file.fileno(), 0, 20_001, refuse if number else None)
        status = os.fstat(file.fileno())
        assert status.st_size == 20_001
        assert status.st_blocks * 512 >= 20_001
        assert file.seek(0) == 0
        assert file.read() == b"kept" + bytes(19_997)


def test_a_full_disk_is_an_error_of_allocate(tmp_path: Path) -> None:
    def refuse(descriptor: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with (tmp_path / "file").open("w+b") as file, pytest.raises(OSError, match="No space"):
        allocate(file.fileno(), 0, 1, refuse)
