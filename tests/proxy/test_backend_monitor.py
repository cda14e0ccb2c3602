"""When the health of a backend is checked. The clock skips waits."""

from __future__ import annotations

from typing import Any, cast

import anyio
import pytest
from attrs import define, field

from pipeline.task_groups import task_group
from proxy.backend_monitor import CHECK_INTERVAL, BackendMonitor
from stages.messages_api.errors import InternalError
from tests.support import backend


@define(eq=False)
class FakeBackend:
    """Counts its health checks."""

    healthy: bool = True
    responses: int = 0
    checks: int = 0
    profile: Any = field(factory=lambda: backend(health="/health").profile)

    async def open(self) -> None: ...

    async def aclose(self) -> None: ...

    async def check(self, name: str) -> None:
        self.checks += 1
        if not self.healthy:
            raise InternalError(name)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    from trio.testing import MockClock

    return "trio", {"clock": MockClock(autojump_threshold=0)}


async def test_checks_are_left_out_while_calls_succeed() -> None:
    fake = FakeBackend()
    async with task_group() as group:
        group.start_soon(BackendMonitor("b", cast("Any", fake)).run)
        await anyio.sleep(CHECK_INTERVAL / 2)
        assert fake.checks == 1
        for _ in range(3):
            fake.responses += 1
            await anyio.sleep(CHECK_INTERVAL)
        assert fake.checks == 1
        await anyio.sleep(CHECK_INTERVAL)
        assert fake.checks == 2
        group.cancel_scope.cancel()


async def test_one_of_two_workers_checks_and_the_other_has_the_result() -> None:
    one, two = FakeBackend(), FakeBackend()
    first, second = (BackendMonitor("b", cast("Any", fake)) for fake in (one, two))
    first.on_check = lambda name, error: second.record(error)
    second.on_check = lambda name, error: first.record(error)
    async with task_group() as group:
        group.start_soon(first.run)
        await anyio.sleep(1)
        group.start_soon(second.run)
        await anyio.sleep(1)
        before = one.checks + two.checks
        await anyio.sleep(5 * CHECK_INTERVAL)
        assert one.checks + two.checks - before in (4, 5, 6)
        one.healthy = two.healthy = False
        await anyio.sleep(2 * CHECK_INTERVAL)
        assert first.error == second.error == "it does not respond"
        group.cancel_scope.cancel()
