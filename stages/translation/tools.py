"""Tools and tool choice of a Messages request as Chat Completions options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from stages.backends.profile import Profile
from stages.translation.client_tools import as_functions, members
from stages.translation.fields import Fields, UnsupportedError
from stages.translation.names import short_name
from stages.translation.schema import is_closed, without
from stages.wire import messages as m
from stages.wire.json import encode


def requires_tool(request: m.MessagesRequest) -> bool:
    """Whether the answer has to be a tool call."""
    return request.tool_choice is not None and request.tool_choice.forced


def one_call(request: m.MessagesRequest, fields: Fields) -> bool:
    """Whether only the first call of the answer is for the client.

    Also where the backend was told so: some make several calls all the same.
    """
    choice = request.tool_choice
    kept = fields.how("disable_parallel_tool_use") in ("map", "emulate")
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


def tool_options(request: m.MessagesRequest, profile: Profile, fields: Fields) -> dict[str, Any]:
    """`tools`, `tool_choice` and `parallel_tool_calls`."""
    declared = (_functions(tool, n, profile, fields) for n, tool in enumerate(request.tools))
    tools = [{"type": "function", "function": each} for some in declared for each in some]
    _report_server_tools(request, fields, alone=not tools)
    choice = request.tool_choice
    _check_names(tools)
    if not tools:  # none, or all were left out; an empty list is refused
        if requires_tool(request):
            fields.note("tool_choice", "dropped")
        return {}
    chosen: dict[str, Any] = {}
    if choice and choice.type == "none" and _can_undeclare(request, profile, fields):
        return {}
    if choice and choice.type == "tool" and not _named(choice, tools, profile):
        fields.note("tool_choice", "dropped")
    elif choice and (choice.type == "auto" or fields.keep("tool_choice")):
        chosen["tool_choice"], tools = _choice(choice, tools, profile)
    chosen["tools"] = tools
    parallel = not one_call(request, fields)
    if choice and choice.disable_parallel_tool_use:
        fields.keep("disable_parallel_tool_use")
    when = profile.parallel_tool_calls
    if when == "always" or (when == "when-false" and not parallel):
        chosen["parallel_tool_calls"] = parallel
    return chosen


def _report_server_tools(request: m.MessagesRequest, fields: Fields, alone: bool) -> None:
    """Raise UnsupportedError where a tool that Anthropic would run cannot be left out.

    Next to other tools it mostly can; where it is all there is, the client wants just that.
    """
    policy = "server_tools.alone" if alone else "server_tools"
    for n, tool in enumerate(request.tools):
        if _is_direct(tool) and not tool.custom and as_functions(tool) is None:
            search = (tool.type or "").startswith("tool_search_tool_")
            fields.keep("tool_search" if search else policy, f"tools.{n} ({tool.type})")


def _is_direct(tool: m.Tool) -> bool:
    """Whether the model may call the tool itself. An empty list of callers says nothing."""
    return not tool.allowed_callers or "direct" in tool.allowed_callers


def _check_names(tools: list[dict[str, Any]]) -> None:
    """Raise UnsupportedError where a call of one function could be meant for another."""
    for name, times in Counter(tool["function"]["name"] for tool in tools).items():
        if times > 1:
            raise UnsupportedError(
                f"tools: Tool names must be unique. This backend would get `{name}` {times} times "
                "(the name of a toolset's member, or a shortened one): rename one of the tools"
            )


def _can_undeclare(request: m.MessagesRequest, profile: Profile, fields: Fields) -> bool:
    """Whether leaving the tools out is the way to have none called."""
    if fields.how("tool_choice") == "map":
        return False
    blocks = (block for message in request.messages for block in message.content)
    called = any(isinstance(block, m.ToolUseBlock) for block in blocks)
    return not (called and profile.tools_with_calls)


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
    tool: m.Tool, position: int, profile: Profile, fields: Fields
) -> Iterator[dict[str, Any]]:
    """What is declared for one tool: mostly one function; none where it is left out.

    Nothing is said here of tools that Anthropic would run.
    """
    path = f"tools.{position}"
    limit = profile.tool_name_limit
    if not _is_direct(tool):
        fields.keep("tools.allowed_callers", f"{path} (allowed_callers)")
    elif tool.custom:
        yield _function(tool, profile, fields)
    elif (functions := as_functions(tool)) is not None:
        if fields.keep("client_tools", f"{path} ({tool.type})"):
            for each in functions:
                function = {**each, "name": short_name(each["name"], limit)}
                yield _extended(function, tool, profile, fields)


def _function(tool: m.Tool, profile: Profile, fields: Fields) -> dict[str, Any]:
    schema = without(tool.input_schema or {}, frozenset(profile.schema_without))
    function = {
        "name": short_name(tool.name, profile.tool_name_limit),
        "description": tool.description or "",
        "parameters": {**schema, "properties": schema.get("properties") or {}},
    }
    return _extended(function, tool, profile, fields)


def _extended(
    function: dict[str, Any], tool: m.Tool, profile: Profile, fields: Fields
) -> dict[str, Any]:
    """A function with what the client says of its use."""
    description = function.pop("description")
    if tool.input_examples and fields.keep("tools.input_examples"):
        examples = "\n".join(encode(each).decode() for each in tool.input_examples)
        description = f"{description}\n\nExamples of its input:\n{examples}".lstrip()
    if description:
        function["description"] = description
    if tool.strict is None or not (tool.strict or fields.how("tools.strict") == "map"):
        return function  # `false` is how it is anyway
    if fields.keep("tools.strict"):
        fits = is_closed(function["parameters"]) or not profile.strict_needs_all
        if tool.strict and not fits:
            fields.note("tools.strict", "dropped")
        function["strict"] = tool.strict and fits
    return function
