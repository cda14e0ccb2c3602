"""Differences of hosted providers from OpenAI, each an option of the profile."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given

from pipeline.config.options import OptionError
from stages.events import ChatRequest
from stages.messages_api.errors import UnsupportedError
from stages.profiles.describe import profile_named
from stages.translation.request import chat_request
from tests.cases import for_each
from tests.pdfs import pdf
from tests.stages.translation.fuzz_support import quick
from tests.stages.translation.test_conversation_fuzz import TURNS, translated
from tests.support import degradations, profile, resolved

TOOL = {"name": "f", "input_schema": {"type": "object"}}
ADAPTIVE: dict[str, Any] = {"thinking": {"type": "adaptive"}}
BUDGET = {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 4000}
OFF = {"thinking": {"type": "disabled"}}
FORCED = {"tools": [TOOL], "tool_choice": {"type": "any"}}
MAPPED = {"thinking": "map"}
LEVELLED = {"thinking": "map", "output_config.effort": "map"}
#: As DeepSeek, Moonshot and Z.ai have it.
WITHOUT_BUDGET: dict[str, Any] = {
    "reasoning_request": "thinking",
    "thinking_budget": False,
    "fields": MAPPED,
}


def sent(options: dict[str, Any], **request: Any) -> ChatRequest:
    return chat_request(resolved(**request), profile(**options))


def option(options: dict[str, Any], name: str, **request: Any) -> Any:
    return sent(options, **request).options.get(name)


@for_each(
    ("request_", "thinking"),
    [
        (ADAPTIVE, {"type": "enabled"}),
        ({**ADAPTIVE, "max_tokens": 100}, {"type": "enabled"}),
        (BUDGET, {"type": "enabled"}),
        (OFF, {"type": "disabled"}),
        ({}, None),
    ],
    ids=["adaptive", "short answer", "budget", "off", "unasked"],
)
def test_row_b16_thinking_without_a_budget(request_: dict[str, Any], thinking: Any) -> None:
    result = sent(WITHOUT_BUDGET, **request_)
    assert (result.options.get("thinking"), degradations(result)) == (thinking, ())


@pytest.mark.parametrize("asked", [ADAPTIVE, OFF, {}], ids=["asked", "off", "unasked"])
def test_row_b16_a_forced_tool_turns_thinking_off(asked: dict[str, Any]) -> None:
    options = {**WITHOUT_BUDGET, "forced_tool_without_reasoning": True}
    assert option(options, "thinking", **FORCED, **asked) == {"type": "disabled"}


def test_row_b16_a_model_that_takes_adaptive_thinking_only() -> None:
    options = {**WITHOUT_BUDGET, "thinking_type": "adaptive", "can_disable_reasoning": False}
    assert option(options, "thinking", **BUDGET) == {"type": "adaptive"}
    assert option(options, "thinking", **OFF) is None


def test_row_b16_claude_still_gets_its_budget() -> None:
    options = {"reasoning_request": "thinking", "fields": MAPPED}
    assert option(options, "thinking", **BUDGET) == {"type": "enabled", "budget_tokens": 2000}
    assert "thinking:dropped" in degradations(sent(options, **ADAPTIVE, max_tokens=1000))


@for_each(
    ("request_", "effort"),
    [
        ({**ADAPTIVE, "output_config": {"effort": "medium"}}, "low"),
        ({"output_config": {"effort": "max"}}, "max"),
        (BUDGET, "low"),
        (ADAPTIVE, None),
        ({**OFF, "output_config": {"effort": "high"}}, None),
    ],
)
def test_an_effort_goes_next_to_thinking(request_: dict[str, Any], effort: str | None) -> None:
    levels = {"effort_with_thinking": True, "effort_levels": ("low", "high", "max")}
    options = {**WITHOUT_BUDGET, **levels, "fields": LEVELLED}
    assert option(options, "reasoning_effort", **request_) == effort


def test_an_effort_next_to_thinking_has_to_be_configured() -> None:
    with pytest.raises(OptionError, match="has no levels here"):
        profile(**{**WITHOUT_BUDGET, "fields": LEVELLED})


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("template", {"chat_template_kwargs": {"thinking": True}}),
        ("switch", {"thinking": True, "thinking_budget": 2000}),
    ],
)
def test_the_switch_for_reasoning_has_the_name_it_is_given(way: str, expected: Any) -> None:
    options = {"reasoning_request": way, "reasoning_switch": "thinking", "fields": MAPPED}
    result = sent(options, **BUDGET).options
    assert {name: result.get(name) for name in expected} == expected


def test_a_switch_is_turned_off_and_has_no_budget_unasked() -> None:
    options = {"reasoning_request": "switch", "fields": MAPPED}
    assert option(options, "enable_thinking", **OFF) is False
    assert option(options, "thinking_budget", **ADAPTIVE) is None
    assert option({**options, "thinking_budget": False}, "thinking_budget", **BUDGET) is None


def test_a_backend_without_levels_gets_only_the_switch() -> None:
    options = {"reasoning_request": "reasoning", "effort_levels": (), "thinking_budget": False}
    options["fields"] = MAPPED
    assert option(options, "reasoning", **BUDGET) == {"enabled": True}
    assert option(options, "reasoning", **OFF) == {"enabled": False}


def test_a_model_with_one_level_is_requested_it() -> None:
    options = {
        "reasoning_request": "effort",
        "effort_levels": ("none", "default"),
        "fields": MAPPED,
    }
    assert option(options, "reasoning_effort", **ADAPTIVE) == "default"
    assert option(options, "reasoning_effort", **OFF) == "none"


BEGUN: list[Any] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize("member", ["prefix", "partial"])
def test_row_b20_the_begun_response_is_marked_on_its_message(member: str) -> None:
    result = sent({"prefill_member": member}, messages=BEGUN)
    assert result.messages[-1] == {"role": "assistant", "content": "b", member: True}
    assert member not in result.options


def test_row_b20_no_other_message_is_marked() -> None:
    result = sent({"prefill_member": "prefix"}, messages=[*BEGUN, {"role": "user", "content": "c"}])
    assert all("prefix" not in message for message in result.messages)


@pytest.mark.parametrize("stream", [True, False])
def test_row_b21_a_backend_that_only_streams_gets_stream_true(stream: bool) -> None:
    result = sent({"stream": "always"}, stream=stream)
    assert result.stream
    assert result.options["stream_options"] == {"include_usage": True}
    assert sent({}, stream=stream).stream is stream


def test_row_b21_a_stream_repeats_no_begun_response() -> None:
    options = {"stream": "always", "echoes_prefill": True}
    assert sent(options, messages=BEGUN).echoed_prefill == ""
    assert sent({"echoes_prefill": True}, messages=BEGUN).echoed_prefill == "b"


@pytest.mark.parametrize(("null", "content"), [(True, None), (False, "")])
def test_calls_without_words_have_the_content_that_is_taken(null: bool, content: Any) -> None:
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": [call]}]
    result = sent({"null_content": null}, messages=turns, tools=[TOOL])
    assert result.messages[1]["content"] == content
    spoken = [{"type": "text", "text": "b"}, call]
    turns[1] = {"role": "assistant", "content": spoken}
    assert sent({"null_content": null}, messages=turns).messages[1]["content"] == "b"


TOOLS = [{**TOOL, "name": f"f{n}"} for n in range(4)]


def names(request: ChatRequest) -> list[str]:
    return [tool["function"]["name"] for tool in request.options["tools"]]


def test_tools_beyond_the_limit_are_left_out_and_reported() -> None:
    result = sent({"max_tools": 2}, tools=TOOLS)
    assert (names(result), degradations(result)) == (["f0", "f1"], ("tools:cut",))
    assert degradations(sent({"max_tools": 4}, tools=TOOLS)) == ()


@pytest.mark.parametrize("named", [True, False], ids=["by name", "as the only one"])
def test_the_tool_that_is_requested_is_within_the_limit(named: bool) -> None:
    choice = {"type": "tool", "name": "f3"}
    options = {"max_tools": 2, "named_tool_choice": named}
    assert "f3" in names(sent(options, tools=TOOLS, tool_choice=choice))


def test_with_strict_too_many_tools_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="tools"):
        chat_request(resolved(tools=TOOLS), profile(max_tools=2), strict=True)


@pytest.mark.parametrize("name", ["openai", "azure"])
@pytest.mark.parametrize("title", [None, "Report"])
def test_row_c19_a_pdf_is_a_file_where_files_are_taken(title: str | None, name: str) -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": pdf("BODY")}
    block = {"type": "document", "source": source, **({"title": title} if title else {})}
    asked = [{"role": "user", "content": [block, {"type": "text", "text": "What is it?"}]}]
    result = chat_request(resolved(messages=asked), profile_named(name))
    file, text = result.messages[0]["content"]
    data = f"data:application/pdf;base64,{source['data']}"
    expected = {"filename": title or "document.pdf", "file_data": data}
    assert file == {"type": "file", "file": expected}
    assert text == {"type": "text", "text": "What is it?"}


@given(TURNS)
@quick
def test_roles_alternate_where_two_facts_say_so(turns: list[dict[str, Any]]) -> None:
    """Perplexity and some templates want user and assistant in turn, the user first."""
    result = translated(turns, profile(assistant_first=False, allows_user_after_tool=False))
    spoken = [message["role"] for message in result if not message.get("tool_calls")]
    spoken = [role for role in spoken if role != "tool"]
    assert all(before != after for before, after in itertools.pairwise(spoken))
    assert spoken[:1] in (["user"], [])
