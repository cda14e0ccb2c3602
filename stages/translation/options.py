"""Parameters, tools and tool choice of a Messages request as Chat Completions options."""

from __future__ import annotations

from typing import Any

from stages.backends.profile import Profile
from stages.translation.notes import Notes
from stages.wire.messages import MessagesRequest, Tool


def options(request: MessagesRequest, profile: Profile, notes: Notes) -> dict[str, Any]:
    """Everything but `model`, `messages` and `stream`, in the backend's names."""
    chosen: dict[str, Any] = {}
    if request.max_tokens is not None:
        chosen[profile.max_tokens_field] = request.max_tokens
    chosen |= _sampling(request, profile, notes)
    if request.stream and profile.stream_options:
        chosen["stream_options"] = {"include_usage": True}
    if request.thinking and request.thinking.wanted:
        notes.add("thinking:dropped")
    for name in request.unread:
        notes.add(f"{name[:40]}:dropped")
    return {**chosen, **_tools(request, profile, notes)}


def _sampling(request: MessagesRequest, profile: Profile, notes: Notes) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name in ("temperature", "top_p", "top_k"):
        value = getattr(request, name)
        if value is None:
            continue
        if profile.top_k if name == "top_k" else profile.sampling:
            chosen[name] = value
        else:
            notes.add(f"{name}:dropped")
    if request.stop_sequences:
        limit = profile.max_stop_sequences
        if limit is not None and len(request.stop_sequences) > limit:
            notes.add("stop_sequences:cut")
        if stop := list(request.stop_sequences[:limit]):
            chosen["stop"] = stop
    return chosen


def requires_tool(request: MessagesRequest) -> bool:
    """Whether the answer has to be a tool call."""
    return request.tool_choice is not None and request.tool_choice.type in ("any", "tool")


def _tools(request: MessagesRequest, profile: Profile, notes: Notes) -> dict[str, Any]:
    if not request.tools:
        return {}
    choice = request.tool_choice
    tools = request.tools
    chosen: dict[str, Any] = {}
    if choice and choice.type == "tool" and profile.named_tool_choice:
        chosen["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice:
        words = {"auto": "auto", "any": "required", "tool": "required", "none": "none"}
        chosen["tool_choice"] = words[choice.type]
        if choice.type == "tool":  # the only way to name a tool here is to send no other
            tools = tuple(tool for tool in tools if tool.name == choice.name)
    chosen["tools"] = [_tool(tool) for tool in tools]
    parallel = not (choice and choice.disable_parallel_tool_use)
    when = profile.parallel_tool_calls
    if when == "always" or (when == "when-false" and not parallel):
        chosen["parallel_tool_calls"] = parallel
    elif not parallel:
        notes.add("disable_parallel_tool_use:dropped")
    return chosen


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = {"properties": {}, **(tool.input_schema or {})}
    return {"type": "function", "function": function}
