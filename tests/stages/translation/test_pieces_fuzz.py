"""A response in any pieces becomes the same message."""

from __future__ import annotations

import itertools
import json
from typing import Any

import anthropic
import httpx2
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.testing import run_stage
from stages.messages_api import stream_events as e
from stages.messages_api.accumulate import MessageBuilder
from stages.stream_encode import StreamEncode
from tests.grammar import check_grammar, parse_sse
from tests.sdk_types import check_sent
from tests.stages.translation.fuzz_support import (
    FAILING,
    INPUTS,
    NAMES,
    REQUESTS,
    RESPONSES,
    STOPPING,
    UNSTREAMED,
    WORDS,
    Reply,
    at_once,
    chunks_of,
    cut,
    fragments,
    proxied,
    quick,
    run,
    sse,
    streams,
    without_chance,
)

#: Made by chance.
UNEQUAL = {"id"}


def brief(content: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        (block["type"], block["name"], block["input"])
        if block["type"] == "tool_use"
        else (block["type"], block["text"])
        for block in content
    ]


@given(streams())
@quick
def test_a_response_in_parts_becomes_the_same_message(
    stream: tuple[Reply, list[dict[str, Any]]],
) -> None:
    response, deltas = stream
    events, whole = run(chunks_of(response, deltas), True, REQUESTS[False])
    assert whole
    check_grammar(event.payload() for event in events)
    builder = MessageBuilder()
    for event in events:
        builder.add(event)
    assert brief(builder.message["content"]) == response.content
    assert builder.message["stop_reason"] == ("tool_use" if response.calls else "end_turn")


@given(
    st.lists(FAILING, max_size=8) | streams().map(lambda stream: chunks_of(*stream)),
    st.lists(st.booleans(), min_size=1, max_size=8),
    st.booleans(),
)
@quick
def test_chunks_that_arrive_together_give_the_same_message(
    chunks: list[Any], followed: list[bool], stops: bool
) -> None:
    request = (STOPPING if stops else REQUESTS)[True]
    apart, whole = run(chunks, True, request)
    together, whole_together = run(chunks, True, request, itertools.cycle(followed))
    check_grammar((event.payload() for event in together), whole=whole)
    assert whole_together == whole
    assert merged_payloads(together) == merged_payloads(apart)


def merged_payloads(events: list[e.StreamEvent]) -> list[dict[str, Any]]:
    """The payloads, without ids made by chance, and neighbouring deltas of a kind as one."""
    out: list[dict[str, Any]] = []
    for payload in without_chance(
        [json.loads(event.encoded().partition(b"data: ")[2]) for event in events]
    ):
        delta = payload.get("delta", {})
        last = out[-1].get("delta", {}) if out else {}
        if payload["type"] == "content_block_delta" and last.get("type") == delta["type"]:
            for name in delta.keys() - {"type"}:
                last[name] += delta[name]
        else:
            out.append(payload)
    return out


@given(RESPONSES)
@quick
def test_a_whole_completion_becomes_the_same_message(response: Reply) -> None:
    message = {
        "content": response.text,
        "tool_calls": [
            {"id": f"call_{n}", "function": {"name": name, "arguments": json.dumps(value)}}
            for n, (name, value) in enumerate(response.calls)
        ],
    }
    chunk = {"choices": [{"message": message, "finish_reason": "stop"}]}
    events, whole = run([chunk], True, REQUESTS[False])
    assert whole
    builder = MessageBuilder()
    for event in events:
        builder.add(event)
    assert brief(builder.message["content"]) == Reply(response.text, response.calls, "").content


class Client:
    """The official SDK, which gets `body` as its response."""

    def __init__(self) -> None:
        self.body = b""
        transport = httpx2.MockTransport(self._answer)
        self.sdk = anthropic.Anthropic(
            api_key="k", max_retries=0, http_client=httpx2.Client(transport=transport)
        )

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        streamed = json.loads(request.content).get("stream")
        headers = {"content-type": "text/event-stream" if streamed else "application/json"}
        return httpx2.Response(200, headers=headers, content=self.body)

    def accumulated(self, body: bytes) -> anthropic.types.Message:
        """The SDK's message for a stream."""
        self.body = body
        with self.sdk.messages.stream(
            model="claude-test", max_tokens=100, messages=[{"role": "user", "content": "Hello"}]
        ) as stream:
            return stream.get_final_message()

    def got(self, body: bytes) -> anthropic.types.Message:
        """The SDK's message for a whole message."""
        self.body = body
        return self.sdk.messages.create(
            model="claude-test", max_tokens=100, messages=[{"role": "user", "content": "Hello"}]
        )


CLIENT = Client()


# Streamed or whole: the same


@frozen
class Thoughtful:
    """A valid response of a backend, before it becomes a stream or a completion."""

    thinking: str
    text: str
    calls: tuple[tuple[str, str], ...]
    finish: str
    members: dict[str, Any]
    usage: dict[str, Any] | None

    def whole(self) -> dict[str, Any]:
        """The response without a stream."""
        message = {
            "role": "assistant",
            "reasoning_content": self.thinking,
            "content": self.text,
            "tool_calls": [fragment(n, *call) for n, call in enumerate(self.calls)],
        }
        choice = {"index": 0, "message": message, "finish_reason": self.finish, **self.members}
        return {"choices": [choice], "usage": self.usage}

    def deltas(self, draw: st.DrawFn) -> list[dict[str, Any]]:
        """The same in pieces; the tool calls interleaved."""
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"reasoning_content": item} for item in fragments(draw, self.thinking)]
        deltas += [{"content": item} for item in fragments(draw, self.text)]
        waiting = []
        for n, (name, arguments) in enumerate(self.calls):
            first, *more = fragments(draw, arguments)
            deltas.append({"tool_calls": [fragment(n, name, first)]})
            waiting.append([{"index": n, "function": {"arguments": item}} for item in more])
        while left := [item for item in waiting if item]:
            chosen = [draw(st.sampled_from(left)) for _ in range(draw(st.integers(1, 2)))]
            deltas.append({"tool_calls": [calls.pop(0) for calls in chosen if calls]})
        return deltas


def fragment(index: int, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": f"call_{index}", "type": "function", "function": function}


USAGES = st.none() | st.fixed_dictionaries(
    {
        "prompt_tokens": st.integers(50, 60),
        "completion_tokens": st.integers(1, 50),
        "prompt_tokens_details": st.fixed_dictionaries({"cached_tokens": st.integers(0, 50)}),
        "completion_tokens_details": st.fixed_dictionaries({"reasoning_tokens": st.integers(0, 9)}),
    }
)
# Values with strings, so that some break off within one.
WRITTEN = st.builds(
    json.dumps, INPUTS | st.dictionaries(st.text(), st.text(min_size=3)), ensure_ascii=st.booleans()
)


@st.composite
def written_twice(draw: st.DrawFn) -> tuple[Thoughtful, bytes, list[int]]:
    """A response, the same as a stream, and where the stream is split."""
    calls = draw(st.lists(st.tuples(NAMES, WRITTEN), max_size=3))
    finish = draw(st.sampled_from(["stop", "tool_calls", "length", "length", "content_filter"]))
    if calls and finish == "length":  # it breaks off within the last call
        name, arguments = calls[-1]
        calls[-1] = (name, arguments[: draw(st.integers(1, len(arguments)))])
    members = draw(st.sampled_from([{}, {"stop_reason": "END"}]))
    response = Thoughtful(draw(WORDS), draw(WORDS), tuple(calls), finish, members, draw(USAGES))
    chunks: list[Any] = [{"choices": [{"delta": delta}]} for delta in response.deltas(draw)]
    chunks.append({"choices": [{"delta": {}, "finish_reason": finish, **members}]})
    chunks.append({"choices": [], "usage": response.usage})
    places = draw(st.lists(st.integers(0, 100_000), max_size=20))
    return response, sse(chunks, "data: [DONE]\n\n", "\n"), places


@given(written_twice(), st.booleans())
@settings(quick, max_examples=75)
def test_the_sdk_accumulates_the_whole_message(
    written: tuple[Thoughtful, bytes, list[int]], thinking: bool
) -> None:
    response, stream, places = written
    body, complete = proxied(cut(stream, places), REQUESTS[thinking])
    assert complete
    check_grammar(parse_sse(body))
    events, complete = run([response.whole()], True, UNSTREAMED[thinking])
    assert complete
    (_, *parts) = at_once(run_stage(StreamEncode(), events))
    whole = b"".join(part.data for part in parts)
    check_sent(json.loads(whole))
    accumulated, got = CLIENT.accumulated(body), CLIENT.got(whole)
    assert accumulated.model_dump(exclude=UNEQUAL) == got.model_dump(exclude=UNEQUAL)


@given(streams(), st.lists(st.integers(0, 100_000), max_size=20))
@settings(quick, max_examples=50)
def test_the_official_sdk_puts_a_response_in_parts_together(
    stream: tuple[Reply, list[dict[str, Any]]], places: list[int]
) -> None:
    response, deltas = stream
    backend = sse(chunks_of(response, deltas), "data: [DONE]\n\n", "\n")
    body, whole = proxied(cut(backend, places), REQUESTS[False])
    assert whole
    check_grammar(parse_sse(body))
    message = CLIENT.accumulated(body)
    assert brief([block.to_dict() for block in message.content]) == response.content
    assert message.stop_reason == ("tool_use" if response.calls else "end_turn")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (3, 500)
