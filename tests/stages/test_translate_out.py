"""The stage `translate-out`. The translation of a response is in translation/test_answer.py."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from pipeline import Send, StopForwarding
from pipeline.chain import Chain
from pipeline.config.options import OptionError
from pipeline.task_groups import task_group
from pipeline.testing import check_stage, run_stage
from stages.events import ChatChunk, ChatEnd, ChatEvent, ChatStart, ChatWaiting
from stages.messages_api import stream_events as e
from stages.messages_api.errors import InternalError, OverloadedError, RateLimitError
from stages.messages_api.usage import Usage
from stages.stream_encode import StreamEncode
from stages.translate_out import TranslateOut
from stages.translation.request import chat_request as translated
from tests.cases import for_each
from tests.grammar import check_grammar
from tests.support import chat_request, profile, resolved

START = ChatStart(chat_request())
ROLE = ChatChunk({"choices": [{"delta": {"role": "assistant"}}]})
TEXT = ChatChunk({"choices": [{"delta": {"content": "a"}}]})
CACHED = {"cached_tokens": 8, "cache_write_tokens": 2}
FINISH = ChatChunk({"choices": [{"delta": {}, "finish_reason": "stop"}]})


async def failing(events: list[Any], error: type[Exception]) -> tuple[list[Any], str]:
    """The events forwarded before `events` fail, and the error."""
    out: list[Any] = []

    async def keep(event: Any) -> None:
        out.append(event)

    async def run(receive: Send[Any]) -> None:
        for event in events:
            await receive(event)

    async with Chain.of((TranslateOut(),), ChatEvent).open(keep) as receive:
        with pytest.raises(error) as raised:
            await run(receive)
    return out, str(raised.value)


async def test_it_keeps_to_the_contract() -> None:
    await check_stage(TranslateOut(), [START, TEXT, TEXT, FINISH, ChatEnd()])


async def test_a_response_is_translated_as_it_comes() -> None:
    out = await run_stage(TranslateOut(), [START, TEXT, TEXT, FINISH, ChatEnd(done=False)])
    check_grammar(event.payload() for event in out)
    assert [event.text for event in out if isinstance(event, e.BlockDelta)] == ["a", "a"]


async def test_nothing_is_said_before_the_first_chunk() -> None:
    assert await run_stage(TranslateOut(), [START]) == []


async def test_a_response_that_begins_with_an_error_is_no_response() -> None:
    response = {"error": {"message": "slow down", "code": 429}}
    out, words = await failing([START, ChatChunk(response)], RateLimitError)
    assert out == []
    assert "slow down" in words


async def test_pitfall_21_a_response_that_breaks_off_is_an_error() -> None:
    out, words = await failing([START, TEXT, ChatEnd(done=False)], InternalError)
    check_grammar((event.payload() for event in out), whole=False)
    assert not any(isinstance(event, (e.BlockStop, e.MessageStop)) for event in out)
    assert "closed the stream early" in words


async def test_a_response_can_begin_again_until_its_first_content() -> None:
    request = chat_request(stream=True)
    exchange, seen = request.exchange, []

    async def look(event: Any) -> None:
        seen.append((type(event), exchange.response_started is not None))

    async with Chain.of((TranslateOut(),), ChatEvent).open(look) as receive:
        await receive(ChatStart(request))
        with pytest.raises(InternalError):
            await receive(ChatChunk({"error": "it broke"}))
        await receive(ChatStart(request))
        await receive(ROLE)
        await receive(ChatStart(request))
        await receive(ROLE)
        assert exchange.response_started is None
        await receive(TEXT)
    assert seen == [(e.MessageStart, True), (e.BlockStart, True), (e.BlockDelta, True)]


async def test_the_start_of_a_stream_is_that_of_the_attempt_that_succeeds() -> None:
    long = chat_request(stream=True, messages=[{"role": "user", "content": "long " * 99}])
    short = chat_request(stream=True)
    out = await run_stage(
        TranslateOut(), [ChatStart(long), ROLE, ChatStart(short), TEXT, FINISH, ChatEnd()]
    )
    assert out[0].usage.input_tokens == short.estimate < long.estimate


async def test_a_whole_response_can_begin_again_until_its_end() -> None:
    request, seen = chat_request(), []

    async def look(event: Any) -> None:
        seen.append(event)

    async with Chain.of((TranslateOut(),), ChatEvent).open(look) as receive:
        for event in (ChatWaiting(request), ChatStart(request), TEXT, TEXT, FINISH):
            await receive(event)
        with pytest.raises(InternalError):
            await receive(ChatChunk({"error": "it broke"}))
        assert request.exchange.usage == Usage(request.estimate, 1, estimated=True)
        for event in (ChatStart(request), TEXT, FINISH):
            await receive(event)
        assert seen == []
        assert request.exchange.response_started is None
        await receive(ChatEnd())
    check_grammar(event.payload() for event in seen)
    assert [event.text for event in seen if isinstance(event, e.BlockDelta)] == ["a"]


async def test_no_response_is_an_error() -> None:
    out, words = await failing([START, ChatEnd()], InternalError)
    assert out == []
    assert "sent no response" in words


@pytest.mark.parametrize("event", [TEXT, ChatEnd()], ids=["a chunk", "the end"])
async def test_a_response_without_its_start_is_a_bug(event: ChatEvent) -> None:
    _, words = await failing([event], TypeError)
    assert words == f"{type(event).__name__} before ChatStart"


async def test_after_a_stop_sequence_the_response_is_not_read() -> None:
    options = profile(fields={"stop_sequences": "emulate"})
    start = ChatStart(translated(resolved(stop_sequences=["a"]), options))
    out: list[Any] = []

    async def keep(event: Any) -> None:
        out.append(event)

    async with Chain.of((TranslateOut(),), ChatEvent).open(keep) as receive:
        await receive(start)
        for _ in range(2):
            with pytest.raises(StopForwarding):
                await receive(TEXT)
    check_grammar(event.payload() for event in out)
    *_, end, _ = out
    assert (end.stop_reason, end.stop_sequence) == ("stop_sequence", "a")


async def test_a_response_cut_by_a_lowered_limit_filled_the_window() -> None:
    cut = ChatChunk({"choices": [{"delta": {}, "finish_reason": "length"}]})
    *_, end, _ = await run_stage(
        TranslateOut(), [START, TEXT, cut, ChatEnd(limit_lowered="window")]
    )
    assert end.stop_reason == "model_context_window_exceeded"


async def test_stream_events_pass_by() -> None:
    assert await run_stage(TranslateOut(), [e.Ping()]) == [e.Ping()]


async def test_a_silent_stream_is_pinged_on_each_event_loop() -> None:
    """With real time."""
    send, receive = anyio.create_memory_object_stream[Any](10)
    with send, receive, anyio.fail_after(30):
        async with Chain.of((TranslateOut(0.01),), ChatEvent).open(send.send) as log:
            await log(ChatWaiting(chat_request(stream=True)))
            assert [(await receive.receive()).type for _ in range(3)] == [
                "message_start",
                "ping",
                "ping",
            ]


async def test_an_error_of_a_ping_ends_the_request() -> None:
    pinged = anyio.Event()

    async def refuse(event: Any) -> None:
        pinged.set()
        raise OverloadedError("full")

    async def run() -> None:
        async with Chain.of((TranslateOut(0.01),), ChatEvent).open(refuse) as receive:
            await receive(ChatWaiting(chat_request(stream=True)))
            await pinged.wait()

    with anyio.fail_after(30), pytest.raises(OverloadedError):
        await run()


async def test_a_ping_in_flight_is_cancelled_with_the_client() -> None:
    begun = anyio.Event()

    async def hang(event: Any) -> None:
        begun.set()
        await anyio.sleep_forever()

    with anyio.fail_after(30):
        async with task_group() as group:
            group.start_soon(_wait_for_a_response, hang)
            await begun.wait()
            group.cancel_scope.cancel()


async def _wait_for_a_response(sink: Any) -> None:
    async with Chain.of((TranslateOut(0.01),), ChatEvent).open(sink) as receive:
        await receive(ChatWaiting(chat_request(stream=True)))
        await anyio.sleep_forever()


def test_the_interval_has_to_be_positive() -> None:
    with pytest.raises((OptionError, ValueError), match="ping_interval"):
        TranslateOut(0)


@pytest.mark.parametrize(
    ("reason", "output"),
    [("odd", ["odd"]), ("odd\nx", ["…"]), ("the prompt", ["…"]), ("x" * 41, ["…"]), ("stop", [])],
)
async def test_an_unknown_finish_reason_is_logged_once_if_it_is_a_word(
    reason: str, output: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    end = ChatChunk({"choices": [{"delta": {}, "finish_reason": reason}]})
    await run_stage(TranslateOut(), [START, TEXT, end, end, ChatEnd()])
    warned = [item.getMessage() for item in caplog.records if item.levelname == "WARNING"]
    assert [item.partition("unknown finish_reason ")[2] for item in warned] == output


@pytest.mark.parametrize("where", ["delta", "message"])
async def test_content_without_a_place_is_logged_and_counted(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    request = chat_request()
    seen = {"content": "a", "images": [{"image_url": {"url": "data:"}}], "audio": None}
    result = ChatChunk({"choices": [{where: seen}]})
    await run_stage(TranslateOut(), [ChatStart(request), result, FINISH, ChatEnd()])
    warned = [item.getMessage() for item in caplog.records if item.levelname == "WARNING"]
    assert warned == ["backend `fake` answered with images, which clients cannot get"]
    assert [str(item) for item in request.exchange.degradations] == ["answer.images:dropped"]


async def test_the_header_of_a_whole_response_has_what_was_dropped_from_it() -> None:
    seen = ChatChunk({"choices": [{"message": {"content": "a", "images": [{}]}}]})
    out: list[Any] = []

    async def keep(event: Any) -> None:
        out.append(event)

    async with Chain.of((TranslateOut(), StreamEncode()), ChatEvent).open(keep) as receive:
        for event in (ChatStart(chat_request()), seen, FINISH, ChatEnd()):
            await receive(event)
    assert out[0].headers["x-llm-proxy-degraded"] == "answer.images:dropped"


async def _ignore(event: Any) -> None:
    pass


@for_each(
    ("reported", "usage"),
    [
        (
            {"prompt_tokens": 20, "completion_tokens": 3, "prompt_tokens_details": CACHED},
            Usage(10, 3, 8, 2),
        ),
        ({}, None),
    ],
    ids=["reported", "not reported"],
)
@for_each("stops", [[], ["a"]], ids=["to its end", "up to a stop sequence"])
async def test_the_exchange_has_the_usage_of_the_response(
    reported: dict[str, int], usage: Usage | None, stops: list[str]
) -> None:
    request = translated(
        resolved(stop_sequences=stops), profile(fields={"stop_sequences": "emulate"})
    )
    text = ChatChunk({"choices": [{"delta": {"content": "a"}}], "usage": reported})

    async with Chain.of((TranslateOut(),), ChatEvent).open(_ignore) as receive:
        for event in (ChatStart(request), text, FINISH, ChatEnd()):
            await receive(event)

    assert request.exchange.usage == (usage or Usage(request.estimate, 1, estimated=True))
    assert request.exchange.stop_reason == ("stop_sequence" if stops else "end_turn")


@for_each("stream", [True, False])
async def test_text_that_came_with_an_error_counts_as_usage(stream: bool) -> None:
    request = chat_request(stream=stream)
    text = ChatChunk({"choices": [{"delta": {"content": "12345678"}}]}, more_buffered=True)
    out, _ = await failing([ChatStart(request), text, ChatChunk({"error": "no"})], InternalError)

    assert out == []
    assert request.exchange.usage == Usage(request.estimate, 3, estimated=True)


async def test_a_response_that_breaks_off_keeps_the_usage_so_far() -> None:
    request = chat_request()
    with pytest.raises(InternalError):
        await run_stage(TranslateOut(), [ChatStart(request), TEXT, ChatEnd(done=False)])

    assert request.exchange.usage == Usage(request.estimate, 1, estimated=True)
    assert request.exchange.stop_reason == ""
