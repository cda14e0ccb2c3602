"""The fast path for text gives the events of the slow path."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stages.messages_api.stream_events import StreamEvent
from stages.translation.content_blocks import BlockQueue
from stages.translation.content_parts import TextPart
from stages.translation.response import ResponseTranslator
from stages.translation.text_fast_path import TextFastPath
from tests.stages.translation.support import THINKING, call, calls, delta, finish, text
from tests.support import chat_request

TEXTS = st.sampled_from(["a", " ", "\n", "word", "<think>"])
OTHER_EVENTS = st.sampled_from(
    [
        delta(reasoning_content="hm"),
        delta(role="assistant", content=""),
        calls(call("read", '{"a": 1}', index=0, id="call_1")),
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
    ]
)
CHUNKS = st.lists(st.tuples(st.one_of(TEXTS.map(text), OTHER_EVENTS), st.booleans()), max_size=12)


def slow(chunk: dict[str, Any]) -> dict[str, Any]:
    """The same chunk with a member that nothing reads, so that it is no plain text delta."""
    choices = [{**choice, "delta": {**choice["delta"], "x": 1}} for choice in chunk["choices"]]
    return {**chunk, "choices": choices}


def events(chunks: list[tuple[dict[str, Any], bool]], **changes: Any) -> list[list[dict[str, Any]]]:
    translator = ResponseTranslator(chat_request(stream=True, **changes), message_started=True)
    response = [translator.translate(chunk, more_buffered) for chunk, more_buffered in chunks]
    response += [translator.translate(finish()), translator.end(done=True)]
    return [[event.payload() for event in part] for part in response]


@given(CHUNKS, st.sampled_from([None, THINKING]))
def test_the_fast_path_sends_what_the_slow_path_sends(
    chunks: list[tuple[dict[str, Any], bool]], thinking: Any
) -> None:
    chunks = [(text("Hello"), False), *chunks]
    slow_chunks = [(slow(chunk), more_buffered) for chunk, more_buffered in chunks]

    assert events(chunks, thinking=thinking) == events(slow_chunks, thinking=thinking)


def path() -> TextFastPath:
    blocks = BlockQueue(chat_request(stream=True))
    blocks.add(TextPart, "Hello")
    part = blocks.last_text
    assert part
    return TextFastPath(blocks, part)


def sent(events: list[StreamEvent] | None) -> list[Any] | None:
    return None if events is None else [event.payload() for event in events]


def test_a_delta_that_arrives_alone_is_sent_at_once() -> None:
    fast = path()
    [_, first] = sent(fast.events(text(","), more_buffered=False)) or []
    [second] = sent(fast.events(text(" world"), more_buffered=False)) or []

    assert first["delta"]["text"] == "Hello,"
    assert second["delta"]["text"] == " world"
    assert fast.blocks.characters == len("Hello, world")


def test_deltas_that_arrived_together_are_sent_with_the_last() -> None:
    fast = path()
    fast.events(text("!"), more_buffered=False)
    assert fast.events(text("a"), more_buffered=True) == []
    assert fast.events(text("b"), more_buffered=True) == []
    [event] = sent(fast.events(text("c"), more_buffered=False)) or []

    assert event["delta"]["text"] == "abc"


def test_a_chunk_that_is_not_just_text_takes_the_slow_path() -> None:
    fast = path()
    chunks: list[Any] = [finish(), delta(content="a", reasoning="b"), delta(content=""), None, []]
    for chunk in chunks:
        assert fast.events(chunk, more_buffered=False) is None
