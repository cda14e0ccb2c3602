"""What clients send and other proxies refuse: rows C of the list of faults, over a real socket."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.support import MODES, WEATHER, Talk, result, roles, said, use
from tests.support import body

ADVISOR: Any = {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5"}
SEARCH: Any = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
INTERLEAVED = {"anthropic_beta": "claude-code-20250219, interleaved-thinking-2025-05-14"}
WIDE: Any = {"max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 8000}}


@MODES
def test_row_c4_the_advisor_is_left_out_and_reported(talk: Talk, stream: bool) -> None:
    talk.answers(stream, content="Well.")
    answer = talk.post(stream=stream, tools=[WEATHER, ADVISOR])
    assert answer.status == 200
    assert answer.headers["x-llm-proxy-degraded"] == "tools.1 (advisor_20260301):dropped"
    assert [tool["function"]["name"] for tool in talk.asked["tools"]] == ["get_weather"]


def test_row_c4_its_tokens_are_counted_too(talk: Talk) -> None:
    asked = {**body(tools=[WEATHER, ADVISOR]), "max_tokens": None}
    assert talk.client.post(asked, "/v1/messages/count_tokens").status == 200


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_row_c4_web_search_alone_is_refused(talk: Talk, path: str) -> None:
    answer = talk.post(path, tools=[SEARCH])
    assert answer.error == (400, "invalid_request_error")
    message = answer.json["error"]["message"]
    assert message.startswith("tools.0 (web_search_20250305): only Anthropic's servers can run it")


@pytest.mark.parametrize("model", ["claude-test", "openai", "databricks"])
def test_row_c5_a_conversation_that_begins_with_the_assistant(talk: Talk, model: str) -> None:
    opened = {"role": "assistant", "content": "How can I help?"}
    sent = talk.history(opened, {"role": "user", "content": "Hi"}, model=model)
    assert [(each["role"], each["content"]) for each in sent] == [
        ("assistant", "How can I help?"),
        ("user", "Hi"),
    ]


def test_row_c5_a_call_comes_first(talk: Talk) -> None:
    call = {"role": "assistant", "content": [use("a")]}
    sent = talk.history(call, {"role": "user", "content": [result("a")]}, tools=[WEATHER])
    assert roles(sent) == ["assistant", "tool"]


@pytest.mark.parametrize("model", ["claude-test", "vllm", "openrouter"])
def test_row_c6_a_budget_over_max_tokens_with_the_beta(talk: Talk, model: str) -> None:
    talk.answers(False, content="Well.")
    asked = body(model=model, tools=[WEATHER], **WIDE)
    assert talk.client.post(asked, **INTERLEAVED).status == 200
    assert talk.asked["max_tokens"] == 4000
    assert talk.asked.get("reasoning", {}).get("max_tokens", 0) < 4000
    refused = talk.client.post(asked, anthropic_beta="claude-code-20250219")
    assert refused.error == (400, "invalid_request_error")
    assert "must be greater than `thinking.budget_tokens`" in refused.json["error"]["message"]


def test_row_c6_the_header_may_come_twice(talk: Talk) -> None:
    talk.answers(False, content="Well.")
    twice = "a-beta\r\nanthropic-beta: interleaved-thinking-2025-05-14"
    assert talk.client.post(body(**WIDE), anthropic_beta=twice).status == 200


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_row_c7_an_unknown_model_is_named_first(talk: Talk, path: str) -> None:
    answer = talk.post(path, model="no-such-model")
    assert answer.error == (400, "invalid_request_error")
    message = answer.json["error"]["message"]
    assert message.startswith("model: no-such-model is not served here; there are: claude-test")


@pytest.mark.parametrize("mark", ["[1m]", "[1M]", "[1m][1m]"])
def test_row_c10_the_mark_for_the_clients_window(talk: Talk, mark: str) -> None:
    talk.answers(False, content="Well.")
    answer = talk.post(model=f"vllm{mark}")
    assert answer.status == 200
    assert answer.json["model"] == f"vllm{mark}"
    assert talk.asked["model"] == "vllm"
    assert talk.client.get(f"/v1/models/vllm{mark}").json["id"] == "vllm"


def test_row_c11_empty_members_ask_for_nothing(talk: Talk) -> None:
    talk.answers(False, content="Well.")
    empty: dict[str, Any] = {
        name: [] for name in ("mcp_servers", "tools", "stop_sequences", "system")
    }
    empty |= {name: {} for name in ("container", "metadata", "output_config", "diagnostics")}
    answer = talk.post(context_management={"edits": []}, **empty)
    assert answer.status == 200
    assert "x-llm-proxy-degraded" not in answer.headers
    assert talk.asked.keys() == {"model", "messages", "max_tokens", "stream"}


@pytest.mark.parametrize("model", ["vllm", "openai"])
def test_row_c14_strict_tools_are_mapped(talk: Talk, model: str) -> None:
    talk.answers(False, content="Well.")
    schema = {**WEATHER["input_schema"], "required": ["city"], "additionalProperties": False}
    answer = talk.post(model=model, tools=[{**WEATHER, "input_schema": schema, "strict": True}])
    assert "x-llm-proxy-degraded" not in answer.headers
    assert talk.asked["tools"][0]["function"]["strict"] is True


def test_row_c14_strict_tools_are_reported_where_they_are_not_taken(talk: Talk) -> None:
    talk.answers(False, content="Well.")
    answer = talk.post(tools=[{**WEATHER, "strict": True}])
    assert answer.headers["x-llm-proxy-degraded"] == "tools.strict:dropped"
    assert "strict" not in talk.asked["tools"][0]["function"]


@pytest.mark.parametrize("content", [{}, {"content": []}, {"content": ""}], ids=str)
def test_row_c16_a_system_message_that_only_sets_the_effort(talk: Talk, content: Any) -> None:
    low = {"role": "system", "output_config": {"effort": "low"}, **content}
    user = {"role": "user", "content": "So?"}
    sent = talk.history("Hi", [said("Hello")], user, low, model="openai")
    assert roles(sent) == ["user", "assistant", "user"]
    assert talk.asked["reasoning_effort"] == "low"


@pytest.mark.parametrize("config", [None, {}, {"effort": None}])
def test_row_c16_one_that_sets_nothing_is_refused(talk: Talk, config: Any) -> None:
    nothing = {"role": "system", "output_config": config}
    answer = talk.post(messages=[{"role": "user", "content": "Hi"}, nothing])
    assert answer.error == (400, "invalid_request_error")
    assert answer.json["error"]["message"].startswith("messages.1: all messages must have")


def test_row_c17_another_display_is_refused_with_its_path(talk: Talk) -> None:
    answer = talk.post(thinking={"type": "adaptive", "display": "bogus"})
    assert answer.error == (400, "invalid_request_error")
    assert answer.json["error"]["message"].startswith("thinking.display: Input should be 'summ")


@MODES
def test_duplicate_keys_are_reported_and_the_last_counts(talk: Talk, stream: bool) -> None:
    talk.answers(stream, content="Well.")
    raw = b'{"max_tokens":1,"stream":%s,' % (b"true" if stream else b"false")
    data = raw + b'"model":"claude-test","messages":[{"role":"user","content":"a"}],"max_tokens":7}'
    answer = talk.client.post(data)
    assert answer.headers["x-llm-proxy-degraded"] == "duplicate_keys:dropped"
    assert talk.asked["max_tokens"] == 7
