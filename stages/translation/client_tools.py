"""The API's own tools that the client runs, as functions: bash, text editor, memory, computer.

The API knows their input by their type; a backend has to be told. Source: the API's pages on
each tool.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.wire.messages import Tool


@functools.cache
def _functions() -> dict[str, dict[str, Any]]:
    data = YAML(typ="safe", pure=True).load(Path(__file__).with_name("client_tools.yaml"))
    return {name: function for function in data for name in function.pop("types")}


def as_function(tool: Tool) -> dict[str, Any] | None:
    """The function that stands for a typed tool; None for one that only Anthropic can run."""
    function = _functions().get(tool.type or "")
    if function is None:
        return None
    description = function["description"]
    if tool.display_width_px and tool.display_height_px:
        description += f" The screen is {tool.display_width_px} x {tool.display_height_px} pixels."
    return {**function, "name": tool.name or function["name"], "description": description}
