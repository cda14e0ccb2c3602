"""What is found out from each kind of reply: pure functions, one row per fact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from proxy.probe import conversation, reasoning, sampling
from proxy.probe.endpoints import endpoint_questions
from proxy.probe.interview import questions
from proxy.probe.question import Question
from proxy.probe.reply import Reply
from proxy.probe.tools import tool_questions
from stages.profiles.profile import Profile
from stages.translation.reasoning_options import LEVELS
from tests.cases import for_each
from tests.support import profile

NO = Reply(400, "400: unknown field")
FAILED = Reply(500, "500: something went wrong")


def said(
    text: str = "Hello", finish: str = "stop", tokens: int | None = None, **more: Any
) -> Reply:
    choice = {"message": {"content": text, **more}, "finish_reason": finish}
    usage = {} if tokens is None else {"usage": {"completion_tokens": tokens}}
    return Reply(200, "", ({"choices": [choice], **usage},))


def called(*names: str) -> Reply:
    return said("", tool_calls=[{"function": {"name": name}} for name in names])


def body(**members: Any) -> Reply:
    return Reply(200, "", (members,))


def question(name: str, **config: Any) -> Question:
    (found,) = [q for q in _all(profile(**config)) if q.name == name]
    return found


def _all(config: Profile) -> list[Question]:
    return [sampling.limit_question(config), *questions(config, "some-model")]


OK = said()
CUT = said("1, 2,", "length")
EMPTY = said("", "length")
COPIED = said("[list] 1, 2, 3, 4, 5")
CONTINUE = {"add_generation_prompt": False, "continue_final_message": True}

ROWS: list[tuple[str, Sequence[Reply], dict[str, Any]]] = [
    ("the output limit", [CUT], {"max_tokens_field": "max_tokens"}),
    ("the output limit", [said(tokens=8)], {"max_tokens_field": "max_tokens"}),
    ("the output limit", [NO, CUT], {"max_tokens_field": "max_completion_tokens"}),
    ("the output limit", [said(tokens=60), CUT], {"max_tokens_field": "max_completion_tokens"}),
    ("the output limit", [said(tokens=60), said(tokens=60)], {}),
    ("the output limit", [NO, said(tokens=3)], {"max_tokens_field": "max_completion_tokens"}),
    ("the output limit", [said(tokens=3), said(tokens=3)], {}),
    ("the output limit", [said("x" * 400), NO], {}),
    ("stream_options", [body(usage={"completion_tokens": 3})], {"stream_options": True}),
    ("stream_options", [body()], {"stream_options": False}),
    ("stream_options", [NO], {"stream_options": False}),
    (
        "stop sequences",
        [said("1, 2, 3,")],
        {"max_stop_sequences": None, "fields.stop_sequences": "emulate"},
    ),
    *(
        (
            "stop sequences",
            [body(choices=[{"delta": {"content": "1, 2, 3,"}, name: "4"}])],
            {"max_stop_sequences": None, "fields.stop_sequences": "map"},
        )
        for name in ("stop_reason", "matched_stop")
    ),
    (
        "stop sequences",
        [NO, said("1, 2, 3, 4, 5"), said("1, 2, 3,")],
        {"max_stop_sequences": 4, "fields.stop_sequences": "emulate"},
    ),
    (
        "stop sequences",
        [said("1, 2, 3, 4, 5")] * 4,
        {"max_stop_sequences": 0, "fields.stop_sequences": "emulate"},
    ),
    ("temperature", [OK, OK], {"fields.temperature": "map"}),
    ("temperature", [NO, NO], {"fields.temperature": "warn"}),
    ("top_k", [said("a"), said("a"), said("b")], {"fields.top_k": "map"}),
    ("top_k", [said("a"), said("b"), said("c")], {}),
    ("top_k", [said("a"), said("a"), said("a")], {}),
    ("top_k", [said("a"), NO, said("b")], {"fields.top_k": "warn"}),
    ("top_k", [said("a"), NO, NO], {}),
    ("top_k", [EMPTY, EMPTY, EMPTY], {}),
    ("response_format", [said(' {"number": 1}')], {"fields.output_config.format": "map"}),
    ("response_format", [OK], {"fields.output_config.format": "reject"}),
    ("response_format", [NO], {"fields.output_config.format": "reject"}),
    ("response_format", [EMPTY], {}),
    ("tools", [OK], {}),
    ("tool_choice required", [called("weather")], {"fields.tool_choice": "map"}),
    ("tool_choice required", [OK], {"fields.tool_choice": "warn"}),
    ("tool_choice required", [NO], {"fields.tool_choice": "warn"}),
    ("tool_choice required", [EMPTY], {}),
    ("tool_choice required", [OK, called("weather")], {"fields.tool_choice": "map"}),
    ("tool_choice by name", [called("time")], {"named_tool_choice": True}),
    ("tool_choice by name", [called("weather")], {"named_tool_choice": False}),
    ("tool_choice by name", [OK], {"named_tool_choice": False}),
    ("tool_choice by name", [NO], {"named_tool_choice": False}),
    ("tool_choice by name", [EMPTY], {}),
    # llama.cpp takes a name as `auto`; a model that is cut talking of the weather ends a greeting.
    ("tool_choice by name", [CUT, OK], {"named_tool_choice": False}),
    ("tool_choice by name", [CUT, called("time")], {"named_tool_choice": True}),
    ("tool_choice by name", [CUT, CUT], {}),
    ("tool_choice by name", [EMPTY, called("weather")], {"named_tool_choice": False}),
    # Row L2: what was cut may have become a call.
    ("tool_choice by name", [said("<tool_call>", "length")], {}),
    ("tool_choice required", [said("<tool_call>", "length")], {}),
    ("response_format", [CUT], {}),
    ("a system message in the middle", [CUT], {}),
    ("stop sequences", [said("Here they are:", "length")], {}),
    (
        "parallel_tool_calls",
        [OK, NO],
        {"parallel_tool_calls": "when-false", "fields.disable_parallel_tool_use": "map"},
    ),
    (
        "parallel_tool_calls",
        [NO, NO],
        {"parallel_tool_calls": "never", "fields.disable_parallel_tool_use": "warn"},
    ),
    ("parallel_tool_calls", [OK, OK], {}),
    ("strict in tools", [OK, NO], {"fields.tools.strict": "map"}),
    ("strict in tools", [NO, NO], {"fields.tools.strict": "warn"}),
    ("strict with an optional argument", [OK], {"strict_needs_closed_schema": False}),
    ("strict with an optional argument", [NO], {"strict_needs_closed_schema": True}),
    ("long tool names", [OK], {"tool_name_limit": 128}),
    ("long tool names", [NO, OK], {"tool_name_limit": 65}),
    ("long tool names", [NO, NO], {"tool_name_limit": 64}),
    ("keywords in tool schemas", [OK], {"unsupported_schema_keywords": ()}),
    (
        "keywords in tool schemas",
        [NO, NO, OK, OK, OK, NO],
        {"unsupported_schema_keywords": ("$schema", "default")},
    ),
    ("keywords in tool schemas", [NO, OK, OK, OK, OK, OK], {}),
    ("two tool results", [OK], {"split_tool_results": False}),
    ("two tool results", [NO, OK], {"split_tool_results": True}),
    ("two tool results", [NO, NO], {}),
    ("an empty tool result", [OK], {"empty_tool_result": ""}),
    ("an empty tool result", [NO], {"empty_tool_result": "(no output)"}),
    ("long ids of tool calls", [OK], {"tool_id_limit": 64, "tool_id_length": None}),
    ("long ids of tool calls", [NO, OK], {"tool_id_limit": 40, "tool_id_length": None}),
    ("long ids of tool calls", [NO, NO, OK], {"tool_id_limit": 9, "tool_id_length": 9}),
    ("long ids of tool calls", [NO, NO, NO], {}),
    ("a user message after a tool result", [OK], {"allows_user_after_tool": True}),
    ("a user message after a tool result", [NO], {"allows_user_after_tool": False}),
    ("calls without their tools", [OK], {"needs_tools_with_history": False}),
    ("calls without their tools", [NO], {"needs_tools_with_history": True}),
    ("the assistant first", [OK], {"assistant_first": True}),
    ("the assistant first", [NO], {"assistant_first": False}),
    ("a system message in the middle", [said("Banana.")], {"fields.system_message": "map"}),
    ("a system message in the middle", [said("Dogs.")], {"fields.system_message": "emulate"}),
    ("a system message in the middle", [NO], {"fields.system_message": "emulate"}),
    (
        "prefill: an unfinished assistant message at the end",
        [said(" 4, 5")],
        {"fields.prefill": "map", "prefill_options": {}, "echoes_prefill": False},
    ),
    # llama.cpp: repeated, but not in a stream.
    (
        "prefill: an unfinished assistant message at the end",
        [COPIED, said(" 4, 5")],
        {"fields.prefill": "map", "prefill_options": {}, "echoes_prefill": True},
    ),
    # Row L3: an echo that is all there is, and an echo after a space.
    *(
        (
            "prefill: an unfinished assistant message at the end",
            [said(echo, "length"), said(" 4, 5")],
            {"fields.prefill": "map", "prefill_options": {}, "echoes_prefill": True},
        )
        for echo in ("[list] 1, 2, 3,", " [list] 1, 2, 3, 4")
    ),
    # vLLM: without the options a model begins again, and copies the begun answer it sees.
    (
        "prefill: an unfinished assistant message at the end",
        [COPIED, COPIED, said("4, 5")],
        {"fields.prefill": "map", "prefill_options": CONTINUE, "echoes_prefill": False},
    ),
    (
        "prefill: an unfinished assistant message at the end",
        [said("1, 2, 3, 4, 5")] * 2 + [said("4, 5")],
        {"fields.prefill": "map", "prefill_options": CONTINUE, "echoes_prefill": False},
    ),
    *(
        (
            "prefill: an unfinished assistant message at the end",
            replies,
            {"fields.prefill": "reject", "prefill_options": {}, "echoes_prefill": False},
        )
        for replies in (
            [COPIED] * 3,
            [said("1, 2, 3, 4, 5"), said("1, 2, 3, 4, 5"), NO],
            [NO, NO, NO],
        )
    ),
    ("prefill: an unfinished assistant message at the end", [EMPTY] * 3, {}),
    (
        "prefill: an unfinished assistant message at the end",
        [said("[list] 1, 2", "length")] * 3,
        {},
    ),
    ("an image", [said("It is red.")], {"fields.image.base64": "map"}),
    ("an image", [OK], {}),
    ("an image", [NO], {"fields.image.base64": "reject", "fields.image.url": "reject"}),
    ("reasoning_effort", [OK], {}),
    (
        "reasoning_effort",
        [NO, NO, NO, OK, OK, OK, NO, NO],
        {
            "effort_levels": ("low", "medium", "high"),
            "reasoning_request": "effort",
            "fields.output_config.effort": "map",
            "fields.thinking": "map",
        },
    ),
    ("reasoning_effort", [NO] * 8, {"fields.output_config.effort": "warn"}),
    (
        "other ways to request reasoning",
        [OK, OK, said("<think>"), OK, OK, OK],
        {
            "reasoning_request": "template",
            "can_disable_reasoning": True,
            "fields.thinking": "map",
            "fields.output_config.effort": "warn",
        },
    ),
    (
        "other ways to request reasoning",
        [OK, OK, NO, NO, said(reasoning="Hm"), OK],
        {
            "reasoning_request": "reasoning",
            "can_disable_reasoning": True,
            "fields.thinking": "map",
            "fields.output_config.effort": "map",
        },
    ),
    ("other ways to request reasoning", [said("<think>")] * 6, {}),
    (
        "other ways to request reasoning",
        [said("<think>")] * 4 + [said("<think>"), NO],
        {
            "reasoning_request": "reasoning",
            "can_disable_reasoning": False,
            "fields.thinking": "map",
            "fields.output_config.effort": "map",
        },
    ),
    ("other ways to request reasoning", [said("<think>"), FAILED] * 3, {}),
    ("other ways to request reasoning", [OK, NO] * 3, {}),
    (
        "where reasoning is",
        [OK, said(reasoning_content="Hm")],
        {
            "reasoning_history": "reasoning_content",
            "think_tags": False,
            "fields.thinking_block": "map",
        },
    ),
    (
        "where reasoning is",
        [said(reasoning="Hm", reasoning_details=[{}])],
        {
            "reasoning_history": "reasoning_details",
            "think_tags": False,
            "fields.thinking_block": "map",
        },
    ),
    ("where reasoning is", [said("<think>Hm</think>")], {"think_tags": True}),
    ("where reasoning is", [OK, OK], {}),
    ("the context window", [NO, NO, NO, NO], {}),
    (
        "the context window",
        [NO, body(default_generation_settings={"n_ctx": 8192})],
        {"context_window": 8192},
    ),
    ("the tokenizer", [body(input_tokens=12)], {"tokenizer": "llamacpp"}),
    ("the tokenizer", [NO, body(count=12)], {"tokenizer": "vllm"}),
    ("the tokenizer", [NO, NO], {"tokenizer": "none"}),
    ("the tokenizer", [OK, OK], {"tokenizer": "none"}),
]


@for_each(("name", "replies", "sets"), ROWS)
def test_replies_are_judged(name: str, replies: Sequence[Reply], sets: dict[str, Any]) -> None:
    finding = question(name).judge(replies)

    assert finding.sets == sets
    assert finding.evidence


def test_each_question_has_rows_here() -> None:
    without = {"tools", "a tool result", "top_p"}  # judged like other questions, or only asked

    assert {q.name for q in _all(profile())} - without <= {name for name, _, _ in ROWS}


@for_each(
    ("name", "replies", "expected"),
    [
        ("the output limit", [CUT], True),
        ("the output limit", [said(tokens=60)], False),
        ("stop sequences", [said("1, 2, 3,")], True),
        ("stop sequences", [said("1, 2, 3, 4")], False),
        ("long tool names", [NO], False),
        ("long tool names", [NO, OK], True),
        ("keywords in tool schemas", [NO, OK], False),
        ("tool_choice required", [OK], False),
        ("reasoning_effort", [NO, OK], False),
        ("reasoning_effort", [OK], True),
        ("the tokenizer", [NO], False),
        ("top_k", [OK], False),
        ("prefill: an unfinished assistant message at the end", [COPIED], False),
        ("prefill: an unfinished assistant message at the end", [COPIED, said("4, 5")], True),
        ("tool_choice by name", [NO], True),
        ("tool_choice by name", [called("weather")], True),
        ("tool_choice by name", [CUT], False),
    ],
)
def test_a_question_ends_when_its_finding_is_certain(
    name: str, replies: Sequence[Reply], expected: bool
) -> None:
    assert question(name).enough(replies) is expected


def test_the_configured_name_of_the_limit_is_tried_first() -> None:
    first = question("the output limit", max_tokens_field="max_completion_tokens").requests[0]

    assert "max_completion_tokens" in (first.body or {})


def test_a_forced_tool_is_tried_with_the_configured_prefill_too() -> None:
    plain, begun = question("tool_choice required", forced_tool_prefill="<call>").requests

    assert (plain.body or {})["messages"][-1]["role"] == "user"
    assert (begun.body or {})["messages"][-1] == {"role": "assistant", "content": "<call>"}


@pytest.mark.parametrize(("config", "found"), [("always", "always"), ("never", "when-false")])
def test_configured_parallel_calls_are_kept_if_possible(config: str, found: str) -> None:
    finding = question("parallel_tool_calls", parallel_tool_calls=config).judge([OK, NO])

    assert finding.sets["parallel_tool_calls"] == found


def test_every_key_of_a_question_is_in_the_profile() -> None:
    config = profile()
    keys = [key for q in _all(config) for key in q.keys]

    assert keys
    for key in keys:
        assert key.removeprefix("fields.") in config.fields if "." in key else hasattr(config, key)


def test_a_question_depends_on_an_earlier_one() -> None:
    names: list[str] = []
    for each in _all(profile()):
        assert not each.after or each.after in names
        names.append(each.name)


JUDGES: list[Callable[[], Sequence[Question]]] = [
    lambda: sampling.QUESTIONS,
    lambda: tool_questions(profile()),
    lambda: conversation.QUESTIONS,
    lambda: reasoning.QUESTIONS,
    lambda: endpoint_questions("m"),
]


@for_each("part", JUDGES)
@for_each("reply", [NO, OK, EMPTY, Reply(200), body(choices="none")])
def test_any_reply_can_be_judged(part: Callable[[], Sequence[Question]], reply: Reply) -> None:
    for each in part():
        assert each.judge([reply] * len(each.requests)).evidence


def test_all_levels_are_tried_after_nonsense() -> None:
    asked = [(ask.body or {})["reasoning_effort"] for ask in question("reasoning_effort").requests]

    assert asked == ["nonsense", *LEVELS]
