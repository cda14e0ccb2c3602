"""The times and events of a response that `translate-out` records in the exchange."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from pipeline.chain import Chain
from stages.events import ChatChunk, ChatEnd, ChatEvent, ChatRequest, ChatStart
from stages.exchange import Exchange
from stages.messages_api.stream_events import StreamEvent
from stages.translate_out import TranslateOut
from tests.support import chat_request

TEXT = ChatChunk({"choices": [{"delta": {"content": "a"}}]})
EMPTY = ChatChunk({"choices": []})
FINISH = ChatChunk({"choices": [{"delta": {}, "finish_reason": "stop"}]})


@pytest.fixture
def anyio_backend() -> Any:
    """Trio, with a clock that jumps as soon as all tasks wait."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}


async def play(
    request: ChatRequest, *script: ChatEvent | float, forwarded: list[StreamEvent] | None = None
) -> Exchange:
    """Send a response, with seconds of silence in between."""

    async def sink(event: StreamEvent) -> None:
        if forwarded is not None:
            forwarded.append(event)

    async with Chain.of((TranslateOut(),), ChatEvent).open(sink) as receive:
        await receive(ChatStart(request))
        for step in (*script, FINISH, ChatEnd()):
            if isinstance(step, (int, float)):
                await anyio.sleep(step)
            else:
                await receive(step)
    return request.exchange


async def test_the_longest_gap_is_between_two_parts() -> None:
    """The time before the first part is no gap. A chunk without content is no part."""
    exchange = await play(
        chat_request(stream=True), 30, TEXT, 2, TEXT, 4, EMPTY, 3, TEXT, 5, TEXT, 1
    )

    assert exchange.longest_gap == pytest.approx(7)


async def test_pings_end_no_gap() -> None:
    exchange = await play(chat_request(stream=True), TEXT, 40, TEXT)

    assert exchange.longest_gap == pytest.approx(40)


async def test_a_gap_before_the_end_counts() -> None:
    exchange = await play(chat_request(stream=True), TEXT, 2, TEXT, 9)

    assert exchange.longest_gap == pytest.approx(9)


async def test_the_times_of_parts_are_recorded_on_demand_only() -> None:
    request = chat_request(stream=True)
    assert (await play(request, TEXT, 2, TEXT)).stream_times is None

    request = chat_request(stream=True)
    request.exchange.stream_times = []
    began = anyio.current_time()
    await play(request, 1, TEXT, 2, TEXT, 20, TEXT, 4)

    times = request.exchange.stream_times
    assert [round(time - began, 3) for time in times] == [1, 3, 23, 27]


async def test_each_event_is_reported_before_it_is_forwarded_also_pings() -> None:
    request = chat_request(stream=True)
    forwarded: list[StreamEvent] = []
    reported: list[tuple[StreamEvent, int]] = []
    request.exchange.on_stream_event.append(lambda event: reported.append((event, len(forwarded))))

    await play(request, TEXT, 20, TEXT, forwarded=forwarded)

    assert reported == [(event, number) for number, event in enumerate(forwarded)]
    assert [event.type for event in forwarded].count("ping") == 1


async def test_a_response_without_a_stream_reports_the_same_events() -> None:
    request = chat_request(stream=False)
    reported: list[StreamEvent] = []
    request.exchange.on_stream_event.append(reported.append)

    await play(request, TEXT)

    assert [event.type for event in reported] == [
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop"),
    ]
