"""The official SDK against the embedded model: a real client and a real backend."""

from __future__ import annotations

import base64
from typing import Any

import anthropic
import httpx2
import pytest

from tests.real.support import HELLO, Real, embedded_url

MODEL = "claude-any"  # no name of a real model: the SDK warns of those that get old
#: The same answer each time; the SDK has no argument for it any more.
STEADY = {"temperature": 0}
WEATHER: Any = {
    "name": "get_weather",
    "description": "Get the weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["city", "unit"],
    },
}
CLOCK: Any = {
    "name": "get_time",
    "description": "Get the time in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "hours": {"type": "integer"}},
        "required": ["city", "hours"],
    },
}
ASKED: Any = [{"role": "user", "content": "What is the weather in Paris, in celsius?"}]


def check_input(block: Any) -> None:
    """The input of a tool call fits the tool's schema."""
    if block.name == "get_weather":
        assert block.input.keys() == {"city", "unit"}
        assert block.input["unit"] in ("celsius", "fahrenheit")
    else:
        assert block.name == "get_time"
        assert block.input.keys() == {"city", "hours"}
        assert type(block.input["hours"]) is int
    assert type(block.input["city"]) is str


def read(usage: anthropic.types.Usage) -> int:
    """How many tokens the model read, including those from its cache."""
    return usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_a_message(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model=MODEL, max_tokens=8, messages=HELLO)
    (block,) = message.content
    assert isinstance(block, anthropic.types.TextBlock)
    assert block.text.strip()
    assert message.model == MODEL
    assert message.role == "assistant"
    assert read(message.usage) > 10
    assert 0 < message.usage.output_tokens <= 8
    assert message._request_id
    assert message._request_id.startswith("req_")


def test_a_cache_is_warmed_without_a_response(client: anthropic.Anthropic) -> None:
    history: Any = [{"role": "user", "content": "Warm me up, please, before the next request."}]
    warmed = client.messages.create(model=MODEL, max_tokens=0, messages=history)
    assert (warmed.content, warmed.stop_reason) == ([], "max_tokens")
    assert read(warmed.usage) > 10
    assert warmed.usage.output_tokens == 0
    answer = client.messages.create(model=MODEL, max_tokens=1, messages=history)
    assert (answer.usage.cache_read_input_tokens or 0) > 10


async def test_an_asynchronous_message(real: Real) -> None:
    async with anthropic.AsyncAnthropic(base_url=real.url, api_key="any", max_retries=0) as client:
        message = await client.messages.create(model="smollm2", max_tokens=5, messages=HELLO)
        assert message.usage.output_tokens == 5
        async with client.messages.stream(model="smollm2", max_tokens=5, messages=HELLO) as stream:
            texts = [text async for text in stream.text_stream]
            final = await stream.get_final_message()
    assert final.content[0].type == "text"
    assert "".join(texts) == final.content[0].text


def test_a_stream_adds_up(client: anthropic.Anthropic) -> None:
    with client.messages.stream(model=MODEL, max_tokens=16, messages=HELLO) as stream:
        events = list(stream)
        final = stream.get_final_message()
    deltas = [event.text for event in events if event.type == "text"]
    assert len(deltas) > 2  # an emoji is up to four tokens
    (block,) = final.content
    assert isinstance(block, anthropic.types.TextBlock)
    assert "".join(deltas) == block.text
    assert read(final.usage) > 10
    assert 3 < final.usage.output_tokens <= 16
    assert final.stop_reason in ("end_turn", "max_tokens")


def test_raw_events_come_in_order(client: anthropic.Anthropic) -> None:
    stream = client.messages.create(model=MODEL, max_tokens=5, messages=HELLO, stream=True)
    types = [event.type for event in stream]
    assert types[:2] == ["message_start", "content_block_start"]
    assert types[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(types[2:-3]) == {"content_block_delta"}


def test_the_limit_ends_a_response(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model=MODEL, max_tokens=3, messages=HELLO)
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 3


@pytest.mark.parametrize("system", ["Be brief.", [{"type": "text", "text": "Be brief."}]])
def test_a_system_prompt_is_read(system: Any, client: anthropic.Anthropic) -> None:
    given = {"model": MODEL, "messages": HELLO}
    default = client.messages.count_tokens(**given).input_tokens
    counted = client.messages.count_tokens(**given, system=system).input_tokens
    message = client.messages.create(**given, max_tokens=1, system=system)
    assert counted != default
    assert read(message.usage) == counted


def test_a_stop_sequence_ends_a_response_and_is_not_in_it(client: anthropic.Anthropic) -> None:
    count: Any = [
        {"role": "user", "content": "Count from 1 to 9."},
        {"role": "assistant", "content": "1, 2, 3, 4"},
    ]
    message = client.messages.create(
        model=MODEL, max_tokens=40, messages=count, stop_sequences=[" 7", "7"], extra_body=STEADY
    )
    assert message.content[0].type == "text"
    assert "6" in message.content[0].text
    assert "7" not in message.content[0].text
    assert message.stop_reason in ("stop_sequence", "end_turn")


FORCED: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 100,
    "messages": ASKED,
    "tools": [WEATHER, CLOCK],
    "extra_body": STEADY,
}


def test_a_tool_forced_by_name_is_called_with_fitting_input(client: anthropic.Anthropic) -> None:
    """The model's own choice is the other tool; test_a_tools_result forces that."""
    message = client.messages.create(**FORCED, tool_choice={"type": "tool", "name": "get_time"})

    assert message.stop_reason == "tool_use"
    calls = [block for block in message.content if block.type == "tool_use"]
    assert {call.name for call in calls} == {"get_time"}
    for call in calls:
        check_input(call)


def test_a_forced_tool_is_streamed_with_fitting_input(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**FORCED, tool_choice={"type": "any"}) as stream:
        deltas = [event for event in stream if event.type == "input_json"]
        message = stream.get_final_message()

    assert len(deltas) > 1
    assert message.stop_reason == "tool_use"
    calls = [block for block in message.content if block.type == "tool_use"]
    assert calls
    assert {call.name for call in calls} <= {"get_weather", "get_time"}
    for call in calls:
        check_input(call)


def test_a_tools_result_gets_a_response(client: anthropic.Anthropic) -> None:
    called = client.messages.create(
        model=MODEL,
        max_tokens=100,
        messages=ASKED,
        tools=[WEATHER],
        tool_choice={"type": "tool", "name": "get_weather"},
        extra_body=STEADY,
    )
    calls = [block for block in called.content if block.type == "tool_use"]
    assert {call.name for call in calls} == {"get_weather"}
    for call in calls:
        check_input(call)
    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": "18 degrees, sunny"}
        for call in calls
    ]
    messages: Any = [
        *ASKED,
        {"role": "assistant", "content": [block.to_dict() for block in called.content]},
        {"role": "user", "content": [*results, {"type": "text", "text": "Answer in a sentence."}]},
    ]
    message = client.messages.create(
        model=MODEL, max_tokens=8, messages=messages, tools=[WEATHER], tool_choice={"type": "none"}
    )
    assert message.content
    assert message.stop_reason in ("end_turn", "max_tokens")


PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_image_is_refused_by_a_model_without_vision(
    stream: bool, client: anthropic.Anthropic
) -> None:
    source: Any = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    content: Any = [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]
    with pytest.raises(anthropic.BadRequestError, match="this model takes no images"):
        client.messages.create(
            model=MODEL,
            max_tokens=5,
            messages=[{"role": "user", "content": content}],
            stream=stream,
        )


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_prompt_that_is_too_long_has_the_message_clients_parse(
    stream: bool, client: anthropic.Anthropic
) -> None:
    much: Any = [{"role": "user", "content": "hi " * 9000}]
    with pytest.raises(
        anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > 8192 maximum"
    ) as caught:
        client.messages.create(model=MODEL, max_tokens=5, messages=much, stream=stream)
    assert caught.value.type == "invalid_request_error"
    counted = client.messages.count_tokens(model=MODEL, messages=much).input_tokens
    assert f"{counted} tokens" in caught.value.message


def test_a_model_that_is_not_configured_is_refused(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="there are: smollm2, claude-"):
        client.messages.create(model="gpt-4o", max_tokens=5, messages=HELLO)


def test_the_models_are_listed(client: anthropic.Anthropic) -> None:
    assert [model.id for model in client.models.list()] == ["smollm2"]
    assert client.models.retrieve("smollm2").max_input_tokens == 8192
    assert client.models.retrieve(MODEL).id == MODEL  # which a pattern serves
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("nothing-serves-this")


#: test_second_opinion.py counts more kinds.
CONVERSATIONS: dict[str, Any] = {
    "unicode": {"messages": [{"role": "user", "content": "Größe 漢字 🙂\u2028 <|im_end|>"}]},
    "history": {
        "messages": [
            *HELLO,
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": [{"type": "text", "text": "And now?"}]},
        ]
    },
    "tools-and-system": {"messages": ASKED, "tools": [WEATHER], "system": "Be brief."},
}


@pytest.mark.parametrize("conversation", CONVERSATIONS.values(), ids=CONVERSATIONS)
async def test_counted_tokens_are_what_the_model_reads(
    conversation: Any, real: Real, client: anthropic.Anthropic
) -> None:
    counted = client.messages.count_tokens(model=MODEL, **conversation).input_tokens
    usage = client.messages.create(model=MODEL, max_tokens=1, **conversation).usage
    assert read(usage) == counted
    async with httpx2.AsyncClient(base_url=await embedded_url(real)) as model:
        own = await model.post("/v1/messages/count_tokens", json={"model": "x", **conversation})
    assert own.json() == {"input_tokens": counted}


def test_the_header_says_that_the_count_is_exact(client: anthropic.Anthropic) -> None:
    raw = client.messages.with_raw_response.count_tokens(model=MODEL, messages=HELLO)
    assert raw.headers["x-llm-proxy-token-count"] == "exact"
