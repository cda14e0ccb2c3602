"""Rows of the list of pitfalls about tools: calls that come out of a backend, and go back in."""

from __future__ import annotations

import json
from threading import Event
from typing import Any

import anthropic
import pytest

from tests.conformance.support import (
    MODES,
    WEATHER,
    Talk,
    call,
    calls,
    cities,
    kinds,
    result,
    roles,
    said,
    use,
)
from tests.support import body
from tests.wire.chat import DONE, END, delta, head, sse

PARIS, ROME = {"city": "Paris"}, {"city": "Rome"}


def test_row_02_parallel_tool_calls_merge(talk: Talk) -> None:
    talk.plays(
        calls(call('{"city":', 0, id="a")),
        calls(call(' "Paris"}', 0)),
        calls(call('{"city"', 1, id="b")),
        calls(call(': "Rome"}', 1)),
    )
    message = talk.ask(stream=True)
    assert cities(message) == [PARIS, ROME]
    assert [block.to_dict()["id"] for block in message.content] == ["a", "b"]


def test_row_03_a_delta_for_a_closed_block(talk: Talk) -> None:
    begun = calls(call('{"city":', 0, id="a"), call('{"city":', 1, id="b"))
    more = calls(call(' "Paris"', 0)), calls(call(' "Rome"', 1)), calls(call("}", 0), call("}", 1))
    opened = Event()  # what arrives together is not interleaved to the client in any case
    rest = sse(*(delta(**each) for each in more), delta("tool_calls")) + DONE + END
    talk.script(head() + sse(delta(**begun)), opened, rest)
    with talk.sdk.messages.stream(**body()) as events:
        for event in events:
            if event.type == "content_block_delta":
                opened.set()
        assert cities(events.get_final_message()) == [PARIS, ROME]


@pytest.mark.parametrize("index", [0, None], ids=["always-0", "none"])
def test_row_04_two_calls_become_one_with_joined_json(index: int | None, talk: Talk) -> None:
    whole = ['{"city": "Paris"}', '{"city": "Rome"}']
    talk.plays(calls(call(whole[0], index, id="a")), calls(call(whole[1], index, id="b")))
    assert cities(talk.ask(stream=True)) == [PARIS, ROME]


@MODES
@pytest.mark.parametrize("arguments", [PARIS, json.dumps(PARIS)], ids=["object", "text"])
def test_row_05_a_tools_input_arrives_empty(arguments: Any, stream: bool, talk: Talk) -> None:
    talk.answers(stream, tool_calls=[call(arguments, id="a")])
    assert cities(talk.ask(stream)) == [PARIS]


@MODES
@pytest.mark.parametrize("finish", ["stop", "tool_calls", "function_call"])
def test_row_06_the_agent_stops_though_a_tool_was_called(
    finish: str, stream: bool, talk: Talk
) -> None:
    talk.answers(stream, finish, tool_calls=[call("{}", id="a")])
    assert talk.ask(stream).stop_reason == "tool_use"


@MODES
def test_row_07_the_client_waits_for_a_tool_that_does_not_exist(stream: bool, talk: Talk) -> None:
    talk.answers(stream, "tool_calls", content="No tool needed.")
    assert talk.ask(stream).stop_reason == "end_turn"


def test_row_08_a_tool_message_must_follow_its_call(talk: Talk) -> None:
    typed = [said("Wait,"), result("b", "rain"), said("one more thing."), result("a")]
    sent = talk.history("Hi", [use("a"), use("b", "Rome")], typed)
    assert roles(sent) == ["user", "assistant", "tool", "tool", "user"]
    assert [each["content"] for each in sent[2:4]] == ["sunny", "rain"]


def test_row_09_what_the_user_typed_during_a_tool_run_is_lost(talk: Talk) -> None:
    sent = talk.history("Hi", [use("a")], [result("a"), said("Never mind."), said("Stop.")])
    assert sent[-1] == {"role": "user", "content": "Never mind.\n\nStop."}


def test_row_10_an_interrupted_tool(talk: Talk) -> None:
    sent = talk.history("Hi", [use("a"), use("b")], [result("b"), said("Go on.")])
    assert roles(sent) == ["user", "assistant", "tool", "tool", "user"]
    assert "not available" in sent[2]["content"]
    assert sent[3]["content"] == "sunny"
    orphan = talk.history("Hi", [said("Hello")], [result("zzz", "rain")])
    assert roles(orphan) == ["user", "assistant", "user"]
    assert "rain" in orphan[-1]["content"]


def test_row_28_an_image_from_a_tool_is_lost(talk: Talk) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    picture = [said("A screenshot:"), {"type": "image", "source": source}]
    turn = [result("a", picture), result("b", "rain")]
    sent = talk.history("Hi", [use("a"), use("b")], turn)
    assert roles(sent) == ["user", "assistant", "tool", "tool", "user"]
    assert "iVBOR" not in json.dumps(sent[:4])
    assert sent[4]["content"][-1]["image_url"]["url"].endswith("iVBORw0KGgo=")
    refused = talk.post(model="blind", messages=[{"role": "user", "content": picture}])
    assert refused.error == (400, "invalid_request_error")


def test_row_33_a_tools_schema_is_refused(talk: Talk) -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"at": {"type": "string", "format": "date-time"}},
    }
    tools = [
        {"name": "f", "input_schema": schema},
        {"name": "g", "input_schema": {"type": "object"}},
    ]
    talk.history("Hi", model="databricks", tools=tools)
    first, second = (tool["function"]["parameters"] for tool in talk.asked["tools"])
    assert first == {"type": "object", "properties": {"at": {"type": "string"}}}
    assert second == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        (
            {"type": "tool", "name": "get_weather"},
            {"type": "function", "function": {"name": "get_weather"}},
        ),
    ],
    ids=["auto", "any", "none", "tool"],
)
def test_row_34_a_forced_tool_is_ignored(choice: Any, sent: Any, talk: Talk) -> None:
    talk.history("Hi", tools=[WEATHER], tool_choice=choice)
    assert talk.asked["tool_choice"] == sent
    if choice["type"] == "auto":
        return
    talk.answers(False, content="Well.")  # and of a backend that ignores it
    answer = talk.post(model="ollama", tools=[WEATHER], tool_choice=choice)
    if choice["type"] == "none":
        assert "tools" not in talk.asked
    else:
        assert "tool_choice" in answer.headers["x-llm-proxy-degraded"]


@MODES
@pytest.mark.parametrize(
    ("arguments", "repaired"),
    [
        ("{'city': 1}", {"city": "1"}),
        ('{"city": "Paris\n",}', {"city": "Paris\n"}),
        ('{"city": "Paris"', PARIS),
        ("ls -l", None),
        ("[1]", None),
    ],
)
def test_row_35_malformed_tool_json(
    arguments: str, repaired: Any, stream: bool, talk: Talk
) -> None:
    """With `repair-tools`, it is repaired where that fits the schema.

    Otherwise a response keeps all text; a stream passes on text that begins like an object.
    """
    talk.answers(stream, "tool_calls", tool_calls=[call(arguments, id="a")])
    message = talk.ask(stream, "/weak", tools=[WEATHER])
    (required,) = cities(message)
    assert required == (repaired or {"_raw": arguments})
    assert message.stop_reason == "tool_use"
    if stream:
        events = talk.post(stream=True, tools=[WEATHER]).events
        deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
        sent = "".join(each["partial_json"] for each in deltas)
        assert sent == arguments if arguments[0] == "{" else json.loads(sent) == required
    else:
        assert isinstance(cities(talk.ask(tools=[WEATHER]))[0], dict)


@pytest.mark.parametrize("finish", ["tool_calls", "stop", "length"])
@pytest.mark.parametrize(
    ("arguments", "complete"), [('{"city": "/tmp/x', {}), ('{"city": "/", "x', {"city": "/"})]
)
def test_row_35_cut_json_is_not_run_as_a_call_with_fewer_members(
    arguments: str, complete: Any, finish: str, talk: Talk
) -> None:
    """Unless the response is cut. A stream passes the text on, and the SDK takes this part."""
    talk.answers(False, finish, tool_calls=[call(arguments, id="a")])
    cut = finish == "length"
    assert cities(talk.ask(tools=[WEATHER])) == [complete if cut else {"_raw": arguments}]
    talk.answers(True, finish, tool_calls=[call(arguments, id="a")])
    message = talk.ask(True, tools=[WEATHER])
    assert cities(message) == [complete]
    assert (message.stop_reason == "tool_use") != cut


WRITTEN = {
    "hermes": '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>',
    "qwen3-coder": (
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n"
        "</function>\n</tool_call>"
    ),
    "glm": (
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n"
        "</tool_call>"
    ),
    "llama 3.1": '<function=get_weather>{"city": "Paris"}</function>',
    "llama 3.2": '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}',
    "mistral": '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}}]',
    "mistral, later": '[TOOL_CALLS]get_weather{"city": "Paris"}',
    "deepseek": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
        '{"city": "Paris"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
    ),
}


@MODES
@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_row_36_a_tool_call_written_as_text(text: str, stream: bool, talk: Talk) -> None:
    """With `repair-tools` it becomes one, if the request has the tool. Otherwise it stays text."""

    def ask(under: str, tool: dict[str, Any]) -> anthropic.types.Message:
        said = f"Let me see. {text}"
        if stream:
            talk.plays(*({"content": said[n : n + 5]} for n in range(0, len(said), 5)))
        else:
            talk.answers(False, content=said)
        return talk.ask(stream, under, tools=[tool])

    message = ask("/weak", WEATHER)
    assert kinds(message) == ["text", "tool_use"]
    assert cities(message) == [PARIS]
    assert message.stop_reason == "tool_use"
    for under, tool in (("", WEATHER), ("/weak", {**WEATHER, "name": "get_time"})):
        message = ask(under, tool)
        assert [block.to_dict()["text"] for block in message.content] == [f"Let me see. {text}"]
        assert message.stop_reason == "end_turn"


@MODES
def test_row_36_a_tool_call_that_is_all_there_is(stream: bool, talk: Talk) -> None:
    for text in (
        '{"name": "get_weather", "parameters": {"city": "Paris"}}',
        '```json\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n```',
    ):
        talk.answers(stream, content=text)
        message = talk.ask(stream, "/weak", tools=[WEATHER])
        assert (kinds(message), cities(message)) == (["tool_use"], [PARIS])


def test_row_37_the_same_tool_id_twice_in_a_conversation(talk: Talk) -> None:
    sent = talk.history(
        "Hi",
        [use("call_0")],
        [result("call_0", "sunny")],
        [use("call_0", "Rome"), use("call_1")],
        [result("call_1", "snow"), result("call_0", "rain")],
    )
    made = [each["id"] for message in sent for each in message.get("tool_calls", ())]
    answered = [message["tool_call_id"] for message in sent if message["role"] == "tool"]
    assert answered == made
    assert len(set(made)) == 3
    texts = [message["content"] for message in sent if message["role"] == "tool"]
    assert texts == ["sunny", "rain", "snow"]
