"""The stage `limit`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from attrs import Factory, define, evolve, field

from pipeline import Send
from pipeline.task_groups import task_group
from pipeline.testing import check_stage, run_stage
from stages.backends.backend import Backend
from stages.events import ChatWaiting, Resolved
from stages.exchange import Attempt, LimitRefusal
from stages.limit import Limit
from stages.limits.config import Limits
from stages.limits.memory import MemoryStore
from stages.limits.section import LimitsSection
from stages.limits.store import Admitted, LimitStore, Refused, StoreUnavailableError, Want
from stages.messages_api.errors import OverloadedError, RateLimitError
from stages.messages_api.usage import Usage
from stages.profiles.price import Price
from stages.wire.ids import new_request_id
from tests.support import backend, http, resolved


def event(size: int = 400, session: str = "", **changes: Any) -> Resolved:
    """A request of key-1 with a prompt of this many bytes."""
    headers = {"x-claude-code-session-id": session} if session else {}
    request = http(headers=headers)
    request.exchange.id = new_request_id()
    return evolve(resolved(**changes), http=request, size=size)


def stage(
    backends: dict[str, Backend] | None = None, store: LimitStore | None = None, **limits: Limits
) -> Limit:
    """The stage; `limits` are options of its section. The clock does not move."""
    section = LimitsSection(**limits)  # type: ignore[arg-type]
    section.store = store or MemoryStore(clock=lambda: 0)
    return Limit(section, backends or {"fake": backend()})


def answering(usage: Usage | None, error: Exception | None = None) -> Send[Any]:
    """The later stages: one attempt with this usage."""

    async def forward(event: Any) -> None:
        attempt = Attempt(event.target, sent=0, ended=2, usage=usage)
        event.exchange.attempts.append(attempt)
        if error:
            raise error

    return forward


async def ask(
    limit: Limit, request: Resolved, usage: Usage | None = None, error: Exception | None = None
) -> dict[str, str]:
    """Send a request through. Return its headers without their prefix."""
    await limit.handle(request, answering(usage, error))
    return shown(request)


def shown(request: Resolved) -> dict[str, str]:
    lines = request.exchange.header_lines.decode().splitlines()
    return dict(line.removeprefix("anthropic-ratelimit-").split(": ") for line in lines)


def test_it_keeps_the_rules_of_stages() -> None:
    anyio.run(check_stage, stage(all=Limits(requests_per_minute=100)), [event()])
    anyio.run(check_stage, Limit(), [event()])


async def test_without_limits_a_request_passes() -> None:
    request = event()

    assert await run_stage(Limit(), [request]) == [request]
    assert not request.exchange.header_lines


async def test_a_request_above_the_limit_is_refused() -> None:
    limit = stage(keys=Limits(requests_per_minute=2))
    assert (await ask(limit, event()))["requests-remaining"] == "1"
    assert (await ask(limit, event()))["requests-remaining"] == "0"
    request = event()

    with pytest.raises(RateLimitError, match="key `key-1` has a limit of 2 requests per minute"):
        await ask(limit, request)

    assert request.exchange.refused_by == LimitRefusal("requests_per_minute", "key:key-1")
    assert shown(request)["requests-remaining"] == "0"
    assert not request.exchange.attempts


async def test_the_estimate_is_replaced_by_the_use() -> None:
    limit = stage(all=Limits(input_tokens_per_minute=1000, output_tokens_per_minute=1000))
    first = await ask(limit, event(max_tokens=300), Usage(40, 20))
    second = await ask(limit, event(max_tokens=300), Usage(40, 20))

    assert (first["input-tokens-remaining"], first["output-tokens-remaining"]) == ("900", "700")
    assert second["input-tokens-remaining"] == str(1000 - 40 - 40)
    assert second["output-tokens-remaining"] == str(1000 - 20 - 20)
    assert second["tokens-remaining"] == "1880"


async def test_a_request_that_reached_no_backend_gets_its_tokens_back() -> None:
    limit = stage(all=Limits(tokens_per_minute=1000, requests_per_minute=10))

    async def fail(_: Any) -> None:
        raise OverloadedError("busy")

    for _ in range(3):
        request = event(max_tokens=500)
        with pytest.raises(OverloadedError):
            await limit.handle(request, fail)

    assert shown(request)["tokens-remaining"] == "400"
    assert shown(request)["requests-remaining"] == "7"


async def test_a_hold_ends_if_the_use_cannot_be_read() -> None:
    limit = stage(all=Limits(tokens_per_minute=1000, concurrent_requests=1))

    def fail() -> Usage | None:
        raise ValueError("a bug")

    request = event(max_tokens=500)
    request.exchange.read_usage = fail
    with pytest.raises(ValueError, match="a bug"):
        await limit.handle(request, answering(None))

    assert (await ask(limit, event(size=0, max_tokens=0)))["tokens-remaining"] == "400"


async def test_a_cancelled_request_is_charged_what_was_generated() -> None:
    limit = stage(all=Limits(tokens_per_minute=1000, concurrent_requests=1))

    async def disconnect(request: Any) -> None:
        attempt = Attempt(request.target, sent=0, usage=Usage(30, 4))
        request.exchange.attempts.append(attempt)
        scope.cancel()
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        await limit.handle(event(max_tokens=800), disconnect)

    assert (await ask(limit, event(size=0, max_tokens=0)))["tokens-remaining"] == "966"


async def test_all_attempts_of_one_admission_count() -> None:
    limit = stage(all=Limits(tokens_per_minute=1000))

    async def repeat(request: Any) -> None:
        for _ in range(3):
            await answering(Usage(10, 5))(request)

    request = event(max_tokens=100)
    await limit.handle(request, repeat)
    await limit.handle(request, answering(Usage(10, 5)))  # an earlier `retry`

    assert (await ask(limit, event(size=0, max_tokens=0)))["tokens-remaining"] == "940"


async def test_a_budget_is_spent_by_the_price_of_the_target() -> None:
    prices = {"fake": backend(price=(Price(input=1000, output=10_000),))}
    limit = stage(prices, all=Limits(cost_per_day=1))
    await ask(limit, event(max_tokens=10), Usage(100, 80))  # costs 0.9

    with pytest.raises(RateLimitError, match="a budget of 1 per day") as raised:
        await ask(limit, event(max_tokens=10))

    assert "0.1 is left, and this request may cost 0.2" in raised.value.message
    assert raised.value.headers["x-should-retry"] == "false"


async def test_a_runaway_session_stops_alone() -> None:
    limit = stage(sessions=Limits(tokens_per_hour=1000))
    await ask(limit, event(session="wild", max_tokens=10), Usage(5000, 1))

    with pytest.raises(RateLimitError, match="this session has a limit of 1000 tokens per hour"):
        await ask(limit, event(session="wild", max_tokens=10))
    await ask(limit, event(session="calm", max_tokens=10))


async def test_the_window_mark_is_no_part_of_a_models_name() -> None:
    section = LimitsSection(models={"claude-test": Limits(requests_per_minute=1)})
    limit = Limit(section)
    await ask(limit, event(model="claude-test[1m]"))

    with pytest.raises(RateLimitError, match="model `claude-test`"):
        await ask(limit, event(model="claude-test"))


async def handled(limit: Limit, request: Resolved, forward: Send[Any]) -> None:
    await limit.handle(request, forward)


async def running(limit: Limit, group: Any) -> anyio.Event:
    """A request that runs until the event is set."""
    end = anyio.Event()

    async def wait(_: Any) -> None:
        await end.wait()

    group.start_soon(handled, limit, event(), wait)
    await anyio.wait_all_tasks_blocked()
    return end


async def test_concurrency_refuses_at_once_by_default() -> None:
    limit = stage(all=Limits(concurrent_requests=1))
    async with task_group() as group:
        end = await running(limit, group)
        with pytest.raises(RateLimitError, match="a limit of 1 requests in flight"):
            await ask(limit, event())
        end.set()
    await ask(limit, event())


async def test_a_request_that_waits_for_a_place_forwards_chat_waiting() -> None:
    limit = stage(all=Limits(concurrent_requests=1, concurrency_timeout=60))
    forwarded: list[Any] = []

    async def forward(event: Any) -> None:
        forwarded.append(event)

    async with task_group() as group:
        end = await running(limit, group)
        request = event(stream=True)
        group.start_soon(handled, limit, request, forward)
        await anyio.wait_all_tasks_blocked()
        [waiting] = forwarded
        assert isinstance(waiting, ChatWaiting)
        assert waiting.exchange is request.exchange
        end.set()
    assert forwarded == [waiting, request]


async def test_a_request_waits_at_most_the_timeout() -> None:
    limit = stage(all=Limits(concurrent_requests=1, concurrency_timeout=0.01))
    async with task_group() as group:
        end = await running(limit, group)
        forwarded = []

        async def forward(event: Any) -> None:
            forwarded.append(event)

        with pytest.raises(RateLimitError):
            await limit.handle(event(), forward)
        assert len(forwarded) == 1
        end.set()


@define
class Recording:
    """A store with leases, that notes its calls. The stage calls it as one of another process."""

    lease: float = math.inf
    calls: list[str] = Factory(list)
    lost: bool = False
    renewed_often: anyio.Event = Factory(anyio.Event)
    memory: MemoryStore = field(init=False)

    @memory.default
    def _make_memory(self) -> MemoryStore:
        return MemoryStore(self.lease)

    async def admit(
        self, hold: str, wants: Sequence[Want], amounts: Sequence[float], wait: float = 0.0
    ) -> Admitted | Refused:
        self.calls.append("admit")
        if self.lost:
            raise StoreUnavailableError
        return await self.memory.admit(hold, wants, amounts, wait)

    async def renew(self, hold: str) -> None:
        self.calls.append("renew")
        await self.memory.renew(hold)
        if self.calls.count("renew") >= 5:
            self.renewed_often.set()

    async def settle(self, hold: str, used: Sequence[float]) -> None:
        self.calls.append(f"settle {list(used)}")
        await self.memory.settle(hold, used)


async def test_a_hold_is_renewed_while_the_request_runs() -> None:
    store = Recording(lease=0.03)
    limit = stage(store=store, all=Limits(concurrent_requests=1))

    async def wait(_: Any) -> None:
        with anyio.fail_after(30):
            await store.renewed_often.wait()

    await limit.handle(event(), wait)

    assert store.calls[-1] == "settle [1.0]"
    assert store.calls.count("admit") == 1


async def test_a_lost_store_is_an_overload() -> None:
    store = Recording(lost=True)
    limit = stage(store=store, all=Limits(requests_per_minute=1))

    with pytest.raises(OverloadedError, match="cannot be checked now") as raised:
        await ask(limit, event())

    assert raised.value.headers == {"retry-after": "5"}
    assert store.calls == ["admit"]


async def test_a_client_that_disconnects_while_it_waits_holds_nothing() -> None:
    store = Recording()
    limit = stage(store=store, all=Limits(concurrent_requests=1, concurrency_timeout=60))
    async with task_group() as group:
        end = await running(limit, group)
        with anyio.CancelScope() as scope:

            async def forward(event: Any) -> None:
                scope.cancel()

            await limit.handle(event(), forward)
        end.set()
    assert store.calls == ["admit", "admit", "admit", "settle [0.0]", "settle [1.0]"]
    await ask(limit, event())
