"""The API's own client-run tools as functions."""

from __future__ import annotations

from typing import Any

import pytest

from stages.translation.request import chat_request
from stages.wire.errors import InvalidRequestError
from tests.support import profile, resolved


def functions(*tools: dict[str, Any]) -> list[dict[str, Any]]:
    request = chat_request(resolved(tools=list(tools)), profile())
    return [tool["function"] for tool in request.options["tools"]]


@pytest.mark.parametrize(
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


def test_the_size_of_the_screen_is_told() -> None:
    (function,) = functions(
        {
            "type": "computer_20250124",
            "name": "computer",
            "display_width_px": 1024,
            "display_height_px": 768,
        }
    )

    assert "1024 x 768" in function["description"]


def test_a_tool_that_anthropics_servers_run_is_refused_by_its_type() -> None:
    with pytest.raises(InvalidRequestError, match="web_search_20250305"):
        functions({"type": "web_search_20250305", "name": "web_search"})


def test_a_server_tool_can_be_left_out_and_told() -> None:
    tool = {"type": "web_search_20250305", "name": "web_search"}
    own = {"name": "f", "input_schema": {"type": "object"}}
    request = chat_request(resolved(tools=[tool, own]), profile(fields={"server_tools": "warn"}))

    assert [t["function"]["name"] for t in request.options["tools"]] == ["f"]
    assert request.notes == ("tools.0 (web_search_20250305):dropped",)


def test_examples_of_input_go_into_the_description() -> None:
    (function,) = functions(
        {"name": "f", "input_schema": {"type": "object"}, "input_examples": [{"a": 1}]}
    )

    assert '{"a":1}' in function["description"]
