"""The stage `repair-tools`. The repair of a response is tested in tool_repair/."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.chain import Chain
from pipeline.testing import check_stage, run_stage
from stages.events import ChatChunk, ChatEnd, ChatEvent, ChatStart, ChatWaiting
from stages.messages_api.accumulate import MessageBuilder
from stages.messages_api.errors import InternalError
from stages.repair_tools import RepairTools
from stages.translate_out import TranslateOut
from tests.grammar import check_grammar
from tests.stages.translation.support import call, calls, finish, pieces, text
from tests.support import ON_BOTH, chat_request

TOOL: Any = {
    "name": "f",
    "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}},
}
REQUEST = chat_request(tools=[TOOL], stream=True)
START = ChatStart(REQUEST)
WRITTEN = '<tool_call>{"name": "f", "arguments": {"a": "1"}}</tool_call>'
RESPONSE = [
    *map(ChatChunk, map(text, pieces(f"Well. {WRITTEN}", 4))),
    ChatChunk(calls(call("f", "{'a': 2}", index=0, id="x"), call("f", "oh", index=1, id="y"))),
    ChatChunk(finish()),
]


@pytest.fixture
def anyio_backend() -> str:
    """The stage awaits nothing; its contract is tested on trio too."""
    return "asyncio"


async def message(*events: ChatEvent) -> dict[str, Any]:
    """The message that the client gets through `translate-out`."""
    builder, sent = MessageBuilder(), []

    async def keep(event: Any) -> None:
        sent.append(event.payload())
        builder.add(event)

    stages = (RepairTools(), TranslateOut())
    async with Chain.of(stages, ChatEvent).open(keep) as receive:
        for event in events:
            await receive(event)
    check_grammar(iter(sent))
    return builder.message


def inputs(message: dict[str, Any]) -> list[Any]:
    return [block.get("input", block.get("text")) for block in message["content"]]


@ON_BOTH
async def test_it_keeps_to_the_contract() -> None:
    await check_stage(RepairTools(), [ChatWaiting(REQUEST), START, *RESPONSE, ChatEnd()])


async def test_calls_are_repaired_and_recorded() -> None:
    request = chat_request(tools=[TOOL], stream=True)

    result = await message(ChatStart(request), *RESPONSE, ChatEnd())

    assert inputs(result) == ["Well. ", {"a": 1}, {"a": 2}, {"_raw": "oh"}]
    assert result["stop_reason"] == "tool_use"
    assert request.exchange.repaired_calls == ["found", "coerced", "repaired", "broken"]


async def test_repairs_of_an_attempt_that_fails_do_not_count() -> None:
    request = chat_request(tools=[TOOL])

    async def ignore(event: Any) -> None:
        pass

    async with Chain.of((RepairTools(), TranslateOut()), ChatEvent).open(ignore) as receive:
        for event in (ChatStart(request), *RESPONSE[:-1]):
            await receive(event)
        with pytest.raises(InternalError):
            await receive(ChatEnd(done=False))
        for event in (ChatStart(request), ChatChunk(text(WRITTEN)), ChatChunk(finish())):
            await receive(event)
        await receive(ChatEnd())
    assert request.exchange.repaired_calls == ["found", "coerced"]


async def test_text_flows_and_chunks_that_came_together_stay_together() -> None:
    response = [ChatChunk(text("a"), more_buffered=True), ChatChunk(text("b <tool_call>"))]
    out = await run_stage(RepairTools(), [START, *response])
    assert out[1:] == [ChatChunk(text("a"), more_buffered=True), ChatChunk(text("b "))]
    buffered = await run_stage(RepairTools(), [START, ChatChunk(text("<tool_call>"))])
    assert buffered[1].data["choices"][0]["delta"] == {}
    assert not buffered[1].more_buffered


async def test_each_attempt_at_a_response_begins_again() -> None:
    half = ChatChunk(text(WRITTEN[:30]))
    result = await message(START, half, START, *RESPONSE[:-2], ChatChunk(finish()), ChatEnd())
    assert inputs(result) == ["Well. ", {"a": 1}]


async def test_without_tools_all_passes_as_it_is() -> None:
    start = ChatStart(chat_request(stream=True))
    events = [start, *RESPONSE, ChatEnd()]
    assert await run_stage(RepairTools(), events) == events


async def test_a_response_without_an_end_gets_its_buffered_text() -> None:
    result = await message(START, ChatChunk(text("a <tool_call")), ChatEnd(done=True))
    assert inputs(result) == ["a <tool_call"]
