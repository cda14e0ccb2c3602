"""What asks a backend for reasoning, or for none, by the profile's `reasoning_request`.

    effort     reasoning_effort: LEVEL                           OpenAI, vLLM, Ollama
    reasoning  reasoning: {effort: LEVEL} or {max_tokens: N}     OpenRouter
               reasoning: {enabled: BOOL}, without levels        Together
    template   chat_template_kwargs: {SWITCH: BOOL}              llama.cpp, SGLang
    switch     SWITCH: BOOL, thinking_budget: N                  DashScope
    thinking   thinking: {type, budget_tokens}                   Claude on Databricks
               thinking: {type}, reasoning_effort: LEVEL         DeepSeek, Moonshot, Z.ai

Where the client says nothing of reasoning, nothing is sent.
"""

from __future__ import annotations

from typing import Any

from stages.messages_api import request as m
from stages.profiles.profile import Profile
from stages.translation.field_policies import FieldPolicies

#: Levels of effort there are anywhere, lowest first.
LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# A bare budget as a level of effort: below so many tokens. Our choice; nobody documents one.
_BUDGETS = ((4_096, "low"), (16_384, "medium"))
#: The smallest budget that Claude takes.
_LEAST = 1024


def reasoning_options(
    request: m.MessagesRequest, profile: Profile, fields: FieldPolicies
) -> dict[str, Any]:
    """What asks the backend to think as much as the client wants."""
    thinking, effort = _wished_thinking(request, fields), request.effort
    if effort and not fields.allows("output_config.effort"):
        effort = None
    if request.tools and tells_no_reasoning(request, profile):
        if effort or (thinking is not None and thinking.enabled):
            fields.report("thinking", "dropped")
        return _off(profile)
    if thinking is None and effort is None:
        return {}
    if thinking is not None and not thinking.enabled:
        return _off(profile)
    budget = thinking.budget_tokens if thinking else None
    if profile.reasoning_request == "thinking":
        made = _thought(thinking, request.max_tokens, profile, fields)
        return made | _effort_with_thinking(effort, budget, profile)
    if budget and profile.reasoning_request in ("reasoning", "switch"):
        budget = _below_limit(budget, request.max_tokens, fields)
    return _asked(thinking, effort, budget, profile)


def _wished_thinking(request: m.MessagesRequest, fields: FieldPolicies) -> m.Thinking | None:
    """`thinking` as far as the policy keeps it. A wish for none is dropped without a note."""
    thinking = request.thinking
    if thinking is None:
        return None
    if not thinking.blocks_allowed:
        return thinking if fields.policy("thinking") == "map" else None
    kept = fields.allows("thinking")
    if not thinking.enabled:
        if kept:  # the thinking is off as it should be, but nobody makes the notes
            fields.report("thinking.between_tools", "dropped", "thinking")
        return thinking
    return thinking if kept else None


def tells_no_reasoning(request: m.MessagesRequest, profile: Profile) -> bool:
    """Whether the backend takes the tools of a request only if it is told not to reason."""
    choice = request.tool_choice
    forced = choice is not None and choice.forced
    return bool(request.tools) and (
        profile.tools_without_reasoning or (profile.forced_tool_without_reasoning and forced)
    )


def _off(profile: Profile) -> dict[str, Any]:
    """What tells the backend not to reason; nothing where it cannot be told."""
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


def _thought(
    thinking: m.Thinking | None, max_tokens: int | None, profile: Profile, fields: FieldPolicies
) -> dict[str, Any]:
    """Claude's own parameter, with its budget where that is taken."""
    if thinking is None:
        return {}
    if not profile.thinking_budget:
        return {"thinking": {"type": profile.thinking_type}}
    wanted = thinking.budget_tokens or min(4_096, (max_tokens or 5_000) - 1)
    budget = _below_limit(wanted, max_tokens, fields)
    if budget < _LEAST:
        fields.report("thinking", "dropped")
        return {}
    return {"thinking": {"type": profile.thinking_type, "budget_tokens": budget}}


def _effort_with_thinking(
    effort: str | None, budget: int | None, profile: Profile
) -> dict[str, Any]:
    """The level next to `thinking`; none where the client says nothing of it."""
    if not profile.effort_with_thinking or not (effort or budget):
        return {}
    level = _nearest(effort or _level(budget), profile.effort_levels)
    return {"reasoning_effort": level} if level else {}


def _below_limit(budget: int, max_tokens: int | None, fields: FieldPolicies) -> int:
    """A budget that is below the output limit; with interleaved thinking it need not be so."""
    if not max_tokens or budget < max_tokens:
        return budget
    fields.report("thinking.budget_tokens", "lowered", "thinking")
    return max_tokens - 1


def _asked(
    thinking: m.Thinking | None, effort: str | None, budget: int | None, profile: Profile
) -> dict[str, Any]:
    nearest = _nearest(effort or _level(budget), profile.effort_levels)
    match profile.reasoning_request:
        case "effort" if nearest:
            return {"reasoning_effort": nearest}
        case "reasoning":
            return {"reasoning": _routed(nearest, budget if profile.thinking_budget else None)}
        case "template" if thinking is not None:
            return {"chat_template_kwargs": {profile.reasoning_switch: True}}
        case "switch" if thinking is not None:
            limit = {"thinking_budget": budget} if budget and profile.thinking_budget else {}
            return {profile.reasoning_switch: True, **limit}
    return {}


def _routed(level: str, budget: int | None) -> dict[str, Any]:
    if budget:
        return {"max_tokens": budget}
    return {"effort": level} if level else {"enabled": True}


def _level(budget: int | None) -> str:
    if budget is None:
        return "high"  # which is what no effort means
    return next((level for limit, level in _BUDGETS if budget < limit), "high")


def _nearest(level: str, known: tuple[str, ...]) -> str:
    """The level itself, or the nearest the backend knows; empty if it knows none.

    A backend that only turns reasoning on and off calls on `default` (Groq's Qwen models).
    """
    if level in known:
        return level
    wanted = LEVELS.index(level)
    ranked = [each for each in known if each in LEVELS and each != "none"]
    only = "default" if "default" in known else ""
    return min(ranked, key=lambda each: abs(LEVELS.index(each) - wanted), default=only)
