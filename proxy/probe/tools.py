"""Questions about tools: whether the model calls them, and what their schemas may contain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxy.probe.question import (
    Finding,
    ProbeRequest,
    Question,
    accepted,
    judge_accepted,
    judge_first_accepted,
    judge_plain,
    judge_validated,
    user,
)
from proxy.probe.reply import Reply
from stages.profiles.profile import Profile

#: Questions that others depend on.
TOOLS, STRICT = "tools", "strict in tools"
#: Enough for a call with one short argument, also for a model that says a few words before it.
_CALL = 160
_WEATHER = "What is the weather in Paris?"
_GREETING = "Say hello."
#: JSON Schema keywords that some backends refuse; the first two are the most frequent.
_KEYWORDS: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "format": "date",
    "pattern": "[a-z]",  # not anchored, like most patterns
    "additionalProperties": False,
    "default": "paris",
}
_AT_THE_ROOT = ("$schema", "additionalProperties")


def tool(name: str, schema: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """Return a function with one argument `city`; `schema` overrides its parameters."""
    properties = {"city": {"type": "string"}}
    parameters = {
        "type": "object",
        "properties": properties,
        "required": ["city"],
        **(schema or {}),
    }
    function = {"name": name, "description": f"The {name} of a city", "parameters": parameters}
    return {"type": "function", "function": {**function, **members}}


def _with_keywords(*names: str) -> ProbeRequest:
    """Return a request with a tool whose schema has these keywords."""
    city = {"type": "string", **{n: _KEYWORDS[n] for n in names if n not in _AT_THE_ROOT}}
    root = {name: _KEYWORDS[name] for name in names if name in _AT_THE_ROOT}
    return ProbeRequest({"tools": [tool("weather", {**root, "properties": {"city": city}})]})


def _keywords(replies: Sequence[Reply]) -> Finding:
    if replies[0].accepted:
        return Finding("all accepted: " + ", ".join(_KEYWORDS), {"unsupported_schema_keywords": ()})
    refused = {
        name: reply.error
        for name, reply in zip(_KEYWORDS, replies[1:], strict=True)
        if not reply.accepted
    }
    if not refused:
        return Finding(f"accepted one by one, but not together: {replies[0].error}")
    evidence = "; ".join(f"{name}: {error}" for name, error in refused.items())
    return Finding(evidence, {"unsupported_schema_keywords": tuple(refused)})


def _other_behavior(reply: Reply) -> str:
    """Say what the model did in place of the required call; empty if that is unknown.

    Text that ended at the output limit may be the beginning of a call, or precede one.
    """
    if reply.calls:
        return f"the model called `{reply.calls[0]}`"
    return "the model responded with text" if reply.text.strip() and not reply.cut else ""


def _required(replies: Sequence[Reply]) -> Finding:
    reply = replies[-1]
    if any(reply.calls for reply in replies):
        condition = "" if replies[0].calls else " with `forced_tool_prefill`"
        return Finding(f"obeyed{condition}", {"fields.tool_choice": "map"})
    if not reply.accepted:
        return Finding(reply.error, {"fields.tool_choice": "warn"})
    if behavior := _other_behavior(reply):
        return Finding(f"ignored: {behavior}", {"fields.tool_choice": "warn"})
    return Finding("accepted, but no call within the output limit")


def _named(replies: Sequence[Reply]) -> Finding:
    reply = replies[-1]
    if not reply.accepted:
        return Finding(reply.error, {"named_tool_choice": False})
    if reply.calls[:1] == ["time"]:
        return Finding("obeyed", {"named_tool_choice": True})
    if behavior := _other_behavior(reply):
        return Finding(f"ignored: {behavior}", {"named_tool_choice": False})
    return Finding("accepted, but no call within the output limit")


def _parallel(profile: Profile) -> Question:
    sent = "when-false" if profile.parallel_tool_calls == "never" else profile.parallel_tool_calls
    field, key = "fields.disable_parallel_tool_use", "parallel_tool_calls"
    tools = {"tools": [tool("weather")]}
    return Question(
        "parallel_tool_calls",
        (key, field),
        (ProbeRequest({**tools, key: False}), ProbeRequest({**tools, key: "nonsense"})),
        judge_validated({key: sent, field: "map"}, {key: "never", field: "warn"}),
        after=TOOLS,
    )


def _required_question(profile: Profile) -> Question:
    body = {"tools": [tool("weather")], "tool_choice": "required"}
    requests = [ProbeRequest({**body, "messages": user(_GREETING)}, _CALL)]
    if prefill := profile.forced_tool_prefill:
        messages = [*user(_GREETING), {"role": "assistant", "content": prefill}]
        requests.append(ProbeRequest({**body, "messages": messages}, _CALL))
    return Question(
        "tool_choice required",
        ("fields.tool_choice",),
        tuple(requests),
        _required,
        enough=lambda replies: bool(replies[-1].calls),
        after=TOOLS,
    )


def _named_question() -> Question:
    """Ask again with a greeting: some models write about the weather up to the output limit."""
    choice = {"type": "function", "function": {"name": "time"}}
    body = {"tools": [tool("weather"), tool("time")], "tool_choice": choice}
    return Question(
        "tool_choice by name",
        ("named_tool_choice",),
        tuple(
            ProbeRequest({**body, "messages": user(text)}, _CALL) for text in (_WEATHER, _GREETING)
        ),
        _named,
        enough=lambda replies: not replies[-1].accepted or bool(_other_behavior(replies[-1])),
        after=TOOLS,
    )


def _long_named(length: int) -> ProbeRequest:
    return ProbeRequest({"tools": [tool("weather_" + "x" * (length - 8))]})


_STRICT = {"additionalProperties": False}
_OPTIONAL = {**_STRICT, "required": []}


def _strict_question() -> Question:
    asked = [
        ProbeRequest({"tools": [tool("weather", _STRICT, strict=s)]}) for s in (True, "nonsense")
    ]
    return Question(
        STRICT,
        ("fields.tools.strict",),
        tuple(asked),
        judge_validated({"fields.tools.strict": "map"}, {"fields.tools.strict": "warn"}),
        after=TOOLS,
    )


def tool_questions(profile: Profile) -> tuple[Question, ...]:
    """Return the questions about tools for a backend with this profile."""
    return (
        Question(TOOLS, (), (ProbeRequest({"tools": [tool("weather")]}),), judge_plain),
        _required_question(profile),
        _named_question(),
        _parallel(profile),
        _strict_question(),
        Question(
            "strict with an optional argument",
            ("strict_needs_closed_schema",),
            (ProbeRequest({"tools": [tool("weather", _OPTIONAL, strict=True)]}),),
            judge_accepted(
                {"strict_needs_closed_schema": False}, {"strict_needs_closed_schema": True}
            ),
            after=STRICT,
        ),
        Question(
            "long tool names",
            ("tool_name_limit",),
            (_long_named(128), _long_named(65)),
            judge_first_accepted("tool_name_limit", (128, 65), {"tool_name_limit": 64}),
            enough=accepted,
            after=TOOLS,
        ),
        Question(
            "keywords in tool schemas",
            ("unsupported_schema_keywords",),
            (_with_keywords(*_KEYWORDS), *map(_with_keywords, _KEYWORDS)),
            _keywords,
            enough=lambda replies: replies[0].accepted,
            after=TOOLS,
        ),
    )
