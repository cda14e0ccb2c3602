"""The API's own tools that the client runs, as functions: bash, text editor, memory, computer.

The API knows their input by their type; a backend has to be told. Source: the API's pages on
each tool.
"""

from __future__ import annotations

from typing import Any

from stages.backends.client_tools import client_tools
from stages.wire.messages import Tool


def as_function(tool: Tool) -> dict[str, Any] | None:
    """The function that stands for a typed tool; None for one that only Anthropic can run."""
    function = client_tools().get(tool.type or "")
    if function is None:
        return None
    description = function["description"]
    if tool.display_width_px and tool.display_height_px:
        description += f" The screen is {tool.display_width_px} x {tool.display_height_px} pixels."
    return {**function, "name": tool.name or function["name"], "description": description}
