"""Rows of the list of pitfalls about what of a request goes to a backend, and in which words."""

from __future__ import annotations

from typing import Any

from tests.conformance.support import WEATHER, Talk, result, roles, said, use
from tests.pdfs import pdf
from tests.wire.chat import whole

MARK = {"type": "ephemeral", "ttl": "1h"}


def test_row_15_cache_control_is_refused(talk: Talk) -> None:
    talk.history(
        [{**said("Hi"), "cache_control": MARK}],
        [{**use("a"), "cache_control": MARK}],
        [{**result("a", [{**said("sunny"), "cache_control": MARK}]), "cache_control": MARK}],
        system=[{**said("Be brief."), "cache_control": {**MARK, "scope": "global"}}],
        tools=[{**WEATHER, "cache_control": MARK}],
        cache_control=MARK,
    )
    assert "cache_control" not in str(talk.asked)
    assert "ephemeral" not in str(talk.asked)


def test_row_16_extra_inputs_are_not_permitted(talk: Talk) -> None:
    talk.answers(False, content="Well.")
    answer = talk.post(
        context_management={"edits": [{"type": "clear_tool_uses_20250919"}]},
        tomorrows_field={"a": 1},
        tools=[{**WEATHER, "defer_loading": True, "eager_input_streaming": True}],
    )
    assert answer.status == 200
    reported = answer.headers["x-llm-proxy-degraded"]
    assert "context_management" in reported
    assert "tomorrows_field" in reported
    known = {"model", "messages", "max_tokens", "stream", "tools"}
    assert talk.asked.keys() == known
    assert talk.asked["tools"][0]["function"].keys() == {"name", "description", "parameters"}


def test_row_18_a_system_message_in_the_middle(talk: Talk) -> None:
    middle = {"role": "system", "content": "Speak French."}
    history = ("Hi", [use("a")], middle, {"role": "user", "content": [result("a"), said("So?")]})
    sent = talk.history(*history)
    assert roles(sent) == ["user", "assistant", "tool", "user"]
    assert "<system-reminder>\nSpeak French." in sent[-1]["content"]
    kept = talk.history(
        "Hi", [said("Hello")], middle, {"role": "user", "content": "So?"}, model="openai"
    )
    assert roles(kept) == ["user", "assistant", "system", "user"]


def test_row_19_each_request_evaluates_the_whole_prompt_again(talk: Talk) -> None:
    """The attribution line is left out. Affinity of a session is not there yet."""
    prompts = []
    for cch in ("a1b2c", "d3e4f"):
        line = f"x-anthropic-billing-header: cc_version=2.1; cch={cch};"
        talk.history("Hi", system=[said(line), said("You are an agent.")], tools=[WEATHER])
        prompts.append(talk.asked)
    assert prompts[0] == prompts[1]
    assert prompts[0]["messages"][0] == {"role": "system", "content": "You are an agent."}


def document(**source: Any) -> dict[str, Any]:
    return {"type": "document", "title": "a.pdf", "source": source}


def test_row_29_a_pdf_is_ignored_in_silence(talk: Talk) -> None:
    page = {"type": "base64", "media_type": "application/pdf", "data": pdf("Nine lives")}
    (sent,) = talk.history([document(**page), said("What is it?")])
    assert "Nine lives" in sent["content"]
    inline = document(type="text", media_type="text/plain", data="Plain words")
    (sent,) = talk.history([inline, document(type="content", content=[said("Parts")])])
    assert "Plain words" in sent["content"]
    assert "Parts" in sent["content"]
    there = document(type="url", url="https://example.com/a.pdf")
    refused = talk.post(messages=[{"role": "user", "content": [there]}])
    assert refused.error == (400, "invalid_request_error")


def test_row_30_max_tokens_or_max_completion_tokens(talk: Talk) -> None:
    talk.history("Hi", model="openai")
    assert talk.asked["max_completion_tokens"] == 100
    assert "max_tokens" not in talk.asked
    talk.history("Hi", model="vllm")
    assert talk.asked["max_tokens"] == 100
    assert "max_completion_tokens" not in talk.asked


def test_row_32_sampling_that_a_reasoning_model_refuses(talk: Talk) -> None:
    talk.answers(False, content="Well.")
    answer = talk.post(model="reasoner", temperature=0.5, top_p=0.9)
    assert not {"temperature", "top_p"} & talk.asked.keys()
    assert answer.headers["x-llm-proxy-degraded"] == "temperature:dropped"
    talk.history("Hi", temperature=0.5, top_p=0.9)
    assert (talk.asked["temperature"], talk.asked["top_p"]) == (0.5, 0.9)


def test_row_39_a_trailing_assistant_message(talk: Talk) -> None:
    begun = ("Count to three.", [said("One, two,")])
    sent = talk.history(*begun, model="vllm")
    assert sent[-1] == {"role": "assistant", "content": "One, two,"}
    assert talk.asked["continue_final_message"] is True
    assert talk.asked["add_generation_prompt"] is False
    messages = [
        {"role": "user", "content": begun[0]},
        {"role": "assistant", "content": begun[1]},
    ]
    refused = talk.post(model="openai", messages=messages)
    assert refused.error == (400, "invalid_request_error")


def test_row_31_input_and_limit_exceed_the_window(talk: Talk) -> None:
    talk.history("Hi " * 1000, model="small", max_tokens=64_000)
    assert talk.asked["max_tokens"] == 4095  # whatever the prompt has, by no estimate

    refusal = (
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens "
        "(1000 in the messages, 4000 in the completion). Please reduce the length."
    )
    talk.answers(False, content="Well.")
    well = talk.backend.responses[0]
    talk.backend.responses = [(whole(400, {"error": {"message": refusal}}),), well]
    before = len(talk.backend.requests)
    assert talk.post(max_tokens=4000).status == 200
    limits = [request.body["max_tokens"] for request in talk.backend.requests[before:]]
    assert limits[0] == 4000
    assert 3000 < limits[1] < 3097
