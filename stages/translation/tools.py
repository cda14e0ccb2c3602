"""The tools and the tool choice of a Messages request as Chat Completions options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from attrs import define, field

from stages.messages_api import request as m
from stages.messages_api.errors import UnsupportedError
from stages.profiles.profile import Profile
from stages.translation.client_tool_functions import as_functions, members
from stages.translation.field_policies import FieldPolicies
from stages.translation.json_schema import fit_schema, is_closed
from stages.translation.tool_names import short_name
from stages.wire.json_codec import encode


@define
class TranslatedTools:
    """The tools of one request."""

    single_call: bool
    """Whether the client gets only the first call of a response.

    The proxy drops the others, because some backends make several calls in spite of the option.
    """
    options: dict[str, Any] = field(factory=dict)
    """`tools`, `tool_choice` and `parallel_tool_calls`."""
    client_names: dict[str, dict[str, str]] = field(factory=dict)
    """The client's names of tools by the backend's names, where these differ."""
    encoded: bytes = b""
    """The JSON of `tools` in the options, if they are cached."""


def translate_tools(
    request: m.MessagesRequest, profile: Profile, fields: FieldPolicies
) -> TranslatedTools:
    """Translate the tools and the tool choice. Raises UnsupportedError."""
    choice = request.tool_choice
    single = choice is not None and choice.disable_parallel_tool_use
    enforced = fields.policy("disable_parallel_tool_use") in ("map", "emulate")
    translated = TranslatedTools(single and enforced)
    tools: list[dict[str, Any]] = []
    server_tools: list[str] = []
    for n, tool in enumerate(request.tools):
        translated.client_names |= _client_names(tool, profile.tool_name_limit)
        functions = _functions(tool, f"tools.{n}", profile, fields, server_tools)
        tools += [{"type": "function", "function": function} for function in functions]
    for path in server_tools:
        fields.allows("server_tools" if tools else "server_tools.alone", path)
    if tools:
        _check_names(tools)
        translated.options = _options(
            request, _limit(tools, choice, profile, fields), profile, fields
        )
    elif request.requires_tool:
        fields.report("tool_choice", "dropped")
    if "tools" in translated.options:
        if single:
            fields.allows("disable_parallel_tool_use")
        when = profile.parallel_tool_calls
        if when == "always" or (when == "when-false" and translated.single_call):
            translated.options["parallel_tool_calls"] = not translated.single_call
    return translated


def _client_names(tool: m.Tool, limit: int) -> dict[str, dict[str, str]]:
    if len(tool.name) > limit:
        return {short_name(tool.name, limit): {"name": tool.name}}
    if tool.custom:
        return {}
    return {short_name(name, limit): client_name for name, client_name in members(tool)}


def _options(
    request: m.MessagesRequest,
    tools: list[dict[str, Any]],
    profile: Profile,
    fields: FieldPolicies,
) -> dict[str, Any]:
    """Return `tools` and `tool_choice`; nothing, if leaving out the tools forbids calls."""
    choice = request.tool_choice
    if choice and choice.type == "none" and _can_omit(request, profile, fields):
        return {}
    if choice and choice.type == "tool" and not _named(choice, tools, profile):
        fields.report("tool_choice", "dropped")
    elif choice and (choice.type == "auto" or fields.allows("tool_choice")):
        backend_choice, tools = _choice(choice, tools, profile)
        return {"tool_choice": backend_choice, "tools": tools}
    return {"tools": tools}


def _limit(
    tools: list[dict[str, Any]],
    choice: m.ToolChoice | None,
    profile: Profile,
    fields: FieldPolicies,
) -> list[dict[str, Any]]:
    """Keep the first `max_tools` tools, and the one that the client's choice names."""
    limit = profile.max_tools
    if limit is None or len(tools) <= limit:
        return tools
    fields.report("tools", "cut")
    named = _named(choice, tools, profile) if choice and choice.type == "tool" else []
    kept = tools[:limit]
    return kept if all(tool in kept for tool in named) else [*kept[:-1], *named]


def _check_names(tools: list[dict[str, Any]]) -> None:
    """Raise UnsupportedError where a call of one function could be meant for another."""
    for name, times in Counter(tool["function"]["name"] for tool in tools).items():
        if times > 1:
            raise UnsupportedError(
                f"tools: Tool names must be unique. This backend would get `{name}` {times} times "
                "(the name of a toolset's member, or a shortened one): rename one of the tools"
            )


def _can_omit(request: m.MessagesRequest, profile: Profile, fields: FieldPolicies) -> bool:
    """Whether the request may go without tools, so that the model calls none."""
    if fields.policy("tool_choice") == "map":
        return False
    blocks = (block for message in request.messages for block in message.content)
    has_calls = any(isinstance(block, m.ToolUseBlock) for block in blocks)
    return not (has_calls and profile.needs_tools_with_history)


def _choice(
    choice: m.ToolChoice, tools: list[dict[str, Any]], profile: Profile
) -> tuple[Any, list[dict[str, Any]]]:
    """Return the backend's `tool_choice`, and the tools to send with it."""
    if choice.type != "tool":
        return {"auto": "auto", "any": "required", "none": "none"}[choice.type], tools
    named = _named(choice, tools, profile)
    if profile.named_tool_choice:
        return {"type": "function", "function": {"name": named[0]["function"]["name"]}}, tools
    # Such a backend takes no name: send only this tool.
    return "required", named


def _named(
    choice: m.ToolChoice, tools: list[dict[str, Any]], profile: Profile
) -> list[dict[str, Any]]:
    """Return the tool that the choice names, as a list; an empty list if it is not sent."""
    name = short_name(choice.name or "", profile.tool_name_limit)
    return [tool for tool in tools if tool["function"]["name"] == name]


def _functions(
    tool: m.Tool, path: str, profile: Profile, fields: FieldPolicies, server_tools: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield the functions of one tool: mostly one; none, if the tool is dropped.

    Tools that Anthropic would run are appended to `server_tools`, and reported by the caller.
    """
    limit = profile.tool_name_limit
    if tool.allowed_callers and "direct" not in tool.allowed_callers:
        fields.allows("tools.allowed_callers", f"{path} (allowed_callers)")
    elif tool.custom:
        yield _function(tool, profile, fields)
    elif (functions := as_functions(tool)) is not None:
        kept = fields.allows("client_tools", f"{path} ({tool.type})")
        for function in functions if kept else ():
            function = {**function, "name": short_name(function["name"], limit)}
            yield _complete(function, tool, profile, fields)
    elif (tool.type or "").startswith("tool_search_tool_"):
        fields.allows("tool_search", f"{path} ({tool.type})")
    else:
        server_tools.append(f"{path} ({tool.type})")


def _function(tool: m.Tool, profile: Profile, fields: FieldPolicies) -> dict[str, Any]:
    function = {
        "name": short_name(tool.name, profile.tool_name_limit),
        "description": tool.description or "",
        "parameters": tool.input_schema or {},
    }
    return _complete(function, tool, profile, fields)


def _complete(
    function: dict[str, Any], tool: m.Tool, profile: Profile, fields: FieldPolicies
) -> dict[str, Any]:
    """Fit the schema of a function to the profile; add the tool's examples and `strict`."""
    fitted = fit_schema(function["parameters"], profile)
    if fitted.loosened:
        fields.report("tools.input_schema", "loosened", "tools")
    properties = fitted.schema.get("properties") or {}
    function = {**function, "parameters": {**fitted.schema, "properties": properties}}
    description = function.pop("description")
    if tool.input_examples and fields.allows("tools.input_examples"):
        examples = "\n".join(encode(example).decode() for example in tool.input_examples)
        description = f"{description}\n\nExamples of its input:\n{examples}".lstrip()
    if description:
        function["description"] = description
    # `false` is the default of backends, so a backend without `strict` loses nothing.
    has_strict = tool.strict or (tool.strict is not None and fields.policy("tools.strict") == "map")
    if has_strict and fields.allows("tools.strict"):
        fits = is_closed(function["parameters"]) or not profile.strict_needs_closed_schema
        fits = fits and not fitted.loosened
        if tool.strict and not fits:
            fields.report("tools.strict", "dropped")
        function["strict"] = tool.strict and fits
    return function
