"""The API's own client-run tools as functions."""

from __future__ import annotations

import json
from typing import Any

import anthropic.types
import pydantic
import pytest
from anthropic.types.browser_member_name import BROWSER_MEMBER_NAME_VALUES
from anthropic.types.computer_member_name import COMPUTER_MEMBER_NAME_VALUES

from stages.messages_api import validation
from stages.messages_api.errors import InvalidRequestError
from stages.profiles.client_tools import client_tools, toolsets
from stages.translation.request import chat_request
from stages.translation.tool_names import short_name
from tests.cases import for_each
from tests.stages.translation import support
from tests.support import degradations, profile, resolved

SCREEN = {"type": "computer_toolset_20260801"}
SHORTENED = short_name("a" * 99, 64)


def functions(*tools: dict[str, Any]) -> list[dict[str, Any]]:
    request = chat_request(resolved(tools=list(tools)), profile())
    return [tool["function"] for tool in request.options["tools"]]


@for_each(
    ("kind", "name", "member"),
    [
        ("bash_20250124", "bash", "command"),
        ("text_editor_20250124", "str_replace_editor", "old_str"),
        ("text_editor_20250728", "str_replace_based_edit_tool", "view_range"),
        ("memory_20250818", "memory", "file_text"),
        ("computer_20250124", "computer", "coordinate"),
    ],
)
def test_a_tool_known_by_its_type_becomes_a_function(kind: str, name: str, member: str) -> None:
    (function,) = functions({"type": kind, "name": name})

    assert function["name"] == name
    assert function["description"]
    assert member in function["parameters"]["properties"]


@for_each("kind", [*client_tools(), *toolsets()])
def test_no_schema_was_cut_at_a_comma_by_yaml(kind: str) -> None:
    for function in functions({"type": kind, "name": ""}):
        assert "null" not in json.dumps(function)


@pytest.mark.parametrize(
    "tools",
    [
        [{"name": "computer__left_click", "input_schema": {"type": "object"}}, SCREEN],
        [SCREEN, SCREEN],
        [{"name": name, "input_schema": {"type": "object"}} for name in ("a" * 99, SHORTENED)],
    ],
)
def test_two_tools_with_one_name_for_the_backend_are_refused(tools: list[Any]) -> None:
    with pytest.raises(InvalidRequestError, match=r"Tool names must be unique.*rename"):
        functions(*tools)


def test_a_choice_that_is_left_without_tools_is_reported() -> None:
    off = {name: {"enabled": False} for name in COMPUTER_MEMBER_NAME_VALUES}
    event = resolved(tools=[{**SCREEN, "configs": off}], tool_choice={"type": "any"})
    request = chat_request(event, profile())

    assert "tool_choice" not in request.options
    assert degradations(request) == ("tool_choice:dropped",)


def test_the_size_of_the_screen_is_reported() -> None:
    (function,) = functions(
        {
            "type": "computer_20250124",
            "name": "computer",
            "display_width_px": 1024,
            "display_height_px": 768,
        }
    )

    assert "1024 x 768" in function["description"]


def test_a_server_tool_is_refused_by_its_type() -> None:
    with pytest.raises(InvalidRequestError, match="web_search_20250305"):
        functions({"type": "web_search_20250305", "name": "web_search"})


SEARCH = {"type": "web_search_20250305", "name": "web_search"}
SERVERS: dict[str, dict[str, Any]] = {
    "advisor": {"type": "advisor_20260301", "name": "advisor", "model": "m"},
    "web search": SEARCH,
    "MCP toolset": {"type": "mcp_toolset", "mcp_server_name": "s"},
    "one of tomorrow": {"type": "oracle_20270101", "name": "oracle", "max_uses": 3},
}
CLIENTS: dict[str, dict[str, Any]] = {
    "custom": {"name": "f", "input_schema": {"type": "object"}},
    "bash": {"type": "bash_20250124", "name": "bash"},
}


@for_each("own", CLIENTS.values(), ids=CLIENTS)
@for_each("tool", SERVERS.values(), ids=SERVERS)
def test_row_c4_a_server_tool_next_to_others_is_left_out(
    tool: dict[str, Any], own: dict[str, Any]
) -> None:
    result = chat_request(resolved(tools=[own, tool]), profile())
    assert [t["function"]["name"] for t in result.options["tools"]] == [own["name"]]
    assert degradations(result) == (f"tools.1 ({tool['type']}):dropped",)


@pytest.mark.parametrize("tools", [[SEARCH], [SEARCH, SERVERS["advisor"]]], ids=["one", "two"])
def test_row_c4_server_tools_alone_are_refused(tools: list[Any]) -> None:
    with pytest.raises(InvalidRequestError, match=r"tools\.0 \(web_search_20250305\): only Anthr"):
        chat_request(resolved(tools=tools), profile())


def test_row_c4_a_tool_for_code_execution_is_left_out() -> None:
    own = {**CLIENTS["custom"], "allowed_callers": ["code_execution_20260120"]}
    code = {"type": "code_execution_20260120", "name": "code_execution"}
    with pytest.raises(InvalidRequestError, match=r"tools\.1"):
        chat_request(resolved(tools=[own, code]), profile())


def test_row_c4_the_policy_can_be_another() -> None:
    own = CLIENTS["custom"]
    with pytest.raises(InvalidRequestError, match=r"tools\.1"):
        chat_request(resolved(tools=[own, SEARCH]), profile(fields={"server_tools": "reject"}))
    quiet = chat_request(resolved(tools=[own, SEARCH]), profile(fields={"server_tools": "drop"}))
    assert degradations(quiet) == ()
    alone = profile(fields={"server_tools.alone": "warn"})
    assert degradations(chat_request(resolved(tools=[SEARCH]), alone)) == (
        "tools.0 (web_search_20250305):dropped",
    )


def test_row_c4_a_choice_of_a_tool_that_was_left_out_is_reported() -> None:
    choice = {"type": "tool", "name": "web_search"}
    event = resolved(tools=[CLIENTS["custom"], SEARCH], tool_choice=choice)
    result = chat_request(event, profile())
    assert "tool_choice" not in result.options
    assert degradations(result) == ("tools.1 (web_search_20250305):dropped", "tool_choice:dropped")


def test_row_c4_blocks_of_a_tool_that_was_left_out_are_reported() -> None:
    call = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "advisor", "input": {}}
    buffered = {"type": "advisor_result", "text": "Look twice."}
    result = {"type": "advisor_tool_result", "tool_use_id": "srvtoolu_1", "content": buffered}
    response = {"type": "text", "text": "Done."}
    turns = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": [call, result, response]},
        {"role": "user", "content": "And now?"},
    ]
    actual = chat_request(resolved(messages=turns), profile())
    assert [message["content"] for message in actual.messages] == ["Q", "Done.", "And now?"]
    assert degradations(actual) == ("server_tool_use:dropped", "advisor_tool_result:dropped")


def test_row_c11_an_empty_list_of_callers_says_nothing() -> None:
    (function,) = functions({**CLIENTS["custom"], "allowed_callers": []})
    assert function["name"] == "f"


def test_examples_of_input_go_into_the_description() -> None:
    (function,) = functions(
        {"name": "f", "input_schema": {"type": "object"}, "input_examples": [{"a": 1}]}
    )

    assert '{"a":1}' in function["description"]


# Toolsets

COMPUTER = {"type": "computer_toolset_20260801"}
BROWSER = {"type": "browser_toolset_20260801"}


def sdk_inputs(toolset: str) -> dict[str, type[pydantic.BaseModel]]:
    """The official SDK's class for the input of each member."""
    names = {
        "computer": COMPUTER_MEMBER_NAME_VALUES,
        "browser": BROWSER_MEMBER_NAME_VALUES,
    }[toolset]
    words = {name: f"{toolset}_{name}_input".title().replace("_", "") for name in names}
    return {name: getattr(anthropic.types, word) for name, word in words.items()}


@pytest.mark.parametrize(
    ("tool", "toolset", "number"), [(COMPUTER, "computer", 17), (BROWSER, "browser", 31)]
)
def test_a_toolset_becomes_one_function_for_each_member(
    tool: dict[str, Any], toolset: str, number: int
) -> None:
    config = {function["name"]: function for function in functions(tool)}
    inputs = sdk_inputs(toolset)

    assert len(config) == number
    assert config.keys() == {f"{toolset}__{member}" for member in inputs}
    for member, kind in inputs.items():
        function = config[f"{toolset}__{member}"]
        fields = {field.alias or name: field for name, field in kind.model_fields.items()}
        parameters = function["parameters"]
        assert function["description"]
        assert parameters["properties"].keys() == fields.keys(), member
        required = {name for name, field in fields.items() if field.is_required()}
        assert set(parameters.get("required", ())) == required, member


def test_disabled_members_are_not_sent() -> None:
    configs = {"zoom": {"enabled": False}, "wait": {"enabled": True}, "key": {}, "type": None}
    names = {function["name"] for function in functions({**COMPUTER, "configs": configs})}

    assert len(names) == 16
    assert "computer__zoom" not in names
    assert {"computer__wait", "computer__key", "computer__type"} < names


def test_a_toolset_without_members_is_no_tool_at_all() -> None:
    configs = {name: {"enabled": False} for name in COMPUTER_MEMBER_NAME_VALUES}
    request = chat_request(resolved(tools=[{**COMPUTER, "configs": configs}]), profile())

    assert "tools" not in request.options
    assert degradations(request) == ()


def test_two_toolsets_have_no_name_and_so_not_the_same() -> None:
    assert list(validation.problems(resolved(tools=[COMPUTER, BROWSER]).request)) == []


@pytest.mark.parametrize("limit", [64, 20])
def test_the_call_of_a_member_is_the_toolsets_on_both_ways(limit: int) -> None:
    call = {
        "type": "tool_use",
        "id": "call_1",
        "name": "left_mouse_down",
        "toolset_name": "computer",
        "input": {},
        "caller": {"type": "direct"},
    }
    result = {"type": "tool_result", "tool_use_id": "call_1", "toolset_name": "computer"}
    turns = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [{**result, "content": "done"}]},
    ]
    event = resolved(tools=[COMPUTER], messages=turns)
    request = chat_request(event, profile(tool_name_limit=limit))
    [response] = request.messages[1]["tool_calls"]
    name = response["function"]["name"]
    assert name in [tool["function"]["name"] for tool in request.options["tools"]]

    fragment = support.call(name, "{}", index=0, id="call_2")
    reply = support.message([support.calls(fragment), support.finish()], request=request)
    assert reply["content"] == [{**call, "id": "call_2"}]
    anthropic.types.Message.model_validate(reply)
