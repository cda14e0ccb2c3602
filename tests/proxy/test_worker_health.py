"""The health checks of a worker, and the delays of restarts."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define
from uvicorn import Config

from proxy.http.workers import Worker, restart_delay


@define
class Running:
    """A process that runs, without a process."""

    running: bool = True

    def is_alive(self) -> bool:
        return self.running


def test_a_worker_may_miss_the_checks_of_a_time() -> None:
    worker, process = Worker(Config("no:app"), [], on_orphaned=print), Running()
    as_process: Any = process
    worker.process = as_process
    pipe = worker.child_conn

    for _ in range(2):
        assert [worker.is_alive(timeout=2) for _ in range(5)] == [True] * 4 + [False]
        assert pipe.recv() == b"ping"
        assert not pipe.poll(), "a check waits for the response to the last one"
        pipe.send(True)
    assert worker.is_alive(timeout=2)
    process.running = False
    assert not worker.is_alive(timeout=2)


def test_delays_of_restarts_grow_until_a_worker_serves_on() -> None:
    delays = [0.0]
    for served in [0, 0, 29.9, 0, 1, 0, 0, 30, 0]:
        delays.append(restart_delay(served, delays[-1]))
    assert delays[1:] == [1, 2, 4, 8, 16, 30, 30, 0, 1]


@pytest.mark.parametrize("serves", [False, True])
def test_the_time_of_serving_begins_when_the_server_has_started(serves: bool) -> None:
    worker, process = Worker(Config("no:app"), [], on_orphaned=print), Running()
    as_process: Any = process
    worker.process = as_process

    worker.child_conn.send(serves)
    worker.is_alive()
    assert (worker.serving_since is not None) == serves
