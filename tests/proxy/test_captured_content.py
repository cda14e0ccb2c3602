"""Messages as the GenAI conventions write them: each block, and the limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.captured_content import MAX_BYTES, CapturedContent
from stages.messages_api import stream_events as e
from stages.messages_api.usage import Usage
from tests.cases import for_each
from tests.support import request

TEXT = {"type": "text", "text": "Look."}
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}


def captured(*events: e.StreamEvent, **members: Any) -> dict[str, Any]:
    """The attributes of a request with `members` and a response of `events`, read as JSON."""
    content = CapturedContent()
    start = e.MessageStart("msg_1", "m", Usage(), request(**members))
    for event in (start, *events):
        content.add(event)
    return {
        name: json.loads(value) if isinstance(value, str) else value
        for name, value in content.attributes()
    }


def end(stop_reason: str) -> list[e.StreamEvent]:
    return [e.MessageDelta(stop_reason, Usage()), e.MessageStop()]


def test_a_failed_request_has_its_input_alone() -> None:
    content = CapturedContent()
    content.set_request(request(messages=[{"role": "user", "content": "Fail"}]))

    attributes = dict(content.attributes())

    assert list(attributes) == ["gen_ai.input.messages"]
    assert "Fail" in attributes["gen_ai.input.messages"]


def input_messages(*messages: dict[str, Any]) -> Any:
    return captured(messages=list(messages))["gen_ai.input.messages"]


def test_a_conversation_with_a_tool() -> None:
    call = {"type": "tool_use", "id": "t1", "name": "read", "input": {"path": "a"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [TEXT]}
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    messages = input_messages(
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [thinking, TEXT, call]},
        {"role": "user", "content": [result]},
        {"role": "assistant", "content": [{**call, "id": "t2"}]},
        {"role": "user", "content": [{**result, "tool_use_id": "t2"}, TEXT]},
    )

    text = {"type": "text", "content": "Look."}
    asked = {"type": "tool_call", "id": "t1", "name": "read", "arguments": {"path": "a"}}
    response = {"type": "tool_call_response", "id": "t1", "response": [text]}
    assert messages == [
        {"role": "user", "parts": [{"type": "text", "content": "Hi"}]},
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "Hm."}, text, asked]},
        {"role": "tool", "parts": [response]},
        {"role": "assistant", "parts": [{**asked, "id": "t2"}]},
        {"role": "user", "parts": [{**response, "id": "t2"}, text]},
    ]


@pytest.mark.parametrize(
    ("block", "part"),
    [
        (
            {"type": "image", "source": PNG},
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content": ""},
        ),
        (
            {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}},
            {"type": "uri", "modality": "image", "uri": "https://a.example/b.png"},
        ),
        (
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
            {"type": "file", "modality": "document", "file_id": "file_1"},
        ),
        (
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "Plain."},
            },
            {"type": "text", "content": "Plain."},
        ),
    ],
    ids=["base64", "url", "file", "text"],
)
def test_files_are_without_their_data(block: dict[str, Any], part: dict[str, Any]) -> None:
    assert input_messages({"role": "user", "content": [block]}) == [
        {"role": "user", "parts": [part]}
    ]


@for_each(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"),
    ],
)
def test_the_response_has_a_finish_reason_of_the_conventions(
    stop_reason: str, finish_reason: str
) -> None:
    [message] = captured(
        e.BlockStart(0, {"type": "text", "text": ""}),
        e.BlockDelta(0, "text_delta", "Hel"),
        e.BlockDelta(0, "text_delta", "lo"),
        e.BlockStop(0),
        *end(stop_reason),
    )["gen_ai.output.messages"]

    assert message["parts"] == [{"type": "text", "content": "Hello"}]
    assert message["finish_reason"] == finish_reason


def test_a_response_with_a_call() -> None:
    [message] = captured(
        e.BlockStart(0, {"type": "thinking", "thinking": "", "signature": ""}),
        e.BlockDelta(0, "thinking_delta", "Hm."),
        e.BlockStop(0),
        e.BlockStart(1, {"type": "tool_use", "id": "t1", "name": "read", "input": {}}),
        e.BlockDelta(1, "input_json_delta", '{"path": "a"}'),
        e.BlockStop(1),
        *end("tool_use"),
    )["gen_ai.output.messages"]

    assert message["parts"] == [
        {"type": "reasoning", "content": "Hm."},
        {"type": "tool_call", "id": "t1", "name": "read", "arguments": {"path": "a"}},
    ]
    assert message["finish_reason"] == "tool_call"


def test_a_response_that_broke_off_has_its_beginning() -> None:
    [message] = captured(
        e.BlockStart(0, {"type": "text", "text": ""}), e.BlockDelta(0, "text_delta", "Hel")
    )["gen_ai.output.messages"]

    assert message["parts"] == [{"type": "text", "content": "Hel"}]
    assert message["finish_reason"] == "error"


def test_a_request_without_a_response_has_no_messages() -> None:
    assert dict(CapturedContent().attributes()) == {}


def test_of_a_long_conversation_the_latest_messages_are_kept() -> None:
    turns = [
        {"role": "assistant" if n % 2 else "user", "content": f"{n} " + "x" * 4000}
        for n in range(101)
    ]

    found = captured(messages=turns)

    messages = found["gen_ai.input.messages"]
    assert messages[-1]["parts"][0]["content"].startswith("100 ")
    assert found["llm_proxy.omitted_messages"] == 101 - len(messages)
    assert MAX_BYTES / 2 < len(json.dumps(messages)) < 1.1 * MAX_BYTES


def test_a_long_text_is_cut() -> None:
    call = {"type": "tool_use", "id": "t", "name": "n", "input": {"text": "y" * 1_000_000}}
    blocks = [{"type": "text", "text": "x" * 1_000_000}] * 30
    found = captured(
        system="z" * 1_000_000,
        messages=[{"role": "user", "content": blocks}, {"role": "assistant", "content": [call]}],
    )

    assert len(json.dumps(found)) < 3 * 1.1 * MAX_BYTES
    [last] = found["gen_ai.input.messages"][-1]["parts"]
    assert last["arguments"].startswith('{"text":"yyy')
    assert found["gen_ai.system_instructions"][0]["content"].endswith("z…")
