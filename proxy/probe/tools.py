"""Questions about tools: whether they are called as told, and what may stand in their schemas."""

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

#: The questions that others need a yes to.
TOOLS, STRICT = "tools", "strict in tools"
#: Enough for a call with one short argument, also for a model that says a few words before it.
_CALL = 160
_WEATHER = "What is the weather in Paris?"
_GREETING = "Say hello."
#: JSON schema keywords that some backends refuse; the first two are the ones met most.
_KEYWORDS: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "format": "date",
    "pattern": "[a-z]",  # not anchored, as most are
    "additionalProperties": False,
    "default": "paris",
}
_ON_THE_WHOLE = ("$schema", "additionalProperties")


def tool(name: str, schema: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """A function with one argument `city`; `schema` goes over its parameters."""
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
    """A tool whose schema has these keywords, where they belong."""
    city = {"type": "string", **{n: _KEYWORDS[n] for n in names if n not in _ON_THE_WHOLE}}
    whole = {name: _KEYWORDS[name] for name in names if name in _ON_THE_WHOLE}
    return ProbeRequest({"tools": [tool("weather", {**whole, "properties": {"city": city}})]})


def _keywords(replies: Sequence[Reply]) -> Finding:
    if replies[0].accepted:
        return Finding("all accepted: " + ", ".join(_KEYWORDS), {"unsupported_schema_keywords": ()})
    refused = {
        name: reply.error
        for name, reply in zip(_KEYWORDS, replies[1:], strict=True)
        if not reply.accepted
    }
    if not refused:
        return Finding(f"each accepted, but not together: {replies[0].error}")
    evidence = "; ".join(f"{name}: {error}" for name, error in refused.items())
    return Finding(evidence, {"unsupported_schema_keywords": tuple(refused)})


def _seen(reply: Reply) -> str:
    """What was done in place of the call that was wanted; empty when it cannot be known.

    Text that was cut at the limit may have been the beginning of a call, or been followed by one.
    """
    if reply.calls:
        return f"it called `{reply.calls[0]}`"
    return "it answered with text" if reply.text.strip() and not reply.cut else ""


def _required(replies: Sequence[Reply]) -> Finding:
    reply = replies[-1]
    if any(each.calls for each in replies):
        how = "" if replies[0].calls else " once its answer was begun with `forced_tool_prefill`"
        return Finding(f"obeyed{how}", {"fields.tool_choice": "map"})
    if not reply.accepted:
        return Finding(reply.error, {"fields.tool_choice": "warn"})
    if seen := _seen(reply):
        return Finding(f"ignored: {seen}", {"fields.tool_choice": "warn"})
    return Finding("accepted, but no call came within the limit")


def _named(replies: Sequence[Reply]) -> Finding:
    reply = replies[-1]
    if not reply.accepted:
        return Finding(reply.error, {"named_tool_choice": False})
    if reply.calls[:1] == ["time"]:
        return Finding("obeyed", {"named_tool_choice": True})
    if seen := _seen(reply):
        return Finding(f"ignored: {seen}", {"named_tool_choice": False})
    return Finding("accepted, but no call came within the limit")


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
    asks = [ProbeRequest({**body, "messages": user(_GREETING)}, _CALL)]
    if begun := profile.forced_tool_prefill:
        messages = [*user(_GREETING), {"role": "assistant", "content": begun}]
        asks.append(ProbeRequest({**body, "messages": messages}, _CALL))
    return Question(
        "tool_choice required",
        ("fields.tool_choice",),
        tuple(asks),
        _required,
        enough=lambda replies: bool(replies[-1].calls),
        after=TOOLS,
    )


def _named_question() -> Question:
    """The greeting is for models that talk of the weather until they are cut."""
    choice = {"type": "function", "function": {"name": "time"}}
    body = {"tools": [tool("weather"), tool("time")], "tool_choice": choice}
    return Question(
        "tool_choice by name",
        ("named_tool_choice",),
        tuple(
            ProbeRequest({**body, "messages": user(said)}, _CALL) for said in (_WEATHER, _GREETING)
        ),
        _named,
        enough=lambda replies: not replies[-1].accepted or bool(_seen(replies[-1])),
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
    """What is asked about tools of a backend declared so."""
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
