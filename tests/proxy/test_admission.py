"""When a request begins, and when it is refused, turn by turn of the event loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Any

import pytest
from attrs import Factory, define

from proxy.admission import PER_TURN, Admission
from stages.counters import Counters
from tests.proxy.support import Server


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # as uvicorn is


@define(eq=False)
class Worker:
    """An application after an Admission. It records the paths of the requests that begin."""

    max_delay: float | None = 0.25
    now: float = 0.0
    began: list[str] = Factory(list)
    admission: Admission = Factory(
        lambda worker: Admission(
            worker.begin,
            urgent=lambda path: path == "/health",
            max_delay=worker.max_delay,
            counts=Counters(),
            clock=lambda: worker.now,
            report_interval=0.0,
        ),
        takes_self=True,
    )
    servers: list[Server] = Factory(list)
    tasks: list[asyncio.Task[None]] = Factory(list)

    async def begin(self, scope: Any, receive: Any, send: Any) -> None:
        self.began.append(scope["path"])

    def ask(self, *paths: str, now: float = 0.0) -> None:
        """Requests that arrive in the next turn; it is `now` then."""
        for path in paths:
            server = Server(messages=[])  # to read its body would fail
            self.servers.append(server)
            self.tasks.append(asyncio.ensure_future(self._call(server, path, now)))

    async def _call(self, server: Server, path: str, now: float) -> None:
        """As uvicorn does, in the request's own task."""
        self.now = now
        await self.admission(server.scope(path=path), server.receive, server.send)

    async def end(self) -> None:
        """Wait until all requests are finished."""
        await asyncio.gather(*self.tasks)
        await turn()  # the log's last line


async def turn() -> None:
    """Let one turn of the loop pass."""
    await asyncio.sleep(0)


def paths(*numbers: int) -> list[str]:
    return [f"/{n}" for n in range(*numbers)]


async def test_row_a11_few_requests_begin_per_round_in_order_of_arrival() -> None:
    worker = Worker()
    worker.ask(*paths(3 * PER_TURN))
    seen = []
    while len(worker.began) < 3 * PER_TURN:
        await turn()
        seen.append(len(worker.began))
    await worker.end()
    assert worker.began == paths(3 * PER_TURN)
    assert max(b - a for a, b in itertools.pairwise([0, *seen])) == PER_TURN
    assert not worker.admission.counts.shed


async def test_row_a11_a_health_check_does_not_wait_for_requests_before_it() -> None:
    worker = Worker()
    worker.ask(*paths(10 * PER_TURN), "/health")
    await turn()
    assert worker.began == [*paths(PER_TURN), "/health"]
    await worker.end()


def overloaded(max_delay: float | None = 0.25) -> Worker:
    """A worker where a request waits. Those that arrive in the same turn, at 1.0, are too much."""
    worker = Worker(max_delay)
    worker.ask(*paths(PER_TURN + 1))
    return worker


async def test_row_a11_while_one_waits_too_long_new_ones_are_refused_unread() -> None:
    worker = overloaded()
    worker.ask("/refused", "/health", now=1.0)
    await worker.end()
    assert worker.began == [*paths(PER_TURN), "/health", f"/{PER_TURN}"]
    refused = worker.servers[PER_TURN + 1]
    assert refused.status == 529
    assert refused.headers["retry-after"] == "1"
    assert b'"overloaded_error"' in refused.body
    assert int(refused.headers["content-length"]) == len(refused.body)
    assert refused.headers["request-id"].encode() in refused.body
    assert worker.admission.counts.shed[()] == 1


async def test_row_a11_after_the_queue_is_empty_requests_begin_again() -> None:
    worker = overloaded()
    await worker.end()
    worker.ask("/later")
    await worker.end()
    assert worker.began[-1] == "/later"


async def test_a_wait_within_the_limit_is_accepted() -> None:
    worker = Worker()
    worker.ask(*paths(PER_TURN + 1))
    worker.ask("/later", now=0.25)
    await worker.end()
    assert worker.began == [*paths(PER_TURN + 1), "/later"]


async def test_without_a_limit_no_request_is_refused() -> None:
    worker = overloaded(max_delay=None)
    worker.ask("/later", now=1.0)
    await worker.end()
    assert len(worker.began) == PER_TURN + 2


async def test_a_disconnected_request_takes_no_place() -> None:
    worker = Worker()
    worker.ask(*paths(3 * PER_TURN))
    for server in worker.servers[PER_TURN : 2 * PER_TURN]:
        server.signals.disconnect()
    while len(worker.began) <= PER_TURN:
        await turn()
    assert worker.began == paths(3 * PER_TURN)
    await worker.end()


async def test_refusals_are_sent_at_once_and_end_one_per_round() -> None:
    worker = overloaded()
    worker.ask(*["/refused"] * 5, now=1.0)
    await turn()
    refused = worker.servers[PER_TURN + 1 :]
    assert all(len(each.body) == int(each.headers["content-length"]) for each in refused)

    def ended() -> int:
        return sum(not each.sent[-1]["more_body"] for each in refused)

    seen = [ended()]
    while ended() < 5:
        await turn()
        seen.append(ended())
    assert max(b - a for a, b in itertools.pairwise(seen)) == 1
    await worker.end()


async def test_the_log_has_a_line_for_an_overload_and_not_for_each_refusal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "llm_proxy")
    worker = overloaded()
    worker.ask(*["/refused"] * 30, now=1.0)
    await worker.end()
    await worker.end()
    assert caplog.messages == [
        "overloaded: requests wait 0.25 s to begin; new ones get a 529",
        "overloaded: refused 30 requests in 0 s",
        "no longer overloaded",
    ]
