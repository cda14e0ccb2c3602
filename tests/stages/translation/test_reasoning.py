"""Reasoning, asked for and given back."""

from __future__ import annotations

import time
from typing import Any

import pytest

from stages.chat_completions.opaque_members import OpaqueFragments
from stages.messages_api import validation
from stages.messages_api.accumulate import MessageBuilder
from stages.messages_api.stream_events import BlockDelta
from stages.translation.content_parts import ThinkingPart
from stages.translation.envelope import Envelope, seal
from stages.translation.request import chat_request
from stages.translation.response import ResponseTranslator
from tests.cases import for_each
from tests.stages.translation.support import message
from tests.support import degradations, profile, resolved

ADAPTIVE = {"type": "adaptive"}
BUDGET = {"type": "enabled", "budget_tokens": 2000}
OFF = {"type": "disabled"}
ASKED = {"thinking": "map", "output_config.effort": "map"}
KEPT = {**ASKED, "thinking_block": "map"}


def asked(way: str, levels: tuple[str, ...] = ("low", "medium", "high"), **body: Any) -> Any:
    effort = "map" if way in ("effort", "reasoning") else "drop"
    fields = {**ASKED, "output_config.effort": effort}
    value = profile(reasoning_request=way, effort_levels=levels, fields=fields)
    request = chat_request(resolved(**{"max_tokens": 5000, **body}), value)
    return {k: v for k, v in request.options.items() if k != "max_tokens"}


@for_each(
    ("way", "thinking", "effort", "options"),
    [
        ("effort", ADAPTIVE, None, {"reasoning_effort": "high"}),
        ("effort", ADAPTIVE, "max", {"reasoning_effort": "high"}),
        ("effort", BUDGET, None, {"reasoning_effort": "low"}),
        ("effort", None, "low", {"reasoning_effort": "low"}),
        ("effort", OFF, None, {}),
        ("reasoning", ADAPTIVE, "high", {"reasoning": {"effort": "high"}}),
        ("reasoning", BUDGET, None, {"reasoning": {"max_tokens": 2000}}),
        ("reasoning", OFF, None, {"reasoning": {"enabled": False}}),
        ("template", ADAPTIVE, None, {"chat_template_kwargs": {"enable_thinking": True}}),
        ("template", OFF, None, {"chat_template_kwargs": {"enable_thinking": False}}),
        ("template", None, "low", {}),
        ("thinking", BUDGET, None, {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        ("thinking", OFF, None, {"thinking": {"type": "disabled"}}),
    ],
)
def test_pitfall_17_thinking_is_requested_in_the_backend_s_way(
    way: str, thinking: Any, effort: str | None, options: dict[str, Any]
) -> None:
    config = {"effort": effort} if effort else None

    assert asked(way, thinking=thinking, output_config=config) == options


@pytest.mark.parametrize(
    ("way", "key"), [("thinking", "budget_tokens"), ("reasoning", "max_tokens")]
)
def test_row_c6_a_budget_over_the_limit_is_lowered_and_reported(way: str, key: str) -> None:
    wide = {"type": "enabled", "budget_tokens": 8000}
    value = profile(reasoning_request=way, fields={"thinking": "map"})
    for limit, budget, notes in (
        (4000, 3999, ("thinking.budget_tokens:lowered",)),
        (8000, 7999, ("thinking.budget_tokens:lowered",)),
        (8001, 8000, ()),
        (None, 8000, ()),  # to count tokens
    ):
        result = chat_request(resolved(thinking=wide, max_tokens=limit), value)
        assert result.options[way][key] == budget
        assert degradations(result) == notes


@for_each(
    ("max_tokens", "budget"), [(3000, 2999), (1025, 1024), (9000, 4096), (1024, None), (1, None)]
)
def test_a_budget_is_below_the_output_limit(max_tokens: int, budget: int | None) -> None:
    reported = asked("thinking", thinking=ADAPTIVE, max_tokens=max_tokens)
    assert reported.get("thinking", {}).get("budget_tokens") == budget


def test_thinking_beyond_the_output_limit_is_reported() -> None:
    value = profile(reasoning_request="thinking", fields={"thinking": "map"})
    request = chat_request(resolved(thinking=ADAPTIVE, max_tokens=1000), value)
    assert degradations(request) == ("thinking:dropped",)


@pytest.mark.parametrize("way", ["effort", "reasoning", "template", "thinking"])
def test_row_b10_a_model_that_always_reasons_is_not_switched_off(way: str) -> None:
    fields = {"thinking": "map"}
    levels = ("none", "low")
    value = profile(
        reasoning_request=way, effort_levels=levels, fields=fields, can_disable_reasoning=False
    )
    result = chat_request(resolved(thinking=OFF), value)

    assert not result.options.keys() & {"reasoning", "reasoning_effort", "thinking"}
    assert "chat_template_kwargs" not in result.options


@pytest.mark.parametrize("policy", ["drop", "warn"])
def test_row_b10_a_thinking_policy_covers_disabled_thinking_too(policy: Any) -> None:
    value = profile(reasoning_request="reasoning", fields={"thinking": policy})
    result = chat_request(resolved(thinking=OFF), value)

    assert "reasoning" not in result.options
    assert degradations(result) == ()


@for_each("thinking", [None, ADAPTIVE, BUDGET, OFF])
@for_each("effort", [None, "high"])
def test_row_b9_tools_exclude_reasoning_if_configured(thinking: Any, effort: str | None) -> None:
    value = profile(
        reasoning_request="effort",
        effort_levels=("none", "low", "high"),
        fields=ASKED,
        tools_without_reasoning=True,
    )
    tools = [{"name": "f", "input_schema": {"type": "object"}}]
    config = {"effort": effort} if effort else None
    result = chat_request(resolved(thinking=thinking, tools=tools, output_config=config), value)
    plain = chat_request(resolved(thinking=ADAPTIVE), value)

    assert result.options["reasoning_effort"] == "none"
    asked = thinking in (ADAPTIVE, BUDGET) or effort
    assert degradations(result) == (("thinking:dropped",) if asked else ())
    assert plain.options["reasoning_effort"] == "high"


def test_row_b16_a_forced_tool_excludes_reasoning_if_configured() -> None:
    value = profile(
        reasoning_request="thinking",
        fields={"thinking": "map"},
        forced_tool_without_reasoning=True,
    )
    tools = [{"name": "f", "input_schema": {"type": "object"}}]
    forced = chat_request(resolved(tools=tools, tool_choice={"type": "any"}), value)
    free = chat_request(resolved(tools=tools), value)

    assert forced.options["thinking"] == {"type": "disabled"}
    assert "thinking" not in free.options


def test_not_thinking_is_requested_where_there_is_a_level_for_it() -> None:
    assert asked("effort", ("none", "low"), thinking=OFF) == {"reasoning_effort": "none"}


def test_thinking_that_cannot_be_requested_is_reported() -> None:
    request = chat_request(resolved(thinking=ADAPTIVE, output_config={"effort": "low"}), profile())

    assert degradations(request) == ("thinking:dropped", "output_config.effort:dropped")


@pytest.mark.parametrize(("policy", "notes"), [("drop", ()), ("warn", ("thinking_block:dropped",))])
def test_reasoning_does_not_go_back_where_the_policy_drops_it(
    policy: str, notes: tuple[str, ...]
) -> None:
    value = profile(
        reasoning_request="effort",
        reasoning_history="reasoning",
        fields={**KEPT, "thinking_block": policy},
    )
    block = reply({"reasoning": "hm", "content": "4"}, value, thinking=ADAPTIVE)
    request = sent_again(block, value)

    assert request.messages[1] == {"role": "assistant", "content": "4"}
    assert degradations(request) == notes


def reply(delta: dict[str, Any], value: Any, **body: Any) -> dict[str, Any]:
    """The thinking block that a backend's reasoning becomes."""
    request = chat_request(resolved(max_tokens=5000, **body), value)
    translator, builder = ResponseTranslator(request), MessageBuilder()
    chunk = {"choices": [{"delta": delta, "finish_reason": "stop"}]}
    for event in [*translator.translate(chunk), *translator.end(True)]:
        builder.add(event)
    block: dict[str, Any] = builder.message["content"][0]
    return block


def sent_again(block: dict[str, Any], value: Any, backend_changes: bool = False) -> Any:
    if backend_changes:
        block = {**block, "signature": seal(Envelope("another"))}
    turn = {"role": "assistant", "content": [block, {"type": "text", "text": "4"}]}
    messages = [{"role": "user", "content": "2+2"}, turn, {"role": "user", "content": "sure?"}]
    return chat_request(resolved(messages=messages), value)


BETWEEN = {"type": "between_tools"}


@pytest.mark.parametrize(
    ("way", "options"),
    [
        ("effort", {"reasoning_effort": "none"}),
        ("reasoning", {"reasoning": {"enabled": False}}),
        ("template", {"chat_template_kwargs": {"enable_thinking": False}}),
        ("thinking", {"thinking": {"type": "disabled"}}),
    ],
)
def test_progress_notes_request_no_thinking_and_are_reported(
    way: str, options: dict[str, Any]
) -> None:
    effort = {} if way in ("template", "thinking") else {"output_config.effort": "map"}
    value = profile(
        reasoning_request=way,
        effort_levels=("none", "low", "high"),
        fields={"thinking": "map", **effort},
    )
    result = chat_request(resolved(thinking=BETWEEN, output_config={"effort": "high"}), value)
    result.options.pop("max_tokens")
    assert result.options == options
    assert degradations(result)[0] == "thinking.between_tools:dropped"


@pytest.mark.parametrize(("policy", "notes"), [("drop", ()), ("warn", ("thinking:dropped",))])
def test_notes_between_tools_follow_the_policy_for_thinking(
    policy: str, notes: tuple[str, ...]
) -> None:
    result = chat_request(resolved(thinking=BETWEEN), profile(fields={"thinking": policy}))
    assert (result.options, degradations(result)) == ({"max_tokens": 100}, notes)


def test_the_effort_a_system_message_wants_last_counts() -> None:
    value = profile(reasoning_request="effort", fields=ASKED)
    turns: list[dict[str, Any]] = [{"role": "user", "content": "Q"}]

    def effort() -> Any:
        event = resolved(messages=turns, output_config={"effort": "low"})
        assert list(validation.problems(event.request)) == []
        return chat_request(event, value).options["reasoning_effort"]

    assert effort() == "low"
    turns.append({"role": "system", "content": [], "output_config": {"effort": "high"}})
    assert effort() == "high"
    turns += [{"role": "assistant", "content": "A"}, {"role": "user", "content": "Q"}]
    turns.append({"role": "system", "content": "Be brief.", "output_config": {}})
    assert effort() == "high"
    turns.append({"role": "system", "content": "", "output_config": {"effort": "medium"}})
    assert effort() == "medium"


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
@pytest.mark.parametrize("display", ["summarized", "omitted"])
def test_pitfall_23_reasoning_goes_back_in_the_field_it_came_in(field: str, display: str) -> None:
    value = profile(reasoning_request="effort", reasoning_history=field, fields=KEPT)
    block = reply({field: "hm", "content": "4"}, value, thinking={**ADAPTIVE, "display": display})
    request = sent_again(block, value)

    assert block["thinking"] == ("" if display == "omitted" else "hm")
    assert request.messages[1] == {"role": "assistant", "content": "4", field: "hm"}
    assert degradations(request) == ()


def test_structured_reasoning_goes_back_verbatim() -> None:
    value = profile(reasoning_request="effort", reasoning_history="reasoning_details", fields=KEPT)
    details = [{"type": "reasoning.text", "text": "hm", "signature": "s"}, {"type": "encrypted"}]
    delta = {"reasoning": "hm", "reasoning_details": details, "content": "4"}
    block = reply(delta, value, thinking=ADAPTIVE)

    assert block["thinking"] == "hm"
    assert sent_again(block, value).messages[1]["reasoning_details"] == details


def test_reasoning_that_came_without_details_goes_back_as_text() -> None:
    value = profile(reasoning_request="effort", reasoning_history="reasoning_details", fields=KEPT)
    block = reply({"reasoning": "hm", "content": "4"}, value, thinking=ADAPTIVE)
    request = sent_again(block, value)

    assert request.messages[1] == {"role": "assistant", "content": "4", "reasoning": "hm"}
    assert degradations(request) == ()


def test_streamed_structured_reasoning_goes_back_whole() -> None:
    value = profile(reasoning_request="effort", reasoning_history="reasoning_details", fields=KEPT)
    claude = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    hidden = {"type": "reasoning.encrypted", "data": "x", "index": 0}
    fragments = [
        {**claude, "text": "h", "signature": None},
        {**claude, "text": "m"},
        {**claude, "signature": "s1"},
        {**claude, "text": "next", "signature": "s2"},
        hidden,
        hidden,
        {**claude, "text": "other", "index": 1},
    ]
    request = chat_request(resolved(thinking=ADAPTIVE), value)
    chunks = [{"choices": [{"delta": {"reasoning_details": [fragment]}}]} for fragment in fragments]
    block = message([*chunks, {"choices": [{"delta": {"content": "4"}}]}], request=request)

    assert block["content"][0]["thinking"] == "hmnextother"
    assert sent_again(block["content"][0], value).messages[1]["reasoning_details"] == [
        {**claude, "text": "hm", "signature": "s1"},
        {**claude, "text": "next", "signature": "s2"},
        hidden,
        hidden,
        {**claude, "text": "other", "index": 1},
    ]


@pytest.mark.untraced
def test_long_reasoning_takes_linear_time() -> None:
    began = time.process_time()
    attached = OpaqueFragments()
    thought = ThinkingPart(owner="a", hidden=True, attached=attached)
    thought.open()
    for _ in range(100_000):
        thought.add("a thought like another ")
        thought.take(last=False)
        detail = {"type": "reasoning.text", "index": 0, "text": "a thought like "}
        attached.add({"reasoning_details": [detail]})
    [(_, signature)] = thought.take(last=True)
    assert len(signature) > 500_000
    assert time.process_time() - began < 5  # 0.3 s; if all of it is copied each time, 30 s


def test_unsigned_reasoning_of_another_backend_is_dropped() -> None:
    value = profile(reasoning_request="effort", reasoning_history="reasoning_details", fields=KEPT)
    block = reply({"reasoning": "hm", "content": "4"}, value, thinking=ADAPTIVE)
    request = sent_again(block, value, backend_changes=True)

    assert request.messages[1] == {"role": "assistant", "content": "4"}
    assert degradations(request) == ("thinking_block:dropped",)


def test_a_signature_is_the_last_delta_of_its_block() -> None:
    request = chat_request(
        resolved(thinking=ADAPTIVE), profile(reasoning_request="effort", fields=ASKED)
    )
    translator = ResponseTranslator(request)
    events = translator.translate({"choices": [{"delta": {"reasoning": "a"}}]})
    events += translator.translate({"choices": [{"delta": {"reasoning": "b", "content": "c"}}]})
    kinds = [event.kind for event in events if isinstance(event, BlockDelta)]

    assert kinds == ["thinking_delta", "thinking_delta", "signature_delta", "text_delta"]
