"""Functions in place of the API's own client-run tools, as data: `client_tools.yaml`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from attrs import frozen
from ruamel.yaml import YAML


@frozen
class Toolset:
    """The functions of one tool type. A member's name is unique only in its toolset."""

    name: str
    members: dict[str, dict[str, Any]]
    """By the member's name: name, description and parameters of its function."""


def member_function_name(toolset: str, member: str) -> str:
    """The name of the function for a member of a toolset."""
    return f"{toolset}__{member}"


@functools.cache
def client_tools() -> dict[str, dict[str, Any]]:
    """By the type of the tool: name, description and parameters of its function."""
    return {kind: entry for kind, entry in _entries().items() if "toolset" not in entry}


@functools.cache
def toolsets() -> dict[str, Toolset]:
    """The toolsets, by their type."""
    sets = {kind: entry for kind, entry in _entries().items() if "toolset" in entry}
    return {kind: _toolset(entry["toolset"], entry["members"]) for kind, entry in sets.items()}


def _toolset(name: str, members: dict[str, dict[str, Any]]) -> Toolset:
    functions = {}
    for member, member_data in members.items():
        schema = {"type": "object", "properties": member_data.get("properties", {})}
        if "required" in member_data:
            schema["required"] = member_data["required"]
        functions[member] = {
            "name": member_function_name(name, member),
            "description": member_data["description"],
            "parameters": schema,
        }
    return Toolset(name, functions)


@functools.cache
def _entries() -> dict[str, dict[str, Any]]:
    data = YAML(typ="safe", pure=True).load(Path(__file__).with_name("client_tools.yaml"))
    return {kind: entry for entry in data for kind in entry.pop("types")}
