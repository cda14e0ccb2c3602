"""Pings, as `translate-out` sends them. What a client sees of them is in wire/test_pings.py."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import trio.testing
from attrs import define, field

from pipeline.chain import Chain
from stages.events import (
    ChatChunk,
    ChatEnd,
    ChatEvent,
    ChatRequest,
    ChatStart,
    ChatWaiting,
    Resolved,
)
from stages.messages_api.errors import InternalError, OverloadedError
from stages.retry import Retry
from stages.translate_out import TranslateOut
from tests.cases import for_each
from tests.grammar import check_grammar
from tests.support import chat_request

REQUEST = chat_request(stream=True)
WAITING, START = ChatWaiting(REQUEST), ChatStart(REQUEST)
ROLE = ChatChunk({"choices": [{"delta": {"role": "assistant"}}]})
TEXT = ChatChunk({"choices": [{"delta": {"content": "a"}}]})
FINISH = ChatChunk({"choices": [{"delta": {}, "finish_reason": "stop"}]})
NAMES = {"message_start": "start", "content_block_delta": "delta", "message_stop": "stop"}


@pytest.fixture
def anyio_backend() -> Any:
    """Trio, with a clock that jumps as soon as all tasks wait."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@define
class Sink:
    """Keeps what is forwarded, and when; each takes `seconds`."""

    seconds: float = 0
    events: list[Any] = field(factory=list)
    times: list[tuple[float, str]] = field(factory=list)
    busy: bool = False

    async def __call__(self, event: Any) -> None:
        assert not self.busy, "two tasks forward at a time"
        self.busy = True
        if self.seconds:
            await anyio.sleep(self.seconds)
        self.busy = False
        self.events.append(event)
        self.times.append((anyio.current_time(), event.type))

    def seen(self, began: float) -> list[tuple[float, str]]:
        """Pings and a few others, in seconds since `began`."""
        wanted = {"ping": "ping", **NAMES}
        return [(round(at - began, 3), wanted[kind]) for at, kind in self.times if kind in wanted]


async def play(sink: Sink, *script: ChatEvent | float, interval: float | None = 15) -> float:
    """Send events, with seconds of silence in between; when it began."""
    began = anyio.current_time()
    async with Chain.of((TranslateOut(interval),), ChatEvent).open(sink) as receive:
        for step in script:
            if isinstance(step, (int, float)):
                await anyio.sleep(step)
            else:
                await receive(step)
    return began


async def test_pitfall_22_pings_begin_before_the_first_event() -> None:
    sink = Sink()
    began = await play(sink, WAITING, 40, START, TEXT, 5, TEXT, 20, FINISH, ChatEnd(), 60)
    assert sink.seen(began) == [
        (15, "start"),
        (15, "ping"),
        (30, "ping"),
        (40, "delta"),
        (45, "delta"),
        (60, "ping"),
        (65, "stop"),
    ]
    check_grammar(event.payload() for event in sink.events)


async def test_a_stream_that_flows_is_not_pinged() -> None:
    sink = Sink()
    flow: list[Any] = [TEXT, 14] * 10
    await play(sink, WAITING, 14, START, *flow, FINISH, ChatEnd())
    assert "ping" not in [event.type for event in sink.events]
    check_grammar(event.payload() for event in sink.events)


async def test_chunks_without_content_do_not_stop_pings() -> None:
    sink = Sink()
    start, silent = ChatStart(chat_request(stream=True)), ChatChunk({"choices": []})
    script = start, 10, silent, ROLE, 10, silent, 11, TEXT, FINISH, ChatEnd()
    began = await play(sink, *script)
    assert sink.seen(began)[:4] == [(15, "start"), (15, "ping"), (30, "ping"), (31, "delta")]
    check_grammar(event.payload() for event in sink.events)


async def test_a_whole_response_is_not_pinged() -> None:
    sink = Sink()
    request = chat_request(stream=False)
    began = await play(sink, ChatWaiting(request), 100, ChatStart(request), TEXT, FINISH, ChatEnd())
    assert sink.seen(began) == [(100, "start"), (100, "delta"), (100, "stop")]


async def test_without_an_interval_nothing_is_pinged() -> None:
    sink = Sink()
    await play(sink, WAITING, 1000, START, TEXT, 1000, FINISH, ChatEnd(), interval=None)
    assert "ping" not in [event.type for event in sink.events]


async def test_a_response_that_is_tried_again_is_one_to_the_client() -> None:
    sink = Sink()
    again = ChatStart(chat_request(stream=True, model="claude-other"))
    waiting = WAITING, 20, ChatWaiting(again.request), 20
    tasks = trio.lowlevel.current_statistics().tasks_living
    began = await play(sink, *waiting, again, TEXT, 20, FINISH, ChatEnd())
    await anyio.sleep(60)
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    assert sink.seen(began) == [
        (15, "start"),
        (15, "ping"),
        (30, "ping"),
        (40, "delta"),
        (55, "ping"),
        (60, "stop"),
    ]
    check_grammar(event.payload() for event in sink.events)


async def fail(sink: Sink, *response: ChatChunk) -> float:
    """Fail 14 seconds after the events, while an earlier stage is slow. Return when it began."""
    began, request = anyio.current_time(), chat_request(stream=True)
    async with Chain.of((TranslateOut(),), ChatEvent).open(sink) as receive:
        for event in (ChatWaiting(request), ChatStart(request), *response):
            await receive(event)
        await anyio.sleep(14)
        with pytest.raises(InternalError):
            await receive(ChatChunk({"error": {"message": "it broke"}}))
        await anyio.sleep(20)
    return began


async def test_no_ping_follows_a_failure_in_mid_response() -> None:
    sink = Sink()
    await fail(sink, TEXT)
    assert sink.events
    assert "ping" not in [event.type for event in sink.events]


@for_each("chunks", [[], [ROLE]], ids=["an error", "a role, then an error"])
async def test_a_ping_is_sent_while_a_failed_attempt_may_be_retried(
    chunks: list[ChatChunk],
) -> None:
    sink = Sink()
    began = await fail(sink, *chunks)
    assert sink.seen(began) == [(15, "start"), (15, "ping"), (30, "ping")]


async def test_no_silence_exceeds_the_interval_while_retry_waits() -> None:
    sink = Sink()
    chunks: list[list[ChatEvent]] = [[ChatChunk({"error": "busy"})], [TEXT, FINISH, ChatEnd()]]

    async def backend(event: Resolved) -> None:
        asked = ChatRequest(event, [], {})
        try:
            for item in (ChatWaiting(asked), ChatStart(asked), *chunks.pop(0)):
                await receive(item)
        except InternalError as error:
            raise OverloadedError("busy", headers={"retry-after": "9"}) from error

    async with Chain.of((TranslateOut(2),), ChatEvent).open(sink) as receive:
        await Chain.of((Retry(),), Resolved).run(chat_request(stream=True).resolved, backend)
    check_grammar(event.payload() for event in sink.events)
    assert [item.type for item in sink.events[:6]][1:] == [*["ping"] * 4, "content_block_start"]


async def test_a_ping_to_a_slow_client_precedes_newer_events() -> None:
    sink = Sink(seconds=10)
    began = await play(sink, WAITING, 16, START, TEXT, FINISH, ChatEnd())
    check_grammar(event.payload() for event in sink.events)
    assert sink.seen(began)[:2] == [(25, "start"), (35, "ping")]


async def test_while_a_client_reads_slowly_it_is_not_pinged() -> None:
    sink = Sink(seconds=50)
    await play(sink, WAITING, START, TEXT, FINISH, ChatEnd())
    assert "ping" not in [event.type for event in sink.events]
    check_grammar(event.payload() for event in sink.events)
