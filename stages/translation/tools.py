"""Tools and tool choice of a Messages request as Chat Completions options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from stages.messages_api import request as m
from stages.messages_api.errors import UnsupportedError
from stages.profiles.profile import Profile
from stages.translation.client_tool_functions import as_functions, members
from stages.translation.field_policies import FieldPolicies
from stages.translation.json_schema import fit_schema, is_closed
from stages.translation.tool_names import short_name
from stages.wire.json_codec import encode


def requires_tool(request: m.MessagesRequest) -> bool:
    """Whether the answer has to be a tool call."""
    return request.tool_choice is not None and request.tool_choice.forced


def one_call(request: m.MessagesRequest, fields: FieldPolicies) -> bool:
    """Whether only the first call of the answer is for the client.

    Also where the backend was told so: some make several calls all the same.
    """
    choice = request.tool_choice
    kept = fields.policy("disable_parallel_tool_use") in ("map", "emulate")
    return choice is not None and choice.disable_parallel_tool_use and kept


def client_names(request: m.MessagesRequest, profile: Profile) -> dict[str, dict[str, str]]:
    """How the client names the tools that the backend knows by another name."""
    limit = profile.tool_name_limit
    names = {}
    for tool in request.tools:
        if len(tool.name) > limit:
            names[short_name(tool.name, limit)] = {"name": tool.name}
        elif not tool.custom:
            names |= {short_name(name, limit): called for name, called in members(tool)}
    return names


def tool_options(
    request: m.MessagesRequest, profile: Profile, fields: FieldPolicies
) -> dict[str, Any]:
    """`tools`, `tool_choice` and `parallel_tool_calls`."""
    servers: list[str] = []
    tools = [
        {"type": "function", "function": each}
        for n, tool in enumerate(request.tools)
        for each in _functions(tool, f"tools.{n}", profile, fields, servers)
    ]
    for shown in servers:  # where they are all there is, the client wants just that
        fields.allows("server_tools" if tools else "server_tools.alone", shown)
    choice = request.tool_choice
    _check_names(tools)
    if not tools:  # none, or all were left out; an empty list is refused
        if requires_tool(request):
            fields.report("tool_choice", "dropped")
        return {}
    tools = _limited(tools, choice, profile, fields)
    chosen: dict[str, Any] = {}
    if choice and choice.type == "none" and _can_undeclare(request, profile, fields):
        return {}
    if choice and choice.type == "tool" and not _named(choice, tools, profile):
        fields.report("tool_choice", "dropped")
    elif choice and (choice.type == "auto" or fields.allows("tool_choice")):
        chosen["tool_choice"], tools = _choice(choice, tools, profile)
    chosen["tools"] = tools
    parallel = not one_call(request, fields)
    if choice and choice.disable_parallel_tool_use:
        fields.allows("disable_parallel_tool_use")
    when = profile.parallel_tool_calls
    if when == "always" or (when == "when-false" and not parallel):
        chosen["parallel_tool_calls"] = parallel
    return chosen


def _limited(
    tools: list[dict[str, Any]],
    choice: m.ToolChoice | None,
    profile: Profile,
    fields: FieldPolicies,
) -> list[dict[str, Any]]:
    """As many tools as the backend takes: the first, and the one that the client asks for."""
    most = profile.max_tools
    if most is None or len(tools) <= most:
        return tools
    fields.report("tools", "cut")
    named = _named(choice, tools, profile) if choice and choice.type == "tool" else []
    kept = tools[:most]
    return kept if all(tool in kept for tool in named) else [*kept[:-1], *named]


def _check_names(tools: list[dict[str, Any]]) -> None:
    """Raise UnsupportedError where a call of one function could be meant for another."""
    for name, times in Counter(tool["function"]["name"] for tool in tools).items():
        if times > 1:
            raise UnsupportedError(
                f"tools: Tool names must be unique. This backend would get `{name}` {times} times "
                "(the name of a toolset's member, or a shortened one): rename one of the tools"
            )


def _can_undeclare(request: m.MessagesRequest, profile: Profile, fields: FieldPolicies) -> bool:
    """Whether leaving the tools out is the way to have none called."""
    if fields.policy("tool_choice") == "map":
        return False
    blocks = (block for message in request.messages for block in message.content)
    called = any(isinstance(block, m.ToolUseBlock) for block in blocks)
    return not (called and profile.needs_tools_with_history)


def _choice(
    choice: m.ToolChoice, tools: list[dict[str, Any]], profile: Profile
) -> tuple[Any, list[dict[str, Any]]]:
    """The backend's `tool_choice`, and the tools to send with it."""
    if choice.type != "tool":
        return {"auto": "auto", "any": "required", "none": "none"}[choice.type], tools
    named = _named(choice, tools, profile)
    if profile.named_tool_choice:
        return {"type": "function", "function": {"name": named[0]["function"]["name"]}}, tools
    # The only way to name a tool here is to send no other.
    return "required", named


def _named(
    choice: m.ToolChoice, tools: list[dict[str, Any]], profile: Profile
) -> list[dict[str, Any]]:
    """Of `tools` those that the choice names: one, or none when that was left out."""
    name = short_name(choice.name or "", profile.tool_name_limit)
    return [tool for tool in tools if tool["function"]["name"] == name]


def _functions(
    tool: m.Tool, path: str, profile: Profile, fields: FieldPolicies, servers: list[str]
) -> Iterator[dict[str, Any]]:
    """What is declared for one tool: mostly one function; none where it is left out.

    Tools that Anthropic would run are not reported here, but added to `servers`.
    """
    limit = profile.tool_name_limit
    if tool.allowed_callers and "direct" not in tool.allowed_callers:
        fields.allows("tools.allowed_callers", f"{path} (allowed_callers)")
    elif tool.custom:
        yield _function(tool, profile, fields)
    elif (functions := as_functions(tool)) is not None:
        kept = fields.allows("client_tools", f"{path} ({tool.type})")
        for each in functions if kept else ():
            function = {**each, "name": short_name(each["name"], limit)}
            yield _extended(function, tool, profile, fields)
    elif (tool.type or "").startswith("tool_search_tool_"):
        fields.allows("tool_search", f"{path} ({tool.type})")
    else:
        servers.append(f"{path} ({tool.type})")


def _function(tool: m.Tool, profile: Profile, fields: FieldPolicies) -> dict[str, Any]:
    function = {
        "name": short_name(tool.name, profile.tool_name_limit),
        "description": tool.description or "",
        "parameters": tool.input_schema or {},
    }
    return _extended(function, tool, profile, fields)


def _extended(
    function: dict[str, Any], tool: m.Tool, profile: Profile, fields: FieldPolicies
) -> dict[str, Any]:
    """A function as the backend takes it, with what the client says of its use."""
    made = fit_schema(function["parameters"], profile)
    if made.loosened:
        fields.report("tools.input_schema", "loosened", "tools")
    properties = made.schema.get("properties") or {}
    function = {**function, "parameters": {**made.schema, "properties": properties}}
    description = function.pop("description")
    if tool.input_examples and fields.allows("tools.input_examples"):
        examples = "\n".join(encode(each).decode() for each in tool.input_examples)
        description = f"{description}\n\nExamples of its input:\n{examples}".lstrip()
    if description:
        function["description"] = description
    asks = tool.strict or (tool.strict is not None and fields.policy("tools.strict") == "map")
    if asks and fields.allows("tools.strict"):  # `false` is how it is anyway
        fits = is_closed(function["parameters"]) or not profile.strict_needs_closed_schema
        fits = fits and not made.loosened
        if tool.strict and not fits:
            fields.report("tools.strict", "dropped")
        function["strict"] = tool.strict and fits
    return function
