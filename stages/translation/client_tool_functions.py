"""The API's own tools that the client runs, as functions: bash, text editor, memory, computer.

The API knows their input by their type; a backend has to be told. A toolset is several functions
at once; the client names a call of one by the toolset and the member, `computer` and
`left_click`, the backend in one word, `computer__left_click`. Source: the API's pages on each
tool.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stages.messages_api.request import Tool
from stages.profiles.client_tools import Toolset, client_tools, toolsets


def as_functions(tool: Tool) -> list[dict[str, Any]] | None:
    """The functions that stand for a typed tool; None for one that only Anthropic can run."""
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
    """Of a toolset, the name of each function and how the client calls it in a `tool_use`."""
    if toolset := toolsets().get(tool.type or ""):
        for member in _enabled(tool, toolset):
            called = {"name": member, "toolset_name": toolset.name}
            yield toolset.members[member]["name"], called


def _enabled(tool: Tool, toolset: Toolset) -> list[str]:
    configs = tool.configs or {}
    off = {name for name, how in configs.items() if isinstance(how, dict) and not _on(how)}
    return [member for member in toolset.members if member not in off]


def _on(config: dict[str, Any]) -> bool:
    return config.get("enabled") is not False
