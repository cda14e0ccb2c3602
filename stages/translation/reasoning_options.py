"""The options that ask a backend for reasoning, or for none, by the profile's `reasoning_request`.

    effort     reasoning_effort: LEVEL                           OpenAI, vLLM, Ollama
    reasoning  reasoning: {effort: LEVEL} or {max_tokens: N}     OpenRouter
               reasoning: {enabled: BOOL}, without levels        Together
    template   chat_template_kwargs: {SWITCH: BOOL}              llama.cpp, SGLang
    switch     SWITCH: BOOL, thinking_budget: N                  DashScope
    thinking   thinking: {type, budget_tokens}                   Claude on Databricks
               thinking: {type}, reasoning_effort: LEVEL         DeepSeek, Moonshot, Z.ai

A request without `thinking` and effort gets no option.
"""

from __future__ import annotations

from typing import Any

from stages.chat_completions.json_values import as_array, as_object
from stages.messages_api import request as m
from stages.profiles.profile import Profile
from stages.translation.field_policies import FieldPolicies

#: All levels of effort of all backends, lowest first.
LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# The level for a budget below this many tokens. Our choice: no backend documents one.
_BUDGETS = ((4_096, "low"), (16_384, "medium"))
#: The smallest budget that Claude accepts, in tokens.
_MIN_BUDGET = 1024


def reasoning_options(
    request: m.MessagesRequest,
    messages: list[dict[str, Any]],
    profile: Profile,
    fields: FieldPolicies,
) -> dict[str, Any]:
    """Return the options for the request's `thinking` and effort. `messages` are translated."""
    thinking, effort = _permitted_thinking(request, fields), request.effort
    if effort and not fields.allows("output_config.effort"):
        effort = None
    if forbids_reasoning(request, profile):
        if effort or (thinking is not None and thinking.enabled):
            fields.report("thinking", "dropped")
        return _disabled(profile)
    if thinking is None and effort is None:
        return {}
    if thinking is not None and not thinking.enabled:
        return _disabled(profile)
    budget = thinking.budget_tokens if thinking else None
    if profile.reasoning_request == "thinking":
        options = _thinking(thinking, request.max_tokens, profile, fields)
        options |= _effort_with_thinking(effort, budget, profile)
        return _with_history(options, messages, profile, fields)
    if budget and profile.reasoning_request in ("reasoning", "switch"):
        budget = _below_limit(budget, request.max_tokens, fields)
    return _enabled(thinking, effort, budget, profile)


def _permitted_thinking(request: m.MessagesRequest, fields: FieldPolicies) -> m.Thinking | None:
    """Return `thinking` if the policy keeps it. `disabled` is dropped without a report."""
    thinking = request.thinking
    if thinking is None:
        return None
    if thinking.type == "disabled":
        return thinking if fields.policy("thinking") == "map" else None
    kept = fields.allows("thinking")
    if not thinking.enabled:
        if kept:  # reasoning is off, as requested, but no backend writes the notes
            fields.report("thinking.between_tools", "dropped", "thinking")
        return thinking
    return thinking if kept else None


def forbids_reasoning(request: m.MessagesRequest, profile: Profile) -> bool:
    """Whether the backend accepts the tools of the request only without reasoning."""
    return bool(request.tools) and (
        profile.tools_without_reasoning
        or (profile.forced_tool_without_reasoning and request.requires_tool)
    )


def _disabled(profile: Profile) -> dict[str, Any]:
    """Return the options that disable reasoning; none, if the backend has no such option."""
    if not profile.can_disable_reasoning:
        return {}
    match profile.reasoning_request:
        case "effort" if "none" in profile.effort_levels:
            return {"reasoning_effort": "none"}
        case "reasoning":
            return {"reasoning": {"enabled": False}}
        case "template":
            return {"chat_template_kwargs": {profile.reasoning_switch: False}}
        case "switch":
            return {profile.reasoning_switch: False}
        case "thinking":
            return {"thinking": {"type": "disabled"}}
    return {}


def _thinking(
    thinking: m.Thinking | None, max_tokens: int | None, profile: Profile, fields: FieldPolicies
) -> dict[str, Any]:
    """Return Claude's own parameter, with a budget if the backend takes one."""
    if thinking is None:
        return {}
    if not profile.thinking_budget:
        return {"thinking": {"type": profile.thinking_type}}
    budget = thinking.budget_tokens or min(4_096, (max_tokens or 5_000) - 1)
    budget = _below_limit(budget, max_tokens, fields)
    if budget < _MIN_BUDGET:
        fields.report("thinking", "dropped")
        return {}
    return {"thinking": {"type": profile.thinking_type, "budget_tokens": budget}}


def _effort_with_thinking(
    effort: str | None, budget: int | None, profile: Profile
) -> dict[str, Any]:
    """Return the level next to `thinking`, if the client sets an effort or a budget."""
    if not profile.effort_with_thinking or not (effort or budget):
        return {}
    level = _nearest(effort or _level(budget), profile.effort_levels)
    return {"reasoning_effort": level} if level else {}


def _with_history(
    options: dict[str, Any],
    messages: list[dict[str, Any]],
    profile: Profile,
    fields: FieldPolicies,
) -> dict[str, Any]:
    """Drop `thinking` if the backend would miss the reasoning before the last tool call.

    Claude: "When `thinking` is enabled, a final `assistant` message must start with a thinking
    block (preceeding the lastmost set of `tool_use` and `tool_result` blocks)".
    """
    if not profile.thinking_needs_history or "thinking" not in options:
        return options
    assistant = (message for message in reversed(messages) if message["role"] == "assistant")
    last: dict[str, Any] = next(assistant, {})
    first_types = [as_object(item).get("type") for item in as_array(last.get("content"))[:1]]
    if not last.get("tool_calls") or any(kind in profile.returned_content for kind in first_types):
        return options
    fields.report("thinking", "dropped")
    del options["thinking"]
    return options


def _below_limit(budget: int, max_tokens: int | None, fields: FieldPolicies) -> int:
    """Lower a budget below the output limit. With interleaved thinking it may be above it."""
    if not max_tokens or budget < max_tokens:
        return budget
    fields.report("thinking.budget_tokens", "lowered", "thinking")
    return max_tokens - 1


def _enabled(
    thinking: m.Thinking | None, effort: str | None, budget: int | None, profile: Profile
) -> dict[str, Any]:
    level = _nearest(effort or _level(budget), profile.effort_levels)
    match profile.reasoning_request:
        case "effort" if level:
            return {"reasoning_effort": level}
        case "reasoning":
            return {"reasoning": _reasoning(level, budget if profile.thinking_budget else None)}
        case "template" if thinking is not None:
            return {"chat_template_kwargs": {profile.reasoning_switch: True}}
        case "switch" if thinking is not None:
            limit = {"thinking_budget": budget} if budget and profile.thinking_budget else {}
            return {profile.reasoning_switch: True, **limit}
    return {}


def _reasoning(level: str, budget: int | None) -> dict[str, Any]:
    """Return the value of OpenRouter's `reasoning`."""
    if budget:
        return {"max_tokens": budget}
    return {"effort": level} if level else {"enabled": True}


def _level(budget: int | None) -> str:
    """Return the level for a budget in tokens. Default: `high`, as in the Messages API."""
    if budget is None:
        return "high"
    return next((level for limit, level in _BUDGETS if budget < limit), "high")


def _nearest(level: str, levels: tuple[str, ...]) -> str:
    """Return the level itself, or the nearest of the backend's; empty if it has none.

    A backend that only turns reasoning on and off has the level `default` (Groq's Qwen models).
    """
    if level in levels:
        return level
    wanted = LEVELS.index(level)
    ranked = [name for name in levels if name in LEVELS and name != "none"]
    only = "default" if "default" in levels else ""
    return min(ranked, key=lambda name: abs(LEVELS.index(name) - wanted), default=only)
