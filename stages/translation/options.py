"""Parameters, tools and tool choice of a Messages request as Chat Completions options."""

from __future__ import annotations

import hashlib
from typing import Any

from stages.backends.profile import Profile
from stages.translation.client_tools import as_function
from stages.translation.fields import Fields
from stages.translation.names import short_name
from stages.translation.reasoning import reasoning_options
from stages.translation.schema import without
from stages.translation.stops import shared
from stages.wire.json import encode
from stages.wire.messages import MessagesRequest, Tool, ToolChoice

# Top-level fields that are not read, but that there is a policy for.
_TOLD = (
    "cache_control",
    "container",
    "context_management",
    "diagnostics",
    "inference_geo",
    "mcp_servers",
    "service_tier",
    "speed",
)


def options(request: MessagesRequest, profile: Profile, fields: Fields) -> dict[str, Any]:
    """Everything but `model`, `messages` and `stream`, in the backend's names."""
    chosen: dict[str, Any] = {}
    if request.max_tokens is not None:
        chosen[profile.max_tokens_field] = request.max_tokens
    chosen |= _sampling(request, profile, fields)
    if request.stream and profile.stream_options:
        chosen["stream_options"] = {"include_usage": True}
    chosen |= reasoning_options(request, profile, fields)
    form = request.output_config.format
    if form and fields.keep("output_config.format"):
        held = {"name": "response", "schema": form.schema, "strict": True}
        chosen["response_format"] = {"type": "json_schema", "json_schema": held}
    user = request.metadata.user_id if request.metadata else None
    if user and fields.keep("metadata"):
        chosen["safety_identifier"] = hashlib.sha256(user.encode()).hexdigest()
    for name in request.unread:
        fields.keep(name if name in _TOLD else "unknown", name)
    return {**chosen, **_tools(request, profile, fields)}


def _sampling(request: MessagesRequest, profile: Profile, fields: Fields) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name in ("temperature", "top_p", "top_k"):
        value = getattr(request, name)
        if value is not None and fields.keep(name):
            chosen[name] = value
    if request.stop_sequences and fields.keep("stop_sequences"):
        sent, _ = shared(request.stop_sequences, profile)
        if sent:
            chosen["stop"] = sent
    return chosen


def requires_tool(request: MessagesRequest) -> bool:
    """Whether the answer has to be a tool call."""
    return request.tool_choice is not None and request.tool_choice.forced


def _tools(request: MessagesRequest, profile: Profile, fields: Fields) -> dict[str, Any]:
    if not request.tools:
        return {}
    choice = request.tool_choice
    declared = [_tool(tool, n, profile, fields) for n, tool in enumerate(request.tools)]
    tools = [tool for tool in declared if tool]
    if not tools:  # all were left out; an empty list is refused
        return {}
    chosen: dict[str, Any] = {}
    if choice and (choice.type == "auto" or fields.keep("tool_choice")):
        chosen["tool_choice"], tools = _choice(choice, tools, profile)
    chosen["tools"] = tools
    parallel = not (choice and choice.disable_parallel_tool_use)
    if not parallel and not fields.keep("disable_parallel_tool_use"):
        parallel = True
    when = profile.parallel_tool_calls
    if when == "always" or (when == "when-false" and not parallel):
        chosen["parallel_tool_calls"] = parallel
    elif not parallel:
        fields.note("disable_parallel_tool_use", "dropped")
    return chosen


def _choice(
    choice: ToolChoice, tools: list[dict[str, Any]], profile: Profile
) -> tuple[Any, list[dict[str, Any]]]:
    """The backend's `tool_choice`, and the tools to send with it."""
    if choice.type != "tool":
        return {"auto": "auto", "any": "required", "none": "none"}[choice.type], tools
    name = short_name(choice.name or "", profile.tool_name_limit)
    if profile.named_tool_choice:
        return {"type": "function", "function": {"name": name}}, tools
    # The only way to name a tool here is to send no other.
    return "required", [tool for tool in tools if tool["function"]["name"] == name]


def _tool(tool: Tool, position: int, profile: Profile, fields: Fields) -> dict[str, Any] | None:
    if tool.type not in (None, "custom"):
        function = as_function(tool)
        kept = fields.keep(
            "client_tools" if function else "server_tools", f"tools.{position} ({tool.type})"
        )
        return {"type": "function", "function": function} if kept and function else None
    function = {"name": short_name(tool.name, profile.tool_name_limit)}
    description = tool.description or ""
    if tool.input_examples and fields.keep("tools.input_examples"):
        examples = "\n".join(encode(each).decode() for each in tool.input_examples)
        description = f"{description}\n\nExamples of its input:\n{examples}".lstrip()
    if description:
        function["description"] = description
    schema = without(tool.input_schema or {}, frozenset(profile.schema_without))
    function["parameters"] = {"properties": {}, **schema}
    if tool.strict is not None and fields.keep("tools.strict"):
        function["strict"] = tool.strict
    return {"type": "function", "function": function}
