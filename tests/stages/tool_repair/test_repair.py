"""Chunks of a response whose tool calls are repaired, and the message that comes of them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.chat_completions.think_tags import THINK
from stages.events import ChatRequest
from stages.messages_api import stream_events as e
from stages.tool_repair.repair import ResponseRepair, tool_schemas
from tests.cases import for_each
from tests.stages.translation import support
from tests.stages.translation.fuzz_support import CHUNKS, quick, run
from tests.stages.translation.support import (
    THINKING,
    USAGE,
    call,
    calls,
    completion,
    delta,
    finish,
    pieces,
    text,
    usage,
)
from tests.support import chat_request

WEATHER = {
    "name": "get_weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
}
PARIS = ("tool_use", "get_weather", {"city": "Paris"})
ROME = ("tool_use", "get_weather", {"city": "Rome"})
WRITTEN = '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>'
ARGUMENTS = '{"city": "Paris"}'


def asking(**changes: Any) -> ChatRequest:
    return chat_request(**{"tools": [WEATHER], **changes})


def repaired(
    chunks: list[Any], request: ChatRequest | None = None, done: bool = True
) -> tuple[list[Any], ResponseRepair]:
    """The chunks that are forwarded for these."""
    request = request or asking()
    repair = ResponseRepair(request, tool_schemas(request))
    out = [item for chunk in chunks for item in repair.repair_chunk(chunk)]
    return [*out, *repair.finish(done)], repair


def content(chunks: list[Any], request: ChatRequest | None = None) -> list[tuple[Any, ...]]:
    request = request or asking()
    later = evolve(request, think_tags=(), echoed_prefill="")
    return support.content(repaired(chunks, request)[0], request=later)


def reason(chunks: list[Any], request: ChatRequest | None = None) -> Any:
    request = request or asking()
    return support.message(repaired(chunks, request)[0], request=request)["stop_reason"]


def finishes(chunks: list[Any]) -> list[Any]:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return [item["finish_reason"] for item in choices if item.get("finish_reason")]


def test_a_call_in_the_text_becomes_one_and_ends_the_response() -> None:
    response = [*map(text, pieces(f"Let me see.\n{WRITTEN}", 5)), finish("stop"), usage()]
    out, repair = repaired(response)
    assert content(response) == [("text", "Let me see.\n"), PARIS]
    assert reason(response) == "tool_use"
    assert finishes(out) == ["tool_calls"]
    assert out[-1] == usage()
    assert repair.outcomes == ["found"]


def test_a_whole_response_is_repaired_as_a_stream_is() -> None:
    response = completion("stop", content=f"Let me see.\n{WRITTEN} So.")
    out, _ = repaired([response])
    assert content([response]) == [("text", "Let me see.\n"), PARIS, ("text", " So.")]
    assert finishes(out) == ["tool_calls"]
    assert out[-1]["usage"] == USAGE


def test_calls_of_text_and_backend_are_numbered_separately() -> None:
    rome = call("get_weather", '{"city": "Rome"}', index=0, id="call_1")
    out, _ = repaired([text(WRITTEN + WRITTEN), calls(rome), finish("tool_calls")])
    result = [
        item for chunk in out for c in chunk["choices"] for item in c["delta"].get("tool_calls", ())
    ]
    assert [item["index"] for item in result] == [0, 1, 2]
    assert content([text(WRITTEN + WRITTEN), calls(rome), finish()]) == [PARIS, PARIS, ROME]


@pytest.mark.parametrize("length", [1, 3, 100])
def test_valid_arguments_of_backend_calls_pass_unchanged(length: int) -> None:
    value = '{ "city" :"Par\\u0069s","days":1.0 }'
    parts = [calls(call(arguments=part, index=0)) for part in pieces(value, length)]
    response = [calls(call("get_weather", "", index=0, id="call_1")), *parts, finish("tool_calls")]
    out, repair = repaired(response)
    result = out[-1]["choices"][0]["delta"]["tool_calls"]
    assert result[0] == {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": value},
    }
    assert repair.outcomes == []


def test_text_after_a_call_of_the_backends_comes_after_it() -> None:
    """A stop sequence in it, at which the response is closed, does not lose the call."""
    request = evolve(asking(), scanned_stop_sequences=("STOP",))
    response = [
        calls(call("get_weather", ARGUMENTS, index=0, id="a")),
        text(" \n"),
        text("So STOP"),
    ]
    assert content(response, request) == [PARIS, ("text", " \nSo ")]
    rome = call("get_weather", '{"city": "Rome"}', index=1, id="b")
    response = [*response[:2], text("So"), calls(rome), finish("tool_calls")]
    assert [item for item in content(response) if item[0] == "tool_use"] == [PARIS, ROME]


def test_a_call_that_goes_on_after_text_is_one() -> None:
    begun = calls(call("get_weather", '{"city":', index=0, id="a"))
    ended = calls(call(arguments='"Paris"}', index=0))
    assert content([begun, text("Hm"), ended, finish()]) == [("text", "Hm"), PARIS]
    rome = calls(call("get_weather", '{"city": "Rome"}', index=1, id="b"))
    response = [begun, rome, text("Hm"), ended, finish()]
    assert content(response) == [("text", "Hm"), PARIS, ROME]


def test_broken_arguments_of_interleaved_calls_are_repaired_each() -> None:
    response = [
        calls(call("get_weather", "{'city':", index=0, id="a")),
        calls(call("get_weather", '{"city": "Rome",', index=1, id="b")),
        calls(call(arguments=" 'Paris'", index=0), call(arguments='"days": "2"}', index=1)),
        finish("tool_calls"),
    ]
    assert content(response) == [PARIS, ("tool_use", "get_weather", {"city": "Rome", "days": 2})]
    assert repaired(response)[1].outcomes == ["repaired", "coerced"]


def test_arguments_past_repair_stay_and_are_reported() -> None:
    response = [completion("tool_calls", tool_calls=[call("get_weather", "ls -l", id="a")])]
    assert content(response) == [("tool_use", "get_weather", {"_raw": "ls -l"})]
    assert repaired(response)[1].outcomes == ["broken"]


def test_arguments_as_objects_and_old_calls_are_repaired() -> None:
    response = [
        completion(tool_calls=[call("get_weather", {"city": "Paris", "days": "5"}, id="a")])
    ]
    assert content(response) == [("tool_use", "get_weather", {"city": "Paris", "days": 5})]
    legacy = delta(function_call={"name": "get_weather", "arguments": "{'city': 'Paris'}"})
    assert content([legacy, finish("function_call")]) == [PARIS]


def test_a_response_that_a_stop_sequence_ended_was_cut() -> None:
    half = '{"city": "Paris"'
    request = asking(stop_sequences=[","])
    for cut in ({"stop_reason": ","}, {"matched_stop": ","}):
        response = [calls(call("get_weather", half, index=0, id="a")), finish("stop")]
        response[-1]["choices"][0] |= cut
        assert repaired(response, request)[1].outcomes == []
        response[0] = text(f"[TOOL_CALLS]get_weather{half}}}")
        assert content(response, request) == [("text", f"[TOOL_CALLS]get_weather{half}}}")]
        response[-1]["choices"][0] |= dict.fromkeys(cut, "</s>")
        assert content(response, request) == [PARIS]


@pytest.mark.parametrize("reason", ["length", "content_filter", "model_length"])
def test_truncated_arguments_are_not_repaired(reason: str) -> None:
    half = '{"city": "Par'
    response = [calls(call("get_weather", half, index=0, id="a")), finish(reason)]
    assert (
        repaired(response)[0][-1]["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"]
        == half
    )
    broken = WRITTEN.removesuffix("</tool_call>")
    assert content([text(broken), finish(reason)]) == [("text", broken)]
    assert finishes(repaired([text(WRITTEN), finish(reason)])[0]) == [reason]


def test_without_a_finish_reason_a_done_response_is_whole() -> None:
    response = [text(WRITTEN.removesuffix("</tool_call>"))]
    assert "tool_calls" in str(repaired(response, done=True)[0])
    assert "tool_calls" not in str(repaired(response, done=False)[0])


def test_a_call_in_the_text_needs_only_valid_json() -> None:
    """The tool reports to the model what is wrong, as with a call of the backend's own."""
    assert content([text(WRITTEN.replace("city", "town")), finish()]) == [
        ("tool_use", "get_weather", {"town": "Paris"})
    ]
    guessed = WRITTEN.replace("city", "town").replace('s"}}', 's"}')
    assert content([text(guessed), finish()]) == [("text", guessed)]


def test_bare_json_is_a_call_only_if_it_fits_and_is_alone() -> None:
    for bare in (
        '{"name": "get_weather", "parameters": {"town": "Paris"}}',
        '{"name": "get_weather", "parameters": {"city": "Paris"}, "description": "The weather"}',
        '{"name": "get_weather", "age": 3}',
    ):
        assert content([text(bare), finish()]) == [("text", bare)]
    bare = '{"name": "get_weather", "parameters": {"city": "Paris", "days": "5"}}'
    assert content([text(bare), finish()]) == [
        ("tool_use", "get_weather", {"city": "Paris", "days": 5})
    ]


def test_values_without_a_type_get_that_of_the_schema() -> None:
    written = (
        "<tool_call><function=get_weather><parameter=city>5</parameter>"
        "<parameter=days>5</parameter></function></tool_call>"
    )
    expected = ("tool_use", "get_weather", {"city": "5", "days": 5})
    assert content([text(written), finish()]) == [expected]


def test_words_after_broken_json_are_not_lost() -> None:
    for written in (
        "[TOOL_CALLS]get_weather{'city': 'Paris'} and then",
        "<function=get_weather>{'city': 'Paris'} and then",
    ):
        assert content([text(written), finish()]) == [("text", written)]
    assert content([text("[TOOL_CALLS]get_weather{'city': 'Paris'}"), finish()]) == [PARIS]


RM = '<tool_call>{"name": "get_weather", "arguments": {"city": "rm -rf /"}}</tool_call>'
OPENED = "<tool_call><function=get_weather><parameter=city>"


@for_each(
    "written",
    [
        # Each a call that writes a file about calls, which are none.
        f'<tool_call>{{"name": "get_weather", "arguments": {{"city": "As "{RM}" or "{RM}"."}}}}',
        f"<tool_call><function=get_weather><parameter=city>{RM}\n{RM}</parameter></function>",
        f"<tool_call>get_weather<arg_key>city</arg_key><arg_value>{RM}\n{RM}</arg_value>",
        f"<function=get_weather><parameter=city></function>\n{RM}</parameter></function>",
        f"{OPENED}As </parameter></function> does</parameter></function>",
        f"{OPENED}<parameter=x>y</parameter></function></tool_call>{RM}</parameter></function>",
        # The same of tools that there are not.
        f"<tool_call>write<arg_key>city</arg_key><arg_value>{RM}</arg_value>",
        f"<function=write><parameter=city>{RM}</parameter></function>",
        f'<function=get_weather>{{"city": "{{}} </function>", "days": "{RM}"}}</function>',
    ],
)
def test_a_call_inside_an_unreadable_call_is_text(written: str) -> None:
    for end in ("", "</tool_call>"):
        for size in (7, 1000):
            response = [*map(text, pieces(written + end, size)), finish()]
            assert content(response) == [("text", written + end)]


def test_reasoning_between_tags_is_no_place_for_calls() -> None:
    response = [text("<think>I could "), text(f"{WRITTEN}</think>\n"), text(WRITTEN), finish()]
    request = evolve(asking(thinking=THINKING), think_tags=THINK)
    assert content(response, request) == [("thinking", f"I could {WRITTEN}"), PARIS]


def test_bare_json_after_reasoning_is_a_call() -> None:
    bare = '{"name": "get_weather", "parameters": {"city": "Paris"}}'
    request = asking(thinking=THINKING)
    assert content([text(f"<think>Hm</think>\n\n{bare}"), finish()], request)[1:] == [PARIS]
    response = [
        delta(reasoning_content="Hm"),
        delta(role="assistant", content=""),
        text(bare),
        finish(),
    ]
    assert content(response, request)[1:] == [PARIS]
    both = completion(content=bare, reasoning_content="Hm")
    assert content([both], request)[1:] == [PARIS]


def test_bare_json_next_to_a_call_of_the_backends_is_text() -> None:
    bare = '{"name": "get_weather", "parameters": {"city": "Rome"}}'
    response = [calls(call("get_weather", ARGUMENTS, index=0, id="a")), text(bare), finish()]
    assert content(response) == [PARIS, ("text", bare)]
    whole = completion(content=bare, tool_calls=[call("get_weather", ARGUMENTS, id="a")])
    assert content([whole]) == [("text", bare), PARIS]


@pytest.mark.parametrize("choice", [{"type": "none"}])
def test_where_no_tool_may_be_called_nothing_is_repaired(choice: Any) -> None:
    assert tool_schemas(asking(tool_choice=choice)) == {}
    assert tool_schemas(evolve(asking(tool_choice=choice), options=asking().options)) == {}
    assert tool_schemas(chat_request()) == {}
    assert tool_schemas(asking()).keys() == {"get_weather"}


def test_text_that_was_sent_is_not_in_a_whole_response() -> None:
    request = evolve(asking(), echoed_prefill="So: ")
    assert content([completion(content=f"So: {WRITTEN}")], request) == [PARIS]


def test_text_that_is_nothing_else_passes_as_the_chunk_it_was() -> None:
    chunks = [*map(text, ("Hello", " there", " `", "b`", " ", WRITTEN)), finish()]
    out, _ = repaired(chunks)
    assert out[1] is chunks[1]
    assert content(chunks) == [("text", "Hello there `b` "), PARIS]


def test_held_back_text_is_sent_before_other_events() -> None:
    for other in (delta(reasoning="Hm."), delta(refusal="No."), {"error": {"message": "broke"}}):
        out, _ = repaired([text("a <tool_"), other])
        assert [item["choices"][0]["delta"] for item in out[:2]] == [
            {"content": "a "},
            {"content": "<tool_"},
        ]
        assert out[2] == other
    parts = delta(content=[{"type": "text", "text": "b"}])
    assert content([text("a <tool_"), parts, finish()]) == [("text", "a <tool_b")]


@pytest.mark.untraced
def test_many_broken_calls_take_time_by_their_number() -> None:
    began = time.process_time()
    written = '[TOOL_CALLS]get_weather{"' * 20_000
    assert content([*map(text, pieces(written, 50)), finish()]) == [("text", written)]
    assert time.process_time() - began < 10


@given(st.lists(CHUNKS, max_size=8), st.booleans())
@quick
def test_without_a_marker_the_repair_changes_nothing(chunks: list[Any], thinking: bool) -> None:
    """Calls come last, and of tools there are not, none is touched."""
    request = evolve(asking(thinking=THINKING if thinking else None, stream=True), think_tags=())
    ended = [*chunks, finish("stop")]
    plain, repaired_chunks = (
        run(item, True, request) for item in (ended, repaired(ended, request)[0])
    )
    assert plain[1] == repaired_chunks[1]
    if plain[1]:
        for kind in ("text_delta", "thinking_delta", "input_json_delta"):
            response = [
                "".join(
                    item.text
                    for item in events
                    if isinstance(item, e.BlockDelta) and item.kind == kind
                )
                for events, _ in (plain, repaired_chunks)
            ]
            assert sorted(response[0]) == sorted(response[1])


SNIPPETS = st.sampled_from(
    [
        WRITTEN,
        '[TOOL_CALLS]get_weather{"city": "Paris"}',
        '{"name": "get_weather", "parameters": {"city": "Paris"}}',
        "{'city': 'x'}",
        *"Hello ,<think>,</think>,<tool_call>,</tool_call>,`,```,\n,<,[TOOL".split(","),
    ]
)


@given(st.lists(SNIPPETS, max_size=6), st.lists(st.integers(0, 200), max_size=8), st.booleans())
@settings(deadline=None, max_examples=75)
def test_streamed_and_whole_come_to_the_same(
    chunks: list[str], cuts: list[int], called: bool
) -> None:
    whole = "".join(chunks)
    ends = sorted({cut % (len(whole) + 1) for cut in cuts})
    parts = [whole[a:b] for a, b in zip([0, *ends], [*ends, len(whole)], strict=True)]
    own = [call("get_weather", "{'city': 'Rome'", id="a", index=0)] if called else []
    streamed = [*map(text, parts), *([calls(*own)] if own else []), finish("stop")]
    request = evolve(asking(thinking=THINKING), think_tags=THINK)
    at_once = completion("stop", content=whole, **({"tool_calls": own} if own else {}))
    assert content(streamed, request) == content([at_once], request)
