"""The API's own tools that the client runs, as functions: bash, text editor, memory, computer.

The API knows the input of these tools by their type; a backend needs a schema. A toolset becomes
several functions. The client names a call of one by the toolset and the member, `computer` and
`left_click`; the backend by one name, `computer__left_click`. Source: the API's page on each tool.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stages.messages_api.request import Tool
from stages.profiles.client_tools import Toolset, client_tools, toolsets


def as_functions(tool: Tool) -> list[dict[str, Any]] | None:
    """Return the functions of a typed tool; None for a tool that only Anthropic can run."""
    if toolset := toolsets().get(tool.type or ""):
        return [toolset.members[member] for member in _enabled(tool, toolset)]
    function = client_tools().get(tool.type or "")
    if function is None:
        return None
    description = function["description"]
    if tool.display_width_px and tool.display_height_px:
        description += f" The screen is {tool.display_width_px} x {tool.display_height_px} pixels."
    return [{**function, "name": tool.name or function["name"], "description": description}]


def members(tool: Tool) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the function names of a toolset, each with the client's name in a `tool_use`."""
    if toolset := toolsets().get(tool.type or ""):
        for member in _enabled(tool, toolset):
            client_name = {"name": member, "toolset_name": toolset.name}
            yield toolset.members[member]["name"], client_name


def _enabled(tool: Tool, toolset: Toolset) -> list[str]:
    configs = tool.configs or {}
    return [member for member in toolset.members if _is_enabled(configs.get(member))]


def _is_enabled(config: Any) -> bool:
    return not isinstance(config, dict) or config.get("enabled") is not False
