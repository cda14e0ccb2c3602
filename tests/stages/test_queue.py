"""The stage `queue`. Who is next is in backends/test_turns.py."""

from __future__ import annotations

import itertools
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
from stages.backends.call_queue import LocalCallQueue, QueuedCall
from stages.backends.fair_queue import FairQueue
from stages.events import ChatRequest, ChatWaiting
from stages.exchange import Exchange, Target
from stages.messages_api.errors import InternalError, OverloadedError
from stages.queue import Queue, apply_concurrency_limit, conversation_name
from tests.cases import for_each
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


@for_each("slots", [None, 1, 2])
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
        with anyio.fail_after(30):
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


def asking_tool(session: str, **changes: Any) -> ChatRequest:
    """A call whose response calls a tool."""
    event = asking(session, **changes)
    event.exchange.stop_reason = "tool_use"
    return event


def let_calls_wait_long(config: Backend) -> None:
    """100 s pass between any two events of its queue."""
    config.queue = LocalCallQueue(FairQueue(1, itertools.count(0, 100).__next__))


async def test_a_slot_waits_for_the_results_of_tools() -> None:
    stage, config = queue(hold_seconds=5.0, warm_turns=2, warm_seconds=1e9)
    let_calls_wait_long(config)
    async with task_group() as group:
        bench = Bench(group, stage)
        for name, event in (("a1", asking_tool("a")), ("b1", asking("b"))):
            await bench.ask(name, event)
        await bench.end("a1")
        assert bench.begun == ["a1"], "reserved"
        await bench.ask("a2", asking_tool("a"))
        assert bench.begun == ["a1", "a2"]
        await bench.end("a2")
        assert bench.begun[-1] == "b1", "two turns"
        await bench.end("b1")


async def test_a_hold_ends_after_its_seconds() -> None:
    stage, config = queue(hold_seconds=0.01, warm_seconds=1e9)
    let_calls_wait_long(config)
    async with task_group() as group:
        bench = Bench(group, stage)
        await bench.ask("a1", asking_tool("a"))
        b1 = QueuedCall(("key-1", "b"), short=False)
        assert config.queue
        assert await config.queue.enter(b1, 1) is None
        await bench.end("a1")
        with anyio.fail_after(30):
            await b1.may_start.wait()
        await config.queue.leave(b1)
    assert counted(config) == (0, 0)


async def test_a_call_ends_a_hold_also_if_the_queue_is_full() -> None:
    stage, config = queue(hold_seconds=5.0, warm_seconds=1e9, max_queued=1)
    let_calls_wait_long(config)
    async with task_group() as group:
        bench = Bench(group, stage)
        await bench.ask("a1", asking_tool("a"))
        await bench.ask("b1", asking("b"))
        await bench.end("a1")
        await bench.ask("c1", asking("c"))
        assert (bench.begun, bench.raised) == (["a1", "b1"], {}), "c1 waits"
        await bench.end("b1")
        await bench.end("c1")


async def test_a_response_without_tools_holds_no_slot() -> None:
    stage, config = queue(hold_seconds=5.0, warm_seconds=1e9)
    let_calls_wait_long(config)
    async with task_group() as group:
        bench = Bench(group, stage)
        await bench.ask("a1", asking("a"))
        await bench.ask("b1", asking("b"))
        await bench.end("a1")
        assert bench.begun == ["a1", "b1"]
        await bench.end("b1")


def named(**names: Any) -> str:
    return conversation_name(Exchange(**names))


def test_a_sub_agent_is_a_conversation_of_its_own() -> None:
    same = {"client": "key-1", "session": "s"}
    assert named(**same) == named(**same)
    different = (
        same,
        {**same, "agent": "a"},
        {**same, "client": "key-2"},
        {**same, "session": "t"},
    )
    assert len({named(**names) for names in different}) == 4
    assert named(agent="a") == "", "without a session its prefix counts"


async def test_without_a_session_the_prefix_is_the_conversation() -> None:
    stage, config = queue()
    first, other = asking(), asking()
    other = evolve(other, resolved=evolve(other.resolved, target=Target("fake", "other")))
    warmth = [await stage._warmth(event, config) for event in (first, asking(), other)]
    assert warmth[0] == warmth[1]
    assert warmth[0].conversation != warmth[2].conversation, "another model has another cache"
    assert warmth[0].model == ""


async def test_a_long_model_gives_a_short_conversation_name() -> None:
    stage, config = queue()
    event = asking("a")
    target = evolve(event.resolved.target, model="m" * 2_000_000)
    event = evolve(event, resolved=evolve(event.resolved, target=target))
    warmth = await stage._warmth(event, config)
    assert len(warmth.conversation) < 1_000


async def test_a_backend_that_swaps_models_groups_calls_by_model() -> None:
    config = backend(max_concurrent_calls=1, swaps_models=True)
    warmth = await Queue({"fake": config}, warm_turns=1)._warmth(asking(), config)
    assert (warmth.conversation, warmth.model) == ("", asking().resolved.target.model)
