"""Which tools are sent, whether one has to be called, and how many."""

from __future__ import annotations

from typing import Any

import pytest

from stages.events import ChatRequest
from stages.messages_api.errors import InvalidRequestError
from stages.translation.request import chat_request
from tests.support import degradations, profile, resolved

TOOL = {"name": "f", "input_schema": {"type": "object"}}
NONE = {"type": "none"}
CALLED = [
    {"role": "user", "content": "Q"},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "R"}]},
]
IGNORED = {"tool_choice": "warn"}


def translated(options: dict[str, Any] | None = None, **changes: Any) -> ChatRequest:
    return chat_request(resolved(**{"tools": [TOOL], **changes}), profile(**(options or {})))


def names(request: ChatRequest) -> list[str]:
    return [tool["function"]["name"] for tool in request.options.get("tools", [])]


@pytest.mark.parametrize("policy", ["drop", "warn", "reject"])
def test_pitfall_34_none_drops_the_tools_if_unsupported(policy: str) -> None:
    result = translated({"fields": {"tool_choice": policy}}, tool_choice=NONE)
    assert result.options == {"max_tokens": 100}
    assert degradations(result) == ()


def test_none_is_sent_with_the_tools_where_the_choice_is_taken() -> None:
    result = translated(tool_choice=NONE)
    assert (names(result), result.options["tool_choice"]) == (["f"], "none")


@pytest.mark.parametrize(
    ("needed", "turns", "config", "notes"),
    [
        (True, CALLED, ["f"], ("tool_choice:dropped",)),
        (True, CALLED[:1], [], ()),
        (False, CALLED, [], ()),
    ],
    ids=["calls, and tools needed", "no calls", "no need"],
)
def test_for_none_the_tools_stay_where_earlier_calls_need_them(
    needed: bool, turns: Any, config: list[str], notes: tuple[str, ...]
) -> None:
    options = {"fields": IGNORED, "needs_tools_with_history": needed}
    result = translated(options, tool_choice=NONE, messages=turns)
    assert names(result) == config
    assert "tool_choice" not in result.options
    assert degradations(result) == notes


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "f"}])
def test_a_forced_call_that_the_backend_ignores_is_reported(choice: dict[str, Any]) -> None:
    result = translated({"fields": IGNORED}, tool_choice=choice)
    assert names(result) == ["f"]
    assert degradations(result) == ("tool_choice:dropped",)


@pytest.mark.parametrize(
    ("policy", "kept", "notes"),
    [
        ("map", True, ()),
        ("emulate", True, ()),
        ("warn", False, ("disable_parallel_tool_use:dropped",)),
        ("drop", False, ()),
    ],
)
def test_one_call_a_response_is_kept_to_as_the_policy_says(
    policy: str, kept: bool, notes: tuple[str, ...]
) -> None:
    options = {"fields": {"disable_parallel_tool_use": policy}, "parallel_tool_calls": "never"}
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    result = translated(options, tool_choice=choice)
    assert (result.single_tool_call, degradations(result)) == (kept, notes)
    assert "parallel_tool_calls" not in result.options
    assert not translated(options, tool_choice={"type": "auto"}).single_tool_call


def test_a_tool_search_is_dropped_and_its_tools_are_sent() -> None:
    search = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}
    deferred = {**TOOL, "name": "g", "defer_loading": True}
    result = translated(tools=[search, TOOL, deferred])
    assert names(result) == ["f", "g"]
    assert degradations(result) == ()


def test_a_search_for_tools_can_be_refused_like_any_field() -> None:
    search = {"type": "tool_search_tool_regex", "name": "tool_search_tool_regex"}
    with pytest.raises(InvalidRequestError, match="tool_search_tool_regex"):
        translated({"fields": {"tool_search": "reject"}}, tools=[search, TOOL])


def test_an_unwanted_client_tool_is_dropped_and_reported() -> None:
    bash = {"type": "bash_20250124", "name": "bash"}
    result = translated({"fields": {"client_tools": "warn"}}, tools=[bash, TOOL])
    assert names(result) == ["f"]
    assert degradations(result) == ("tools.0 (bash_20250124):dropped",)


@pytest.mark.parametrize(
    ("callers", "config"),
    [
        (["direct"], ["f", "g"]),
        (["direct", "code_execution_20260120"], ["f", "g"]),
        (["code_execution_20260120"], ["f"]),
        (None, ["f", "g"]),
    ],
)
def test_a_tool_that_only_code_may_call_is_left_out_and_reported(
    callers: list[str] | None, config: list[str]
) -> None:
    result = translated(tools=[TOOL, {**TOOL, "name": "g", "allowed_callers": callers}])
    assert names(result) == config
    left_out = len(config) == 1
    assert degradations(result) == (("tools.1 (allowed_callers):dropped",) if left_out else ())


def test_a_named_tool_that_was_left_out_is_not_requested() -> None:
    code = {**TOOL, "name": "g", "allowed_callers": ["code_execution_20260120"]}
    for named in (True, False):
        choice = {"type": "tool", "name": "g"}
        result = translated({"named_tool_choice": named}, tools=[TOOL, code], tool_choice=choice)
        assert names(result) == ["f"]
        assert "tool_choice" not in result.options
        assert degradations(result) == ("tools.1 (allowed_callers):dropped", "tool_choice:dropped")


def test_members_of_tools_that_change_nothing_here_are_taken() -> None:
    value = {"defer_loading": True, "eager_input_streaming": True, "cache_control": {"a": 1}}
    result = translated(tools=[{**TOOL, **value}])
    assert result.options == translated().options
    assert degradations(result) == ()
