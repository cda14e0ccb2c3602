"""What today's clients do, and the contract that Claude Code expects of a gateway."""

from __future__ import annotations

from threading import Event
from typing import Any

import anthropic
import pytest

from tests.conformance.support import MODES, THINKING, WEATHER, Talk, kinds
from tests.grammar import parse_sse
from tests.support import body
from tests.wire.backend import Act
from tests.wire.chat import DONE, END, delta, head, sse, whole
from tests.wire.client import raw


def test_fact_1_a_thread_loses_the_history(talk: Talk) -> None:
    answer = talk.post(thread={"type": "create"})
    assert answer.error == (400, "invalid_request_error")
    assert answer.json["error"]["details"]["error_code"] == "thread_unsupported_request"
    talk.answers(False, content="Well.")
    messages: Any = [{"role": "user", "content": "Hi"}]
    runner = talk.sdk.beta.messages.tool_runner(
        model="claude-test", max_tokens=100, tools=[], messages=messages
    )
    assert runner.until_done().content[0].to_dict()["text"] == "Well."
    assert talk.asked["messages"] == messages


def test_fact_2_a_closed_block_makes_a_response_look_complete(talk: Talk) -> None:
    begun = Event()
    error = sse({"error": {"message": "Out of memory"}})
    talk.script(head(), sse(delta(content="Hel")), begun, error, END)
    response = talk.client.send(raw(body(stream=True)))
    begun.set()
    types = [event["type"] for event in parse_sse(response.read())]
    assert types == ["message_start", "content_block_start", "content_block_delta", "error"]


def test_fact_3_what_claude_code_begins_with(talk: Talk) -> None:
    assert talk.client.get("/", "HEAD").status == 200
    talk.answers(True, content="Well.")
    tools = [{**WEATHER, "name": f"tool_{n}", "description": "x" * 4500} for n in range(24)]
    answer = talk.post(
        "/v1/messages?beta=true",
        stream=True,
        thinking=THINKING,
        output_config={"effort": "high"},
        context_management={"edits": [{"type": "clear_thinking_20251015"}]},
        metadata={"user_id": "someone"},
        tools=tools,
    )
    assert answer.events[-1]["type"] == "message_stop"
    assert len(talk.asked["tools"]) == 24


@MODES
@pytest.mark.parametrize("status", [401, 403])
def test_fact_3_a_backends_401_is_not_the_clients(status: int, stream: bool, talk: Talk) -> None:
    talk.script(whole(status, {"error": {"message": "Invalid API key"}}))
    with pytest.raises(anthropic.InternalServerError):
        talk.ask(stream)


@MODES
def test_fact_4_thinking_is_signed_and_only_sent_if_requested(stream: bool, talk: Talk) -> None:
    talk.answers(stream, content="Yes.", reasoning="Hm.")
    assert kinds(talk.ask(stream)) == ["text"]
    thought = talk.ask(stream, thinking=THINKING).content[0]
    assert isinstance(thought, anthropic.types.ThinkingBlock)
    assert thought.signature


def test_fact_5_the_start_counts_tokens(talk: Talk) -> None:
    talk.plays({"content": "Hi"})
    usage = talk.post(stream=True).events[0]["message"]["usage"]
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] >= 1


def test_fact_6_the_newest_sdk_sends_a_bearer_key_and_sampling(talk: Talk) -> None:
    talk.answers(False, content="Well.")
    assert talk.sdk.auth_headers == {"Authorization": "Bearer client-key"}
    talk.ask(extra_body={"temperature": 0.5, "top_p": 0.9})
    assert (talk.asked["temperature"], talk.asked["top_p"]) == (0.5, 0.9)


@MODES
def test_fact_7_line_separators_within_a_text(stream: bool, talk: Talk) -> None:
    text = "a\u2028b\u2029c\u0085d\r\ne"
    talk.answers(stream, content=text)
    message = talk.ask(stream, messages=[{"role": "user", "content": text}])
    assert message.content[0].to_dict()["text"] == text
    assert talk.asked["messages"][0]["content"] == text


def test_contract_the_models_are_listed(talk: Talk) -> None:
    answer = talk.client.get("/v1/models?limit=1000", authorization="Bearer client-key")
    assert answer.status == 200
    assert "claude-test" in [model["id"] for model in answer.json["data"]]
    assert talk.client.get("/v1/models", **{"x-api-key": ""}).status == 401


def test_contract_a_stream_is_not_buffered(talk: Talk) -> None:
    hold = Event()
    talk.script(head(), sse(delta(content="One")), hold, sse(delta("stop")), DONE, END)
    talk.client.send(raw(body(stream=True), x_claude_code_session_id="s-1"))
    types = [talk.client.event()["type"] for _ in range(3)]
    assert types[-1] == "content_block_delta"
    hold.set()
    talk.client.response.read()


def test_contract_the_headers_of_claude_code_stay_here(talk: Talk) -> None:
    talk.answers(False, content="Well.")
    names = ("session_id", "agent_id", "parent_agent_id")
    headers = {f"x_claude_code_{name}": "4711" for name in names}
    assert (
        talk.client.post(body(), anthropic_beta="claude-code-20250219,new", **headers).status == 200
    )
    assert "4711" not in str(talk.backend.requests[-1].headers)
    assert "client-key" not in str(talk.backend.requests[-1].headers)


def test_contract_telemetry_is_no_error(talk: Talk) -> None:
    assert talk.client.post({"events": []}, "/api/event_logging/batch").status == 204


def test_contract_a_dropped_connection_can_be_tried_again(talk: Talk) -> None:
    talk.script(Act.CLOSE)
    with pytest.raises(anthropic.APIStatusError) as caught:
        talk.ask(stream=True)
    assert caught.value.status_code in (500, 529)


def test_row_12_a_count_is_wrong_by_far(talk: Talk) -> None:
    def count(model: str) -> tuple[int, str]:
        required = {**body(tools=[WEATHER]), "model": model}
        del required["max_tokens"]
        answer = talk.client.post(required, "/v1/messages/count_tokens")
        return answer.json["input_tokens"], answer.headers["x-llm-proxy-token-count"]

    talk.script(whole(200, {"input_tokens": 728}))
    assert count("llamacpp") == (728, "exact")
    assert "get_weather" in str(talk.asked["tools"])

    estimated, how = count("learning")
    assert how == "estimated"
    for _ in range(20):  # its usage shows the error of the estimate
        usage = {"prompt_tokens": 3 * estimated, "completion_tokens": 1}
        choice = {"message": {"content": "Hi"}, "finish_reason": "stop"}
        talk.script(whole(200, {"choices": [{"index": 0, **choice}], "usage": usage}))
        talk.post(model="learning", tools=[WEATHER])
    assert count("learning")[0] > 1.5 * estimated
