"""Every choice of a response is read, and a response ends only where something vouches for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.events import ChatRequest
from stages.messages_api import stream_events as e
from stages.messages_api.accumulate import MessageBuilder
from stages.messages_api.errors import ApiError, InternalError, OverloadedError
from stages.translation.response import ResponseTranslator
from tests.cases import for_each
from tests.grammar import check_grammar
from tests.stages.translation.support import (
    arguments,
    call,
    calls,
    completion,
    content,
    delta,
    finish,
    message,
    pieces,
    text,
    usage,
)
from tests.support import chat_request

quick = settings(derandomize=True, deadline=None, max_examples=50)
PARIS = arguments(city="Paris")


def choice(index: Any, reason: Any = None, **members: Any) -> dict[str, Any]:
    """A choice of a stream."""
    return {"index": index, "delta": members, "finish_reason": reason}


def whole(index: Any, reason: Any = "stop", **members: Any) -> dict[str, Any]:
    """A choice of a whole response."""
    message = {"role": "assistant", **members}
    return {"index": index, "message": message, "finish_reason": reason}


def chunk(*choices: dict[str, Any]) -> dict[str, Any]:
    return {"choices": list(choices)}


# Rows B4 and B5: all choices


@for_each("indexes", [(0, 1, 2), (0, 0, 0), (1, 1, 1), (2, 1, 0), (7, None, "x")])
def test_row_b4_the_choices_of_a_stream_may_count_as_they_like(indexes: tuple[Any, ...]) -> None:
    response = zip(indexes, ["Whis", "per", " it"], strict=True)
    chunks = [chunk(choice(index, content=more)) for index, more in response]
    assert content([*chunks, finish()]) == [("text", "Whisper it")]
    ending = chunk(choice(9, "stop"))
    assert message([*chunks, ending])["stop_reason"] == "end_turn"


@pytest.mark.parametrize("index", [0, 1, 3, None])
def test_row_b4_a_single_choice_may_have_any_index(index: Any) -> None:
    assert content([chunk(whole(index, content="Whisper it"))]) == [("text", "Whisper it")]


def called(name: str, more: str, identity: str | None = None) -> dict[str, Any]:
    fragment = {"type": "function", "function": {"name": name, "arguments": more}}
    return fragment | ({"id": identity} if identity else {})


@pytest.mark.parametrize("identities", [("a", "b"), (None, None)], ids=["ids", "no ids"])
def test_row_b5_text_and_calls_of_several_choices_are_merged(
    identities: tuple[str | None, ...],
) -> None:
    """As GitHub Copilot responses for Claude, without a stream."""
    first, second = identities
    result = message(
        [
            chunk(
                whole(0, "tool_calls", content="Let me look."),
                whole(1, "tool_calls", tool_calls=[called("f", PARIS, first)]),
                whole(2, "tool_calls", tool_calls=[called("f", "{}", second)]),
            )
        ]
    )
    assert result["stop_reason"] == "tool_use"
    short = [block.get("text") or (block["name"], block["input"]) for block in result["content"]]
    assert short == ["Let me look.", ("f", {"city": "Paris"}), ("f", {})]


def test_row_b5_the_choices_of_a_chunk_are_read_in_their_order() -> None:
    first = chunk(choice(0, content="Let me"), choice(1, content=" look."))
    second = chunk(choice(1, tool_calls=[call("f", "{", id="a", index=0)]), choice(0))
    third = chunk(choice(1, tool_calls=[call(None, "}", index=0)]), choice(0, "tool_calls"))
    assert content([first, second, third]) == [("text", "Let me look."), ("tool_use", "f", {})]


def test_row_b5_the_worst_end_of_several_choices_counts() -> None:
    result = message([chunk(whole(0, "stop", content="a"), whole(1, "length", content="b"))])
    assert (result["stop_reason"], result["content"][0]["text"]) == ("max_tokens", "ab")


PARTS = st.one_of(
    st.text(min_size=1, max_size=9).map(lambda more: {"content": more}),
    st.tuples(st.sampled_from("fg"), st.dictionaries(st.text(), st.integers(), max_size=2)).map(
        lambda item: {"tool_calls": [called(item[0], json.dumps(item[1]))]}
    ),
)
USAGE = {"prompt_tokens": 11, "completion_tokens": 500}


def in_a_stream(members: dict[str, Any], number: int, size: int) -> list[dict[str, Any]]:
    """The deltas of a part; `number` is that of the call."""
    if "content" in members:
        return [{"content": item} for item in pieces(members["content"], size)]
    function = members["tool_calls"][0]["function"]
    first = call(function["name"], "", index=number, id=f"c{number}")
    more = [call(None, item, index=number) for item in pieces(function["arguments"], size)]
    return [{"tool_calls": [item]} for item in (first, *more)]


@st.composite
def responses(draw: st.DrawFn) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The same response as chunks and whole: its parts in any choices, its usage anywhere."""
    parts = draw(st.lists(PARTS, min_size=1, max_size=5))
    reason = draw(st.sampled_from(["stop", "tool_calls", "length", "eos", "SAFETY"]))
    indexes = st.sampled_from([0, 1, 2, None])
    choices = [whole(draw(indexes), reason, **members) for members in parts]
    size = draw(st.integers(1, 9))
    deltas = [item for n, members in enumerate(parts) for item in in_a_stream(members, n, size)]
    chunks: list[dict[str, Any]] = []
    while deltas:
        together, deltas = deltas[: (count := draw(st.integers(1, 3)))], deltas[count:]
        chunks.append(chunk(*[choice(draw(indexes), **members) for members in together]))
    end = chunk(choice(draw(indexes), reason))
    for place in (end, end["choices"][0], None):
        if place is not None and draw(st.booleans()):
            place["usage"] = USAGE
    return [*chunks, end, {"choices": [], "usage": USAGE}], {**chunk(*choices), "usage": USAGE}


def comparable(chunks: list[dict[str, Any]], request: ChatRequest) -> dict[str, Any]:
    result = message(chunks, request=request)
    blocks = [{**block, "id": None} for block in result["content"]]
    return {**result, "id": None, "content": blocks}


@given(responses(), st.sampled_from([(), ("END",)]))
@quick
def test_row_b5_streamed_and_whole_choices_give_one_response(
    response: tuple[list[dict[str, Any]], dict[str, Any]], stops: tuple[str, ...]
) -> None:
    chunks, completed = response
    request = evolve(chat_request(stop_sequences=list(stops)), scanned_stop_sequences=())
    assert comparable(chunks, request) == comparable([completed], request)


# Row B1: what vouches for an end


def failing(chunks: list[Any], done: bool = True) -> ApiError:
    """The error that these chunks lead to; the events before it are in order."""
    translator = ResponseTranslator(chat_request(stream=True))
    events: list[e.StreamEvent] = []
    try:
        for chunk in chunks:
            events += translator.translate(chunk)
        events += translator.end(done)
    except ApiError as error:
        check_grammar((event.payload() for event in events), whole=False)
        assert "message_stop" not in [event.type for event in events]
        return error
    raise AssertionError("the response is whole")


ERRORS: dict[str, dict[str, Any]] = {
    "object": {"object": "error", "message": "worker died", "code": 500},
    "type": {"type": "error", "message": "worker died"},
    "error_code": {"error_code": "INTERNAL_ERROR", "message": "worker died"},
    "a top-level error": {"choices": [], "error": {"message": "worker died"}},
    "x_groq": {**finish(None), "x_groq": {"error": "worker died"}},
    "a choice": chunk({**choice(0), "error": {"code": 500, "message": "worker died"}}),
    "the second choice": chunk(choice(0), {**choice(1), "error": {"message": "worker died"}}),
    "a choice with text": chunk({**choice(0, content="x"), "error": {"message": "worker died"}}),
    "nothing that is known": {"message": "worker died"},
    "details": {"status": "failed", "detail": "worker died"},
    "msg": {"choices": [], "code": "1234", "msg": "worker died"},
    "error_msg": {"choices": [], "error_msg": "worker died"},
    "error_message": {"choices": [], "code": 0, "error_message": "worker died"},
}


@for_each("body", ERRORS.values(), ids=ERRORS)
def test_row_b1_an_error_in_any_shape_is_no_end(body: dict[str, Any]) -> None:
    assert "worker died" in failing([text("Half an ans"), body]).message
    assert "worker died" in failing([body]).message
    assert "worker died" in failing([text("Half an ans"), body, usage()]).message


@pytest.mark.parametrize("code", [0, "0", 200, "success"], ids=repr)
def test_row_b1_a_report_of_success_is_no_failure(code: Any) -> None:
    response = {"choices": [], "code": code, "msg": "ok"}
    assert content([text("Whole"), response]) == [("text", "Whole")]


def test_row_b1_an_error_after_the_finish_reason_changes_nothing() -> None:
    response = {"choices": [], "code": "1234", "msg": "network"}
    assert content([text("Whole"), finish(), response]) == [("text", "Whole")]


def test_row_b1_a_whole_response_whose_choice_failed_is_an_error() -> None:
    """As OpenRouter documents it."""
    error = {"code": 502, "message": "the provider died", "metadata": {"raw": None}}
    failed = {"message": {"role": "assistant", "content": ""}, "finish_reason": None}
    raised = failing([chunk({**failed, "error": error})])
    assert isinstance(raised, OverloadedError)
    assert "the provider died" in raised.message


@pytest.mark.parametrize("reason", [None, ""])
def test_row_b1_done_without_a_reason_ends_only_a_response(reason: Any) -> None:
    assert isinstance(failing([delta(role="assistant"), finish(reason)]), InternalError)
    assert isinstance(failing([completion(reason, content=None)]), InternalError)
    assert content([text("From an old server"), finish(reason)]) == [("text", "From an old server")]
    assert content([completion(reason, content="Hi")]) == [("text", "Hi")]


def test_row_b1_done_without_a_reason_is_no_end_within_a_call() -> None:
    half = calls(call("f", '{"city": "Par', id="a", index=0))
    assert "within a tool call" in failing([half]).message
    done = calls(call("f", PARIS, id="a", index=0))
    assert message([done])["stop_reason"] == "tool_use"
    assert message([calls(call("f", "", id="a", index=0))])["stop_reason"] == "tool_use"


def test_row_b1_an_object_that_is_no_chunk_is_skipped() -> None:
    ping = {"type": "ping"}
    assert content([ping, text("a"), ping, text("b")]) == [("text", "ab")]
    assert content([text("a"), ping, text("b"), text("c")]) == [("text", "abc")]
    assert content([text("a"), finish("stop"), ping]) == [("text", "a")]
    assert isinstance(failing([text("a"), ping]), InternalError)


@given(st.lists(st.sampled_from([text("a"), delta(), usage(), {"choices": []}]), max_size=5))
@quick
def test_row_b1_a_partial_response_never_becomes_whole(
    chunks: list[dict[str, Any]],
) -> None:
    for response in ERRORS.values():
        assert "worker died" in failing([*chunks, response]).message


# Row C15: a stop string within a call

HALF = '{"command": "ls '
CUTS: dict[str, dict[str, Any]] = {
    "vLLM": {"stop_reason": "-l"},
    "SGLang": {"matched_stop": "-l"},
    "others, which do not say": {},
}
STOPPING = chat_request(stop_sequences=["-l"])


def cut(reason: str, **members: Any) -> dict[str, Any]:
    end = finish(reason)
    end["choices"][0] |= members
    return end


@for_each("reason", ["stop", "tool_calls", "eos"])
@for_each("members", CUTS.values(), ids=CUTS)
def test_row_c15_a_call_that_a_stop_string_cuts_is_left_out(
    members: dict[str, Any], reason: str
) -> None:
    chunks = [text("I look."), calls(call("Bash", "", id="a", index=0))]
    chunks += [calls(call(None, piece, index=0)) for piece in pieces(HALF, 3)]
    body = completion(reason, content="I look.", tool_calls=[called("Bash", HALF, "a")])
    body["choices"][0] |= members
    for response in ([*chunks, cut(reason, **members)], [body]):
        result = message(response, request=STOPPING)
        assert (result["stop_reason"], result["stop_sequence"]) == ("stop_sequence", "-l")
        assert [block["type"] for block in result["content"]] == ["text"]


def test_row_c15_whole_calls_before_it_are_kept() -> None:
    chunks = [
        calls(call("f", PARIS, id="a", index=0)),
        calls(call("Bash", HALF, id="b", index=1)),
        cut("stop", stop_reason="-l"),
    ]
    result = message(chunks, request=STOPPING)
    assert result["stop_reason"] == "stop_sequence"
    assert [block["name"] for block in result["content"]] == ["f"]


def test_row_c15_one_of_several_stop_strings_is_not_guessed() -> None:
    request = chat_request(stop_sequences=["-l", "x"])
    result = message([calls(call("Bash", HALF, id="a", index=0)), finish("stop")], request=request)
    assert (result["stop_reason"], result["stop_sequence"]) == ("stop_sequence", None)


def test_row_c15_without_stop_strings_a_call_is_sent_as_it_comes() -> None:
    half = [calls(call("Bash", HALF, id="a", index=0)), finish("tool_calls")]
    assert message(half)["stop_reason"] == "tool_use"
    assert message([half[0], finish("length")], request=STOPPING)["stop_reason"] == "max_tokens"


@given(
    st.lists(st.dictionaries(st.text(), st.text(), min_size=1, max_size=3), min_size=1, max_size=3),
    st.integers(1, 9),
    st.integers(1, 50),
)
@quick
def test_row_c15_wherever_it_is_cut_no_half_call_is_sent(
    inputs: list[dict[str, str]], size: int, kept: int
) -> None:
    written = [json.dumps(item) for item in inputs]
    written[-1] = written[-1][: min(kept, len(written[-1]) - 1)]
    chunks = [
        calls(call("f" if first else None, more, index=n, **({"id": f"c{n}"} if first else {})))
        for n, item in enumerate(written)
        for first, more in ((True, ""), *((False, piece) for piece in pieces(item, size)))
    ]
    builder = MessageBuilder()
    translator = ResponseTranslator(STOPPING)
    for item in [*chunks, cut("stop", stop_reason="-l")]:
        for event in translator.translate(item):
            builder.add(event)
    for event in translator.end(True):
        builder.add(event)
    assert [block["input"] for block in builder.message["content"]] == inputs[:-1]
    assert builder.message["stop_reason"] == "stop_sequence"
