"""The stage `queue`. Who is next is in backends/test_turns.py."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
from attrs import define, evolve, field

from pipeline.chain import Chain
from pipeline.task_groups import task_group
from pipeline.testing import check_stage, run_stage
from stages.backends.backend import Backend
from stages.events import ChatRequest, ChatWaiting
from stages.messages_api.errors import InternalError, OverloadedError
from stages.queue import Queue, apply_concurrency_limit
from tests.support import backend, chat_request, http


def asking(session: str = "", client: str = "key-1", **changes: Any) -> ChatRequest:
    """A long call of a session and a key."""
    result = chat_request(**{"stream": True, "max_tokens": 10_000, **changes})
    headers = {"x-claude-code-session-id": session} if session else {}
    request = http(headers=headers)
    request.exchange.client = client
    resolved = evolve(result.resolved, http=request)
    return evolve(result, resolved=resolved)


@define
class Bench:
    """Calls that run until the test ends them, in the order in which they began."""

    group: anyio.abc.TaskGroup
    queue: Queue
    begun: list[str] = field(factory=list)
    refused: list[str] = field(factory=list)
    raised: dict[str, Exception] = field(factory=dict)
    _ends: dict[str, anyio.Event] = field(factory=dict)
    _scopes: dict[str, anyio.CancelScope] = field(factory=dict)

    async def ask(self, name: str, event: ChatRequest, error: Exception | None = None) -> None:
        """Send a call, which fails with `error` when it is ended; on return it runs or waits."""
        self._ends[name] = anyio.Event()
        self._scopes[name] = anyio.CancelScope()
        self.group.start_soon(self._run, name, event, error)
        await anyio.wait_all_tasks_blocked()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await anyio.wait_all_tasks_blocked()

    async def leave(self, name: str) -> None:
        self._scopes[name].cancel()
        await anyio.wait_all_tasks_blocked()

    async def _run(self, name: str, event: ChatRequest, error: Exception | None) -> None:
        async def sink(event: Any) -> None:
            if isinstance(event, ChatWaiting):
                self.refused.append(name)
                return
            self.begun.append(name)
            await self._ends[name].wait()
            if error:
                raise error

        with self._scopes[name]:
            try:
                await Chain.of((self.queue,), ChatRequest).run(event, sink)
            except (OverloadedError, InternalError) as raised:
                self.raised[name] = raised


def queue(slots: int | None = 1, **options: Any) -> tuple[Queue, Backend]:
    config = backend(max_concurrent_calls=slots)
    return Queue({"fake": config}, **options), config


def counted(config: Backend) -> tuple[int, int]:
    """The numbers of running and waiting calls."""
    assert config.queue is not None
    return config.queue.running, config.queue.waiting


@pytest.mark.parametrize("slots", [None, 1, 2])
async def test_it_keeps_to_the_contract(slots: int | None) -> None:
    await check_stage(queue(slots)[0], [asking()])


async def test_without_slots_no_call_waits() -> None:
    stage, config = queue(None)
    async with task_group() as group:
        bench = Bench(group, stage)
        for name in "abc":
            await bench.ask(name, asking())
        assert bench.begun == ["a", "b", "c"]
        group.cancel_scope.cancel()
    assert config.queue is None


async def test_calls_take_turns_by_keys_and_sessions() -> None:
    stage, config = queue()
    async with task_group() as group:
        bench = Bench(group, stage)
        for name, client, session in (
            ("first", "key-1", "x"),
            ("1x", "key-1", "x"),
            ("1x again", "key-1", "x"),
            ("1y", "key-1", "y"),
            ("2", "key-2", ""),
        ):
            await bench.ask(name, asking(session, client))
        assert counted(config) == (1, 4)
        assert bench.refused == ["1x", "1x again", "1y", "2"]
        for name in ("first", "1x", "2", "1y", "1x again"):
            await bench.end(name)
        assert bench.begun == ["first", "1x", "2", "1y", "1x again"]
    assert counted(config) == (0, 0)


async def test_a_short_call_goes_before_long_ones() -> None:
    stage, _ = queue()
    async with task_group() as group:
        bench = Bench(group, stage)
        await bench.ask("first", asking())
        await bench.ask("long", asking())
        await bench.ask("long prompt", evolve(asking(max_tokens=10), estimate=4_000))
        await bench.ask("short", asking(max_tokens=100))
        for name in ("first", "short", "long", "long prompt"):
            await bench.end(name)
        assert bench.begun == ["first", "short", "long", "long prompt"]


async def test_a_cancelled_call_gives_up_its_place_at_once() -> None:
    stage, config = queue()
    async with task_group() as group:
        bench = Bench(group, stage)
        for name in ("first", "gone", "next"):
            await bench.ask(name, asking())
        await bench.leave("gone")
        assert counted(config) == (1, 1)
        await bench.leave("first")
        assert bench.begun == ["first", "next"]
        assert counted(config) == (1, 0)
        await bench.end("next")


async def test_a_call_cancelled_at_its_turn_passes_the_slot_on() -> None:
    stage, config = queue()
    async with task_group() as group:
        bench = Bench(group, stage)
        for name in ("first", "gone", "next"):
            await bench.ask(name, asking())
        bench._ends["first"].set()
        await anyio.lowlevel.checkpoint()
        await bench.leave("gone")
        assert bench.begun[-1] == "next"
        assert counted(config) == (1, 0)
        await bench.end("next")


async def test_a_call_that_fails_gives_its_slot_to_the_next() -> None:
    stage, config = queue()
    async with task_group() as group:
        bench = Bench(group, stage)
        await bench.ask("first", asking(), InternalError("broken"))
        await bench.ask("next", asking())
        await bench.end("first")
        assert list(bench.raised) == ["first"]
        assert bench.begun == ["first", "next"]
        await bench.end("next")
    assert counted(config) == (0, 0)


async def test_calls_beyond_the_limit_are_refused_with_retry_after() -> None:
    stage, config = queue(max_queued=1)
    async with task_group() as group:
        bench = Bench(group, stage)
        for name in ("first", "second", "third"):
            await bench.ask(name, asking())
        refusal = bench.raised["third"]
        assert isinstance(refusal, OverloadedError)
        assert str(refusal) == "backend `fake` is busy: 1 calls are waiting; try again in 10 s"
        assert refusal.headers == {"retry-after": "10"}
        assert bench.refused == ["second", "third"], "it may be tried again, and waits until then"
        assert counted(config) == (1, 1)
        group.cancel_scope.cancel()
    assert counted(config) == (0, 0)


async def test_with_no_place_to_wait_a_free_slot_is_still_used() -> None:
    stage, _ = queue(max_queued=0)
    assert len(await run_stage(stage, [asking(), asking()])) == 2


async def test_a_call_whose_turn_does_not_come_in_time_is_refused() -> None:
    stage, config = queue(queue_timeout=0.01)
    async with task_group() as group:
        bench = Bench(group, stage)
        await bench.ask("first", asking())
        with anyio.fail_after(5):
            with pytest.raises(OverloadedError, match=r"no slot was free within 0\.01 s"):
                await run_stage(stage, [asking()])
        assert counted(config) == (1, 0)
        await bench.end("first")


async def test_pipelines_that_lead_to_one_backend_share_its_slots() -> None:
    stage, config = queue()
    other = Queue({"fake": config})
    async with task_group() as group:
        one, two = Bench(group, stage), Bench(group, other)
        await one.ask("first", asking())
        await two.ask("second", asking())
        assert (one.begun, two.begun) == (["first"], [])
        await one.end("first")
        assert two.begun == ["second"]
        await two.end("second")


async def test_more_slots_after_a_reload_start_waiting_calls() -> None:
    stage, config = queue()
    changed = backend(max_concurrent_calls=3)
    changed.queue = config.queue
    async with task_group() as group:
        bench = Bench(group, stage)
        for name in ("first", "second", "third", "fourth"):
            await bench.ask(name, asking())
        apply_concurrency_limit(changed)
        await anyio.wait_all_tasks_blocked()
        assert set(bench.begun) == {"first", "second", "third"}  # trio wakes them in any order
        assert counted(config) == (3, 1)
        apply_concurrency_limit(backend())  # it has none
        group.cancel_scope.cancel()
    assert counted(config) == (0, 0)


async def test_the_exchange_has_the_times_of_the_wait() -> None:
    stage, _ = queue()
    second = asking()
    async with task_group() as group:
        bench = Bench(group, stage)
        await bench.ask("first", asking())
        await bench.ask("second", second)
        assert second.exchange.queued is not None
        assert second.exchange.accepted is None
        await bench.end("first")
        await bench.end("second")
    assert second.exchange.accepted is not None
    assert second.exchange.accepted >= second.exchange.queued
