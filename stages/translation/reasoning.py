"""Reasoning, both ways: asking for it, and giving it back in the next turn.

Asking, by the profile's `reasoning_request`:

    effort     reasoning_effort: LEVEL                           OpenAI, vLLM, Ollama
    reasoning  reasoning: {effort: LEVEL} or {max_tokens: N}      OpenRouter
    template   chat_template_kwargs: {enable_thinking: BOOL}      llama.cpp, SGLang
    thinking   thinking: {type, budget_tokens}                    Claude on Databricks

Giving back: clients return thinking blocks unchanged, so the signature is an envelope of ours.
It names the backend, and holds what the visible text does not: structured details, or the text
itself when the client asked not to see it. A signature of somebody else is never an error.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from attrs import frozen

from stages.backends.profile import Profile
from stages.translation.fields import Fields
from stages.translation.shapes import items, text
from stages.wire import json
from stages.wire import messages as m

_MARK = "llmp1."
#: Levels of effort there are anywhere, lowest first.
LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# A bare budget as a level of effort: below so many tokens. Our choice; nobody documents one.
_BUDGETS = ((4_096, "low"), (16_384, "medium"))


@frozen
class Envelope:
    """What a signature of ours holds."""

    backend: str
    text: str = ""
    details: tuple[dict[str, Any], ...] = ()


def seal(envelope: Envelope) -> str:
    """The signature for an envelope: opaque to clients, safe in JSON and in headers."""
    held: dict[str, Any] = {"backend": envelope.backend}
    if envelope.text:
        held["text"] = envelope.text
    if envelope.details:
        held["details"] = list(envelope.details)
    return _MARK + base64.urlsafe_b64encode(json.encode(held)).decode()


def joined(fragments: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """The details of a stream as they are in a whole answer.

    OpenRouter sends one detail in fragments of the same `index`, the signature last, and takes
    only the whole one back: each fragment by itself would be a block without a valid signature.
    """
    details: list[list[dict[str, Any]]] = []
    for each in fragments:
        if details and _goes_on(details[-1][-1], each):
            details[-1].append(each)
        else:
            details.append([each])
    return tuple(map(_whole, details))


def _goes_on(before: dict[str, Any], fragment: dict[str, Any]) -> bool:
    """Whether a fragment goes on with the detail of the one before; encrypted ones come whole."""
    if before.get("signature") or type(before.get("index")) is not int:
        return False
    kind = before.get("type")
    same = kind == fragment.get("type") and before["index"] == fragment.get("index")
    return same and kind in ("reasoning.text", "reasoning.summary")


def _whole(fragments: list[dict[str, Any]]) -> dict[str, Any]:
    first, *more = fragments
    whole = dict(first)
    for each in more:
        whole |= {name: value for name, value in each.items() if value is not None}
    for name in ("text", "summary"):
        if more and name in whole:
            whole[name] = "".join(text(each.get(name)) for each in fragments)
    return whole


def unseal(signature: str) -> Envelope | None:
    """The envelope in a signature; None when it is not one of ours."""
    if not signature.startswith(_MARK):
        return None
    try:
        held = json.decode(base64.urlsafe_b64decode(signature.removeprefix(_MARK)))
    except ValueError:
        return None
    if not isinstance(held, dict) or not isinstance(held.get("backend"), str):
        return None
    details = tuple(each for each in items(held.get("details")) if isinstance(each, dict))
    return Envelope(held["backend"], text(held.get("text")), details)


def reasoning_options(
    request: m.MessagesRequest, profile: Profile, fields: Fields
) -> dict[str, Any]:
    """What asks the backend to think as much as the client wants."""
    thinking, effort = _wished_thinking(request, fields), request.effort
    if effort and not fields.keep("output_config.effort"):
        effort = None
    if tells_no_reasoning(request, profile):
        if effort or (thinking is not None and thinking.asked):
            fields.note("thinking", "dropped")
        return _off(profile)
    if thinking is None and effort is None:
        return {}
    if thinking is not None and not thinking.asked:
        return _off(profile)
    if profile.reasoning_request == "thinking":
        return _thought(thinking, request.max_tokens, fields)
    budget = thinking.budget_tokens if thinking else None
    if budget and profile.reasoning_request == "reasoning":
        budget = _below_limit(budget, request.max_tokens, fields)
    return _asked(thinking, effort, budget, profile)


def _wished_thinking(request: m.MessagesRequest, fields: Fields) -> m.Thinking | None:
    """`thinking` as far as the policy keeps it. A wish for none is dropped without a note."""
    thinking = request.thinking
    if thinking is None or not thinking.wanted:
        return thinking if fields.how("thinking") == "map" else None
    kept = fields.keep("thinking")
    if not thinking.asked:
        if kept:  # the thinking is off as it should be, but nobody makes the notes
            fields.note("thinking.between_tools", "dropped", "thinking")
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
            return {"chat_template_kwargs": {"enable_thinking": False}}
        case "thinking":
            return {"thinking": {"type": "disabled"}}
    return {}


def _thought(thinking: m.Thinking | None, max_tokens: int | None, fields: Fields) -> dict[str, Any]:
    """Claude's own parameter. Its budget has to be 1024 at least."""
    if thinking is None:
        return {}
    wanted = thinking.budget_tokens or min(4_096, (max_tokens or 5_000) - 1)
    budget = _below_limit(wanted, max_tokens, fields)
    if budget < 1024:
        fields.note("thinking", "dropped")
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _below_limit(budget: int, max_tokens: int | None, fields: Fields) -> int:
    """A budget that is below the output limit; with interleaved thinking it need not be so."""
    if not max_tokens or budget < max_tokens:
        return budget
    fields.note("thinking.budget_tokens", "lowered", "thinking")
    return max_tokens - 1


def _asked(
    thinking: m.Thinking | None, effort: str | None, budget: int | None, profile: Profile
) -> dict[str, Any]:
    nearest = _nearest(effort or _level(budget), profile.effort_levels)
    match profile.reasoning_request:
        case "effort" if nearest:
            return {"reasoning_effort": nearest}
        case "reasoning":
            return {"reasoning": {"max_tokens": budget} if budget else {"effort": nearest}}
        case "template" if thinking is not None:
            return {"chat_template_kwargs": {"enable_thinking": True}}
    return {}


def _level(budget: int | None) -> str:
    if budget is None:
        return "high"  # which is what no effort means
    return next((level for limit, level in _BUDGETS if budget < limit), "high")


def _nearest(level: str, known: tuple[str, ...]) -> str:
    """The level itself, or the nearest the backend knows; empty if it knows none."""
    if level in known:
        return level
    wanted = LEVELS.index(level)
    ranked = [each for each in known if each in LEVELS and each != "none"]
    return min(ranked, key=lambda each: abs(LEVELS.index(each) - wanted), default="")


def history(
    block: m.ThinkingBlock, backend: str, profile: Profile, fields: Fields
) -> dict[str, Any]:
    """The members of an assistant message that give a thinking block back to its backend."""
    if not fields.keep("thinking_block"):
        return {}
    envelope = unseal(block.signature)
    if envelope is None or envelope.backend != backend:  # this backend could have used its own
        fields.note("thinking_block", "dropped")
        return {}
    thought = block.thinking or envelope.text
    match profile.reasoning_history:
        case "reasoning" | "reasoning_content" if thought:
            return {profile.reasoning_history: thought}
        case "reasoning_details" if envelope.details:
            return {"reasoning_details": list(envelope.details)}
        case "reasoning_details" if thought:  # of a model that signs nothing
            return {"reasoning": thought}
    return {}
