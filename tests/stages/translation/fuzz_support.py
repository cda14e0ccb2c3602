"""Random chunks and responses, and how they are translated."""

from __future__ import annotations

import itertools
import json
from collections.abc import Coroutine, Iterable
from typing import Any

from attrs import evolve, frozen
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pipeline.testing import run_stage
from stages.events import ChatRequest, ResponseBody
from stages.messages_api import stream_events as e
from stages.messages_api.errors import ApiError
from stages.stream_encode import StreamEncode
from stages.translation.response import ResponseTranslator
from stages.wire import json_codec as wire_json
from stages.wire.json_codec import encode
from stages.wire.sse import SseDecoder, encode_event
from tests.support import chat_request

# A busy machine is no failure.
quick = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)


def requests(stream: bool) -> dict[bool, ChatRequest]:
    """A request without thinking, and one with, to a backend that reports its stop sequence."""
    asked = {False: None, True: {"type": "adaptive"}}
    result = {
        key: chat_request(stream=stream, thinking=asked[key], stop_sequences=["END"])
        for key in asked
    }
    return {key: evolve(request, scanned_stop_sequences=()) for key, request in result.items()}


REQUESTS, UNSTREAMED = requests(stream=True), requests(stream=False)
#: The same, with stop sequences that are looked for here; they occur in TEXTS.
STOPPING = {
    thinking: evolve(request, scanned_stop_sequences=("lo", "aH", "a\n", "t"))
    for thinking, request in REQUESTS.items()
}
TEXTS = st.sampled_from(
    ["", " ", "\n\n", "a", "Hello", "\u2028\u0085", "<tool_call>", "é", "<think>", "</think>"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def either(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """`right` most of the time, or anything."""
    return st.one_of(right, right, right, ANYTHING)


def members(**of: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of these members, each nearly right."""
    return st.fixed_dictionaries({}, optional={name: either(value) for name, value in of.items()})


ARGUMENTS = st.sampled_from(["", "{}", "{", "}", '{"a":', '"b"', "1", '{"a": 1}', "]", " "])
CALLS = members(
    index=st.integers(0, 2),
    id=st.sampled_from(["", "a", "b", "functions.f:0", "x" * 70]),
    type=st.just("function"),
    function=members(
        name=st.sampled_from(["", "f", "g", "get_", "weather"]),
        arguments=ARGUMENTS | st.dictionaries(TEXTS, SCALARS, max_size=2),
    ),
)
PARTS = members(type=TEXTS, text=TEXTS, summary=st.lists(either(members(text=TEXTS)), max_size=2))
DELTAS = members(
    role=TEXTS,
    content=st.none() | TEXTS | st.lists(either(PARTS), max_size=2),
    reasoning=TEXTS,
    reasoning_content=TEXTS,
    reasoning_details=st.lists(either(members(text=TEXTS, summary=TEXTS)), max_size=2),
    refusal=TEXTS,
    tool_calls=st.lists(either(CALLS), max_size=3),
    function_call=members(name=TEXTS, arguments=ARGUMENTS),
)
REASONS = st.sampled_from([None, "", "stop", "tool_calls", "length", "content_filter", "error"])
CHOICES = members(
    index=st.integers(0, 1),
    delta=DELTAS,
    message=DELTAS,
    finish_reason=REASONS,
    stop_reason=TEXTS,
)
COUNTS = st.none() | st.integers(-5, 50)
CHUNKS = members(
    choices=st.lists(either(CHOICES), max_size=2),
    usage=members(
        prompt_tokens=COUNTS,
        completion_tokens=COUNTS,
        prompt_tokens_details=members(cached_tokens=COUNTS),
        completion_tokens_details=members(reasoning_tokens=COUNTS),
    ),
)
#: What nine in ten are, which has a way of its own.
USUAL = TEXTS.map(lambda more: {"choices": [{"delta": {"content": more}}]})
# An error ends a response at once, so it is rare here.
FAILING = st.one_of(*[CHUNKS] * 4, *[USUAL] * 3, members(error=ANYTHING))


def run(
    chunks: list[Any],
    done: bool,
    request: ChatRequest,
    followed: Iterable[bool] = itertools.repeat(False),
) -> tuple[list[e.StreamEvent], bool]:
    """The events `chunks` lead to, and whether the response is whole."""
    translator = ResponseTranslator(request)
    events: list[e.StreamEvent] = []
    try:
        for chunk, more in zip(chunks, followed, strict=False):
            events += translator.translate(chunk, more)
        events += translator.end(done)
    except ApiError:
        return events + translator.flush(), False
    return events, True


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


def at_once(stage: Coroutine[Any, Any, list[Any]]) -> list[Any]:
    """The events that a stage forwards, without an event loop; the stage must not wait."""
    try:
        stage.send(None)
    except StopIteration as stop:
        out: list[Any] = stop.value
        return out
    raise AssertionError("it waits")


def proxied(parts: list[bytes], request: ChatRequest) -> tuple[bytes, bool]:
    """A backend's stream, in parts, as the stream the client gets; and whether it is whole."""
    decoder, translator = SseDecoder(), ResponseTranslator(request)
    events: list[e.StreamEvent] = []
    failure = b""

    def take(datas: list[bytes]) -> bool:
        for data in datas:
            if data != b"[DONE]":
                events.extend(translator.translate(wire_json.decode(data)))
        return b"[DONE]" in datas

    try:
        ends = [take(decoder.feed(part)) for part in parts]
        done = any(ends) | take(decoder.finish())
        events += translator.end(done)
    except ApiError as error:
        failure = encode_event("error", encode(error.body("req_1")))
    sent = at_once(run_stage(StreamEncode(), events))
    body = b"".join(part.data for part in sent if isinstance(part, ResponseBody))
    return body + failure, not failure


def sse(chunks: list[Any], ending: str, lines: str) -> bytes:
    written = "".join(f"data: {json.dumps(chunk)}{lines}{lines}: ping{lines}" for chunk in chunks)
    return f"{written}{lines}{ending}".encode()


def without_chance(payloads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The payloads of a stream, without the ids that are made by chance."""
    for payload in payloads:
        payload.get("message", {}).pop("id", None)
        payload.get("content_block", {}).pop("id", None)
    return payloads


# Answers that are in order


@frozen
class Reply:
    """A valid response: text, calls by name and input, then more text."""

    text: str
    calls: tuple[tuple[str, dict[str, Any]], ...]
    more: str

    @property
    def content(self) -> list[tuple[Any, ...]]:
        """The content it has to become."""
        texts = [self.text, self.more] if self.calls else [self.text + self.more, ""]
        before, after = ([("text", text)] if text.strip() else [] for text in texts)
        return [*before, *(("tool_use", *call) for call in self.calls), *after]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
INPUTS = st.dictionaries(st.text(max_size=8), VALUES, max_size=4)
NAMES = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True)
# White space, and what could begin a tag.
HELD_BACK = st.sampled_from([" ", "\n\n", "<", " <th", "a</think>", "< ", "<thinking>"])
WORDS = st.one_of(*[st.text(max_size=40)] * 3, HELD_BACK)


def untagged(response: Reply) -> bool:
    """Hypothesis also tries strings it finds in the code, and reasoning is not of this test."""
    texts = response.text, response.more, response.text + response.more
    return not any(text.lstrip().startswith("<think>") for text in texts)


CALLED = st.lists(st.tuples(NAMES, INPUTS), max_size=3).map(tuple)
RESPONSES = st.builds(Reply, WORDS, CALLED, WORDS).filter(untagged)


def fragments(draw: st.DrawFn, whole: str) -> list[str]:
    """`whole` in pieces."""
    places = draw(st.lists(st.integers(0, len(whole)), max_size=6))
    ends = sorted(places)
    return [whole[a:b] for a, b in zip([0, *ends], [*ends, len(whole)], strict=True)]


@st.composite
def streams(draw: st.DrawFn) -> tuple[Reply, list[dict[str, Any]]]:
    """A response and its deltas: the text, the calls in pieces and in turns, the rest."""
    response = draw(RESPONSES)
    ascii_only = draw(st.booleans())
    deltas: list[dict[str, Any]] = [{"content": item} for item in fragments(draw, response.text)]
    waiting = []
    for index, (name, value) in enumerate(response.calls):
        first = {"index": index, "id": f"call_{index}", "type": "function"}
        pieces = fragments(draw, json.dumps(value, ensure_ascii=ascii_only))
        with_name = draw(st.booleans())
        begun = {"name": name, "arguments": pieces.pop(0) if with_name else ""}
        remaining = [{"index": index, "function": {"arguments": item}} for item in pieces]
        waiting.append([{**first, "function": begun}, *remaining])
    interleaved = draw(st.booleans())
    for calls in waiting:  # begun in their order
        deltas.append({"tool_calls": [calls.pop(0)]})
        if not interleaved:
            deltas += [{"tool_calls": [item]} for item in calls]
            calls.clear()
    while any(waiting):
        calls = draw(st.sampled_from([item for item in waiting if item]))
        deltas.append({"tool_calls": [calls.pop(0)]})
    deltas += [{"content": item} for item in fragments(draw, response.more)]
    return response, deltas


def chunks_of(response: Reply, deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    reason = "tool_calls" if response.calls else "stop"
    chunks: list[dict[str, Any]] = [{"choices": [{"delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"delta": {}, "finish_reason": reason}]})
    chunks.append({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 500}})
    return chunks
