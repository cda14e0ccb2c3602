"""A response without a stream gives the events of the stream."""

from __future__ import annotations

from typing import Any

from tests.cases import for_each
from tests.stages.translation.response_support import PARIS, ROME, TWO
from tests.stages.translation.support import (
    THINKING,
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

# Whole completions


def same(chunks: list[dict[str, Any]], whole: dict[str, Any], **options: Any) -> None:
    """A streamed and a whole response lead to the same message, but for ids made by chance."""
    streamed, at_once = message(chunks, **options), message([whole], **options)
    for result in (streamed, at_once):
        result.pop("id")
        for block in result["content"]:
            if block.get("id", "").startswith("toolu_"):
                block["id"] = "toolu_"
    assert streamed == at_once


def test_a_whole_completion_of_text_is_as_the_stream() -> None:
    chunks = [text("Hel"), text("lo"), finish(), usage()]
    same(chunks, completion(content="Hello"))


def test_a_whole_completion_is_translated_like_a_stream() -> None:
    chunks = [
        delta(reasoning_content="Hm"),
        text("Hello"),
        calls(call("f", PARIS[:4], id="a", index=0)),
        calls(call(arguments=PARIS[4:], index=0)),
        calls(call("g", "", id="b", index=1)),
        finish("tool_calls"),
        usage(),
    ]
    whole = completion(
        "tool_calls",
        reasoning_content="Hm",
        content="Hello",
        tool_calls=[call("f", PARIS, id="a"), call("g", "", id="b")],
    )
    same(chunks, whole, request=chat_request(thinking=THINKING))


def test_a_whole_completion_that_was_cut_is_as_the_stream() -> None:
    chunks = [calls(call("f", '{"a": "lo', id="a", index=0)), finish("length"), usage()]
    whole = completion("length", content=None, tool_calls=[call("f", '{"a": "lo', id="a")])
    same(chunks, whole)


def test_a_whole_refusal_is_as_the_stream() -> None:
    chunks = [delta(refusal="I "), delta(refusal="cannot"), finish(), usage()]
    same(chunks, completion(refusal="I cannot"))


def test_an_empty_whole_completion_is_as_the_stream() -> None:
    same([delta(role="assistant"), finish(), usage()], completion(content=""))


@for_each(
    "members",
    [[{}, {}], [{"id": "same"}, {"id": "same"}], [{"id": ""}, {"id": ""}], [{"index": 0}] * 2],
    ids=["nothing", "one id twice", "empty ids", "one index twice"],
)
@for_each("broken", ["", '{"city": '], ids=["no arguments", "broken arguments"])
def test_pitfall_04_calls_of_a_whole_completion_stay_apart(
    members: list[dict[str, Any]], broken: str
) -> None:
    tools = [call("f", broken, **members[0]), call("g", ROME, **members[1])]
    result = message([completion("tool_calls", content=None, tool_calls=tools)])
    first, second = result["content"]
    assert (first["name"], first["input"]) == ("f", {"_raw": broken} if broken else {})
    assert (second["name"], second["input"]) == ("g", {"city": "Rome"})
    assert first["id"] != second["id"]


@for_each(
    "broken",
    ['{"a": "b', "{'a': 1}", "ls -l", "[1]", '{"a": NaN}', "", "null"],
)
def test_pitfall_35_malformed_arguments_are_no_failure(broken: str) -> None:
    whole = completion("tool_calls", tool_calls=[call("f", broken, id="a")])
    chunks = [calls(call("f", item, id="a", index=0)) for item in pieces(broken, 2) or [""]]
    same([*chunks, finish("tool_calls"), usage()], whole)
    [(kind, name, value)] = content([whole])
    assert (kind, name) == ("tool_use", "f")
    assert value in ({"a": None}, {}, {"_raw": broken})


def test_pitfall_35_a_call_after_a_malformed_one_is_sent_too() -> None:
    chunks = [calls(call("f", "oops", id="a", index=0)), calls(call("g", ROME, id="b", index=1))]
    assert content([*chunks, finish()]) == [("tool_use", "f", {"_raw": "oops"}), TWO[1]]


def test_a_stream_may_end_with_the_whole_completion_in_one_chunk() -> None:
    assert content([completion(content="Hello")], done=False) == [("text", "Hello")]
