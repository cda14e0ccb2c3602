"""The stage `invoke`."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest
from attrs import Factory, define
from trio.testing import MockClock

from pipeline import Send, StopForwarding
from pipeline.chain import Chain
from pipeline.config.options import OptionError
from pipeline.testing import check_stage, run_stage
from stages.events import ChatChunk, ChatEnd, ChatEvent, ChatRequest, ChatStart, ChatWaiting
from stages.invoke import Invoke
from stages.messages_api.errors import GatewayTimeoutError, OverloadedError
from tests.cases import for_each
from tests.support import FakeBackend, chat_request

timed = pytest.mark.parametrize(
    "anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})], ids=["clock"]
)


def invoke(fake: Any, **options: Any) -> Invoke:
    return Invoke({"fake": fake}, **options)


async def test_it_keeps_to_the_contract() -> None:
    await check_stage(invoke(FakeBackend([{"n": 1}, {"n": 2}])), [chat_request()])


async def test_the_start_is_forwarded_first_and_then_each_chunk() -> None:
    request = chat_request()
    fake = FakeBackend([{"n": 1}, {"n": 2}], ChatEnd(done=False))
    assert await run_stage(invoke(fake), [request]) == [
        ChatWaiting(request),
        ChatStart(request),
        ChatChunk({"n": 1}),
        ChatChunk({"n": 2}),
        ChatEnd(done=False),
    ]
    assert fake.closed


async def test_a_response_without_chunks_has_a_start_and_an_end() -> None:
    request = chat_request()
    out = await run_stage(invoke(FakeBackend([])), [request])
    assert out == [ChatWaiting(request), ChatStart(request), ChatEnd()]


async def test_a_refusal_precedes_any_event_of_the_response() -> None:
    out: list[Any] = []

    async def keep(event: Any) -> None:
        out.append(event)

    fake = FakeBackend([], OverloadedError("busy"))
    with pytest.raises(OverloadedError, match="busy"):
        await Chain.of((invoke(fake),), ChatRequest).run(chat_request(), keep)
    assert out == [ChatWaiting(chat_request())]
    assert fake.closed


async def test_a_failure_in_the_middle_comes_after_what_was_there() -> None:
    out: list[Any] = []

    async def keep(event: Any) -> None:
        out.append(type(event))

    fake = FakeBackend([{"n": 1}], OverloadedError("gone"))
    with pytest.raises(OverloadedError, match="gone"):
        await Chain.of((invoke(fake),), ChatRequest).run(chat_request(), keep)
    assert out == [ChatWaiting, ChatStart, ChatChunk]
    assert fake.closed


async def test_the_backend_is_left_when_a_later_stage_fails() -> None:
    async def refuse(event: Any) -> None:
        if isinstance(event, ChatChunk):
            raise ValueError("no more")

    fake = FakeBackend([{"n": 1}, {"n": 2}])
    with pytest.raises(ValueError, match="no more"):
        await Chain.of((invoke(fake),), ChatRequest).run(chat_request(), refuse)
    assert fake.closed


async def test_the_backend_closes_when_a_later_stage_has_enough() -> None:
    out: list[Any] = []

    async def take_one(event: Any) -> None:
        out.append(event)
        if isinstance(event, ChatChunk):
            raise StopForwarding

    fake = FakeBackend([{"n": 1}, {"n": 2}])
    await Chain.of((invoke(fake),), ChatRequest).run(chat_request(), take_one)
    assert [type(event) for event in out] == [ChatWaiting, ChatStart, ChatChunk]
    assert fake.closed


async def test_the_backend_closes_when_the_client_disconnects() -> None:
    fake = FakeBackend([{"n": 1}, {"n": 2}])
    with anyio.CancelScope() as scope:

        async def leave(event: Any) -> None:
            if isinstance(event, ChatChunk):
                scope.cancel()
                await anyio.lowlevel.checkpoint()

        await Chain.of((invoke(fake),), ChatRequest).run(chat_request(), leave)
    assert scope.cancelled_caught
    assert fake.closed


@define
class Listening:
    """A backend that notes what it is asked."""

    asked: list[Any] = Factory(list)

    async def answer(self, request: ChatRequest, forward: Send[ChatEvent], *timeouts: Any) -> None:
        self.asked.append((request, *timeouts))
        await forward(ChatEnd())


async def test_the_backend_of_the_request_is_asked_with_the_timeouts() -> None:
    fake, other = Listening(), Listening()
    request = chat_request()
    stage = Invoke({"fake": fake, "other": other}, idle_timeout=7, first_byte_timeout=9)
    await run_stage(stage, [request])
    await run_stage(invoke(fake), [request])
    assert fake.asked == [(request, 7, 9), (request, 300, None)]
    assert other.asked == []


@define
class Slow:
    """A backend that takes a second for each part, and the same time to close."""

    closing: float = 0

    async def answer(self, _: ChatRequest, forward: Send[ChatEvent], *timeouts: Any) -> None:
        try:
            for n in range(5):
                await anyio.sleep(1)
                await forward(ChatChunk({"n": n}))
            await forward(ChatEnd())
        finally:
            await anyio.sleep(self.closing)


@timed
@pytest.mark.parametrize(("seconds", "parts"), [(0.5, 0), (3.5, 3)])
async def test_a_response_that_takes_too_long_in_all_ends_where_it_is(
    seconds: float, parts: int
) -> None:
    out: list[Any] = []
    start = anyio.current_time()

    async def keep(event: Any) -> None:
        out.append(event)

    stage = invoke(Slow(), total_timeout=seconds)
    with pytest.raises(GatewayTimeoutError, match=f"`fake` did not complete .* within {seconds} s"):
        await Chain.of((stage,), ChatRequest).run(chat_request(), keep)
    assert anyio.current_time() - start == pytest.approx(seconds)
    assert len([part for part in out if isinstance(part, ChatChunk)]) == parts


@timed
@pytest.mark.parametrize("closing", [0, 60])
async def test_a_response_is_whole_while_the_backend_closes_slowly(
    closing: float,
) -> None:
    out = await run_stage(invoke(Slow(closing), total_timeout=5.5), [chat_request()])
    assert out[-1] == ChatEnd()


@timed
async def test_that_a_client_reads_slowly_is_not_the_backends_time() -> None:
    out: list[Any] = []

    async def slowly(event: Any) -> None:
        await anyio.sleep(20)
        out.append(event)

    stage = invoke(Slow(), total_timeout=5.5)
    await Chain.of((stage,), ChatRequest).run(chat_request(), slowly)
    assert out[-1] == ChatEnd()


@timed
async def test_a_response_that_a_later_stage_has_enough_of_is_in_time() -> None:
    async def stop(event: Any) -> None:
        if isinstance(event, ChatChunk):
            raise StopForwarding

    await Chain.of((invoke(Slow(60), total_timeout=1.5),), ChatRequest).run(chat_request(), stop)


@for_each("timeout", ["idle_timeout", "first_byte_timeout", "total_timeout"])
@for_each("seconds", [0, -1.5])
def test_timeouts_have_to_be_positive(timeout: str, seconds: float) -> None:
    with pytest.raises((OptionError, ValueError), match=timeout):
        Invoke({}, **{timeout: seconds})
