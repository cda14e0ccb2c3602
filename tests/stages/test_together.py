"""Fallback, retry, queue, timeouts and pings in one chain: left at any moment, nothing remains."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest
from attrs import define, evolve, field

from pipeline import Send
from pipeline.chain import Chain
from stages.backends.backend import Backend
from stages.backends.call_queue import QueuedCall
from stages.events import ChatChunk, ChatEnd, ChatEvent, ChatRequest, Resolved
from stages.exchange import Exchange, Target
from stages.fallback import Fallback
from stages.invoke import Invoke
from stages.messages_api import stream_events as e
from stages.messages_api.errors import ApiError, OverloadedError
from stages.queue import Queue
from stages.retry import Retry
from stages.routing.breaker import Breakers
from stages.translate_in import TranslateIn
from stages.translate_out import TranslateOut
from tests.cases import for_each
from tests.grammar import check_grammar
from tests.support import backend, resolved

TEXT = {"choices": [{"delta": {"content": "Hello"}}]}
FINISH = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
A, B = (Target(name, "m", label=name) for name in "ab")


@define
class Flaky:
    """A backend that takes a step for each part, and fails at a scripted place."""

    failing: bool = False
    broken: bool = False
    """In the middle of a response."""
    in_flight: int = 0
    asked: list[str] = field(factory=list)

    async def answer(self, request: ChatRequest, forward: Send[ChatEvent], *_: Any) -> None:
        self.asked.append(request.resolved.target.label)
        self.in_flight += 1
        try:
            await anyio.lowlevel.checkpoint()
            if self.failing:
                raise OverloadedError("busy")
            for data in (TEXT, TEXT):
                await forward(ChatChunk(data))
                await anyio.lowlevel.checkpoint()
            if self.broken:
                raise OverloadedError("gone")
            await forward(ChatChunk(FINISH))
            await forward(ChatEnd())
        finally:
            self.in_flight -= 1


@define
class World:
    """Two targets with a slot each, and the stages before them."""

    fakes: dict[str, Flaky] = field(factory=lambda: {"a": Flaky(failing=True), "b": Flaky()})
    backends: dict[str, Backend] = field(
        factory=lambda: {name: backend(max_concurrent_calls=1) for name in ("a", "b")}
    )
    breakers: Breakers = field(factory=lambda: Breakers(failures=1, cooldown=0.000001))
    max_queued: int = 100
    retry_first: bool = False

    def chain(self) -> Chain:
        fallback, retry = Fallback(breakers=self.breakers), Retry(attempts=2, max_wait=0.001)
        return Chain.of(
            (
                *((retry, fallback) if self.retry_first else (fallback, retry)),
                TranslateIn(self.backends),
                Queue(self.backends, max_queued=self.max_queued),
                Invoke(self.fakes, total_timeout=60),
                TranslateOut(0.0001),
            ),
            Resolved,
        )

    async def ask(self, out: list[Any], stream: bool = True) -> Exchange:
        async def sink(event: Any) -> None:
            await anyio.lowlevel.checkpoint()
            out.append(event)

        request = evolve(resolved(stream=stream), target=A, alternatives=(B,))
        await self.chain().run(request, sink)
        return request.exchange

    def is_at_rest(self) -> bool:
        now = anyio.current_time() + 1
        return all(
            turns.running == turns.waiting == self.fakes[name].in_flight == 0
            and self.breakers.get(name).allows(now)
            for name, backend in self.backends.items()
            if (turns := backend.queue)
        )


@for_each("retry_first", [True, False], ids=["all again", "each again"])
@for_each("probes", [True, False], ids=["a probe", "no probe"])
@for_each("steps", range(0, 60, 3))
async def test_a_client_can_disconnect_at_any_moment(
    steps: int, probes: bool, retry_first: bool
) -> None:
    world = World(retry_first=retry_first)
    if probes:
        now = anyio.current_time()
        world.breakers.get("a").attempt(now).failed(now)
    outs: list[list[Any]] = [[], [], []]
    async with anyio.create_task_group() as group:
        for out in outs[1:]:
            group.start_soon(world.ask, out)
        with anyio.CancelScope() as scope:
            group.start_soon(_after, steps, scope)
            await world.ask(outs[0])
    assert world.is_at_rest()
    for out in outs[1:]:
        check_grammar(event.payload() for event in out)


async def _after(steps: int, scope: anyio.CancelScope) -> None:
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
    scope.cancel()


async def test_a_full_queue_leads_on_and_opens_no_breaker() -> None:
    world = World(max_queued=0)
    world.fakes["a"].failing = False
    turns = world.backends["a"].queue
    assert turns
    await turns.enter(QueuedCall(("", ""), short=True), max_queued=0)
    for _ in range(3):
        await world.ask([])
    assert world.breakers.states(anyio.current_time()) == {"a": "closed", "b": "closed"}
    assert (world.fakes["a"].asked, world.fakes["b"].asked) == ([], ["b"] * 3)


@for_each("retry_first", [True, False], ids=["all again", "each again"])
async def test_a_whole_response_that_breaks_off_is_repeated(retry_first: bool) -> None:
    world = World(retry_first=retry_first, breakers=Breakers(failures=9))
    out: list[Any] = []
    world.fakes["a"] = Flaky(broken=True)
    exchange = await world.ask(out, stream=False)
    check_grammar(event.payload() for event in out)
    assert [event.text for event in out if isinstance(event, e.BlockDelta)] == ["Hello"] * 2
    tries = 1 if retry_first else 2  # `retry` after `fallback` repeats each target
    assert (world.fakes["a"].asked, world.fakes["b"].asked) == (["a"] * tries, ["b"])
    assert [repeat.error for repeat in exchange.repeats] == ["overloaded"] * tries
    assert len(exchange.attempts) == tries + 1
    assert all(attempt.usage == exchange.usage for attempt in exchange.attempts)
    assert exchange.usage
    assert exchange.usage.output_tokens == 3
    assert world.is_at_rest()


async def test_a_response_that_has_begun_is_the_only_one() -> None:
    world = World()
    out: list[Any] = []
    world.fakes["a"] = Flaky(broken=True)
    with pytest.raises(ApiError, match="gone"):
        await world.ask(out)
    assert sum(isinstance(event, e.MessageStart) for event in out) == 1
    assert not any(isinstance(event, e.MessageStop) for event in out)
    assert (world.fakes["a"].asked, world.fakes["b"].asked) == (["a"], [])
    assert world.is_at_rest()
