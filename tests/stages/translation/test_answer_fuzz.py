"""Whatever a backend sends, the client gets a right stream or an error, and nothing is lost."""

from __future__ import annotations

import itertools
import json
from collections.abc import Coroutine, Iterable
from typing import Any

import anthropic
import httpx2
from attrs import evolve, frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.testing import run_stage
from stages.events import ChatRequest, ResponseBody
from stages.messages_api import stream_events as e
from stages.messages_api.accumulate import MessageBuilder
from stages.messages_api.errors import ApiError
from stages.stream_encode import StreamEncode
from stages.translation.response import ResponseTranslator
from stages.wire import json_codec as wire_json
from stages.wire.json_codec import encode
from stages.wire.sse import SseDecoder, encode_event
from tests.grammar import check_grammar, parse_sse
from tests.sdk_types import check_sent
from tests.support import chat_request

# A busy machine is no failure.
quick = settings(
    derandomize=True,
    deadline=None,
    max_examples=120,
    suppress_health_check=[HealthCheck.too_slow],
)


def requests(stream: bool) -> dict[bool, ChatRequest]:
    """A request without thinking, and one with, to a backend that tells its stop sequence."""
    asked = {False: None, True: {"type": "adaptive"}}
    made = {
        key: chat_request(stream=stream, thinking=asked[key], stop_sequences=["END"])
        for key in asked
    }
    return {key: evolve(request, scanned_stop_sequences=()) for key, request in made.items()}


REQUESTS, UNSTREAMED = requests(stream=True), requests(stream=False)
#: The same, with stop sequences that are looked for here; they occur in TEXTS.
STOPPING = {
    thinking: evolve(request, scanned_stop_sequences=("lo", "aH", "a\n", "t"))
    for thinking, request in REQUESTS.items()
}
#: Made by chance.
UNEQUAL = {"id"}

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
# An error ends an answer at once, so it is rare here.
FAILING = st.one_of(*[CHUNKS] * 4, *[USUAL] * 3, members(error=ANYTHING))


def run(
    chunks: list[Any],
    done: bool,
    request: ChatRequest,
    followed: Iterable[bool] = itertools.repeat(False),
) -> tuple[list[e.StreamEvent], bool]:
    """The events `chunks` lead to, and whether the answer is whole."""
    translator = ResponseTranslator(request)
    events: list[e.StreamEvent] = []
    try:
        for chunk, more in zip(chunks, followed, strict=False):
            events += translator.chunk(chunk, more)
        events += translator.end(done)
    except ApiError:
        return events + translator.flush(), False
    return events, True


@given(st.lists(FAILING | ANYTHING, max_size=8), st.booleans(), st.booleans())
@quick
def test_any_chunks_lead_to_a_right_stream_or_an_error(
    chunks: list[Any], done: bool, thinking: bool
) -> None:
    for requests in (REQUESTS, STOPPING):
        events, whole = run(chunks, done, requests[thinking])
        check_grammar((event.payload() for event in events), whole=whole)


@given(st.lists(CHUNKS, max_size=8), st.booleans())
@quick
def test_any_chunks_lead_to_a_message_of_the_right_shape(chunks: list[Any], thinking: bool) -> None:
    events, whole = run(chunks, True, REQUESTS[thinking])
    builder = MessageBuilder()
    for event in events:
        builder.add(event)
    if whole:
        message = wire_json.decode(wire_json.encode(builder.message))
        check_sent(message)
        calls = [block for block in message["content"] if block["type"] == "tool_use"]
        assert all(isinstance(call["input"], dict) for call in calls)
        assert len({call["id"] for call in calls}) == len(calls)
        assert all(block.get("text", "x").strip() for block in message["content"])
        if message["stop_reason"] == "tool_use":
            assert calls


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


def at_once(stage: Coroutine[Any, Any, list[Any]]) -> list[Any]:
    """What a stage forwards that never waits, without an event loop."""
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
                events.extend(translator.chunk(wire_json.decode(data)))
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


@given(
    st.lists(FAILING, max_size=6),
    st.lists(st.integers(0, 100_000), max_size=30),
    st.sampled_from(["", "data: [DONE]", "data: [DONE]\n\n"]),
    st.sampled_from(["\n", "\r\n"]),
)
@quick
def test_where_the_stream_of_a_backend_is_split_makes_no_difference(
    chunks: list[Any], places: list[int], ending: str, lines: str
) -> None:
    stream = sse(chunks, ending, lines)
    body, whole = proxied([stream], REQUESTS[True])
    again, whole_again = proxied(cut(stream, places), REQUESTS[True])
    check_grammar(parse_sse(body), whole=whole)
    assert without_chance(parse_sse(again)) == without_chance(parse_sse(body))
    assert whole_again == whole


# Answers that are in order


@frozen
class Said:
    """A right answer: text, calls by name and input, then more text."""

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
HELD = st.sampled_from([" ", "\n\n", "<", " <th", "a</think>", "< ", "<thinking>"])
WORDS = st.one_of(*[st.text(max_size=40)] * 3, HELD)


def untagged(said: Said) -> bool:
    """Hypothesis also tries strings it finds in the code, and reasoning is not of this test."""
    texts = said.text, said.more, said.text + said.more
    return not any(each.lstrip().startswith("<think>") for each in texts)


CALLED = st.lists(st.tuples(NAMES, INPUTS), max_size=3).map(tuple)
ANSWERS = st.builds(Said, WORDS, CALLED, WORDS).filter(untagged)


def fragments(draw: st.DrawFn, whole: str) -> list[str]:
    """`whole` in pieces."""
    places = draw(st.lists(st.integers(0, len(whole)), max_size=6))
    ends = sorted(places)
    return [whole[a:b] for a, b in zip([0, *ends], [*ends, len(whole)], strict=True)]


@st.composite
def streams(draw: st.DrawFn) -> tuple[Said, list[dict[str, Any]]]:
    """An answer and its deltas: the text, the calls in pieces and in turns, the rest."""
    said = draw(ANSWERS)
    ascii_only = draw(st.booleans())
    deltas: list[dict[str, Any]] = [{"content": each} for each in fragments(draw, said.text)]
    waiting = []
    for index, (name, value) in enumerate(said.calls):
        first = {"index": index, "id": f"call_{index}", "type": "function"}
        pieces = fragments(draw, json.dumps(value, ensure_ascii=ascii_only))
        with_name = draw(st.booleans())
        begun = {"name": name, "arguments": pieces.pop(0) if with_name else ""}
        rest = [{"index": index, "function": {"arguments": each}} for each in pieces]
        waiting.append([{**first, "function": begun}, *rest])
    interleaved = draw(st.booleans())
    for calls in waiting:  # begun in their order
        deltas.append({"tool_calls": [calls.pop(0)]})
        if not interleaved:
            deltas += [{"tool_calls": [each]} for each in calls]
            calls.clear()
    while any(waiting):
        calls = draw(st.sampled_from([each for each in waiting if each]))
        deltas.append({"tool_calls": [calls.pop(0)]})
    deltas += [{"content": each} for each in fragments(draw, said.more)]
    return said, deltas


def chunks_of(said: Said, deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    reason = "tool_calls" if said.calls else "stop"
    chunks: list[dict[str, Any]] = [{"choices": [{"delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"delta": {}, "finish_reason": reason}]})
    chunks.append({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 500}})
    return chunks


def brief(content: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        (block["type"], block["name"], block["input"])
        if block["type"] == "tool_use"
        else (block["type"], block["text"])
        for block in content
    ]


@given(streams())
@quick
def test_an_answer_in_pieces_becomes_the_same_message(
    stream: tuple[Said, list[dict[str, Any]]],
) -> None:
    said, deltas = stream
    events, whole = run(chunks_of(said, deltas), True, REQUESTS[False])
    assert whole
    check_grammar(event.payload() for event in events)
    builder = MessageBuilder()
    for event in events:
        builder.add(event)
    assert brief(builder.message["content"]) == said.content
    assert builder.message["stop_reason"] == ("tool_use" if said.calls else "end_turn")


@given(
    st.lists(FAILING, max_size=8) | streams().map(lambda stream: chunks_of(*stream)),
    st.lists(st.booleans(), min_size=1, max_size=8),
    st.booleans(),
)
@quick
def test_what_arrived_together_comes_to_the_same(
    chunks: list[Any], followed: list[bool], stops: bool
) -> None:
    request = (STOPPING if stops else REQUESTS)[True]
    apart, whole = run(chunks, True, request)
    together, whole_together = run(chunks, True, request, itertools.cycle(followed))
    check_grammar((event.payload() for event in together), whole=whole)
    assert whole_together == whole
    assert told(together) == told(apart)


def told(events: list[e.StreamEvent]) -> list[dict[str, Any]]:
    """The payloads, without ids made by chance, and neighbouring deltas of a kind as one."""
    out: list[dict[str, Any]] = []
    for payload in without_chance([json.loads(event.encoded()) for event in events]):
        delta = payload.get("delta", {})
        last = out[-1].get("delta", {}) if out else {}
        if payload["type"] == "content_block_delta" and last.get("type") == delta["type"]:
            for name in delta.keys() - {"type"}:
                last[name] += delta[name]
        else:
            out.append(payload)
    return out


@given(ANSWERS)
@quick
def test_a_whole_completion_becomes_the_same_message(said: Said) -> None:
    message = {
        "content": said.text,
        "tool_calls": [
            {"id": f"call_{n}", "function": {"name": name, "arguments": json.dumps(value)}}
            for n, (name, value) in enumerate(said.calls)
        ],
    }
    chunk = {"choices": [{"message": message, "finish_reason": "stop"}]}
    events, whole = run([chunk], True, REQUESTS[False])
    assert whole
    builder = MessageBuilder()
    for event in events:
        builder.add(event)
    assert brief(builder.message["content"]) == Said(said.text, said.calls, "").content


class Client:
    """The official SDK, which gets `body` as its answer."""

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
        """What the SDK makes of a stream."""
        self.body = body
        with self.sdk.messages.stream(
            model="claude-test", max_tokens=100, messages=[{"role": "user", "content": "Hello"}]
        ) as stream:
            return stream.get_final_message()

    def got(self, body: bytes) -> anthropic.types.Message:
        """What the SDK makes of a whole message."""
        self.body = body
        return self.sdk.messages.create(
            model="claude-test", max_tokens=100, messages=[{"role": "user", "content": "Hello"}]
        )


CLIENT = Client()


# Streamed or whole: the same


@frozen
class Thoughtful:
    """A right answer as a backend has it: all of it, before it is written in one of two ways."""

    thinking: str
    text: str
    calls: tuple[tuple[str, str], ...]
    finish: str
    members: dict[str, Any]
    usage: dict[str, Any] | None

    def whole(self) -> dict[str, Any]:
        """As a backend answers that is asked for no stream."""
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
        deltas += [{"reasoning_content": each} for each in fragments(draw, self.thinking)]
        deltas += [{"content": each} for each in fragments(draw, self.text)]
        waiting = []
        for n, (name, arguments) in enumerate(self.calls):
            first, *more = fragments(draw, arguments)
            deltas.append({"tool_calls": [fragment(n, name, first)]})
            waiting.append([{"index": n, "function": {"arguments": each}} for each in more])
        while left := [each for each in waiting if each]:
            chosen = [draw(st.sampled_from(left)) for _ in range(draw(st.integers(1, 2)))]
            deltas.append({"tool_calls": [calls.pop(0) for calls in chosen if calls]})
        return deltas


def fragment(index: int, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": f"call_{index}", "type": "function", "function": function}


TOLD = st.none() | st.fixed_dictionaries(
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
    """An answer, the same as a stream, and where the stream is split."""
    calls = draw(st.lists(st.tuples(NAMES, WRITTEN), max_size=3))
    finish = draw(st.sampled_from(["stop", "tool_calls", "length", "length", "content_filter"]))
    if calls and finish == "length":  # it breaks off within the last call
        name, arguments = calls[-1]
        calls[-1] = (name, arguments[: draw(st.integers(1, len(arguments)))])
    members = draw(st.sampled_from([{}, {"stop_reason": "END"}]))
    answer = Thoughtful(draw(WORDS), draw(WORDS), tuple(calls), finish, members, draw(TOLD))
    chunks: list[Any] = [{"choices": [{"delta": delta}]} for delta in answer.deltas(draw)]
    chunks.append({"choices": [{"delta": {}, "finish_reason": finish, **members}]})
    chunks.append({"choices": [], "usage": answer.usage})
    places = draw(st.lists(st.integers(0, 100_000), max_size=20))
    return answer, sse(chunks, "data: [DONE]\n\n", "\n"), places


@given(written_twice(), st.booleans())
@settings(quick, max_examples=150)
def test_what_the_official_sdk_accumulates_is_what_it_gets_whole(
    written: tuple[Thoughtful, bytes, list[int]], thinking: bool
) -> None:
    answer, stream, places = written
    body, complete = proxied(cut(stream, places), REQUESTS[thinking])
    assert complete
    check_grammar(parse_sse(body))
    events, complete = run([answer.whole()], True, UNSTREAMED[thinking])
    assert complete
    (_, *parts) = at_once(run_stage(StreamEncode(), events))
    whole = b"".join(part.data for part in parts)
    check_sent(json.loads(whole))
    accumulated, got = CLIENT.accumulated(body), CLIENT.got(whole)
    assert accumulated.model_dump(exclude=UNEQUAL) == got.model_dump(exclude=UNEQUAL)


@given(streams(), st.lists(st.integers(0, 100_000), max_size=20))
@settings(quick, max_examples=100)
def test_the_official_sdk_puts_an_answer_in_pieces_together(
    stream: tuple[Said, list[dict[str, Any]]], places: list[int]
) -> None:
    said, deltas = stream
    backend = sse(chunks_of(said, deltas), "data: [DONE]\n\n", "\n")
    body, whole = proxied(cut(backend, places), REQUESTS[False])
    assert whole
    check_grammar(parse_sse(body))
    message = CLIENT.accumulated(body)
    assert brief([block.to_dict() for block in message.content]) == said.content
    assert message.stop_reason == ("tool_use" if said.calls else "end_turn")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (3, 500)
