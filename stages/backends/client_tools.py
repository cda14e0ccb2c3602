"""The functions that stand for the API's own client-run tools, as data: `client_tools.yaml`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


@functools.cache
def client_tools() -> dict[str, dict[str, Any]]:
    """By the type of the tool: name, description and parameters of its function."""
    data = YAML(typ="safe", pure=True).load(Path(__file__).with_name("client_tools.yaml"))
    return {name: function for function in data for name in function.pop("types")}
