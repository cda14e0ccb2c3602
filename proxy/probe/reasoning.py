"""Questions about reasoning: how to ask for it, and where in the answer it comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxy.probe.question import NONSENSE_TOO, Finding, ProbeRequest, Question, user
from proxy.probe.reply import Reply
from stages.translation.reasoning_options import LEVELS

#: Enough to see whether the model thinks first, or not.
_TOKENS = 32
_SUM = user("What is 17 + 25?")
_NONSENSE = "nonsense"
#: Ways to ask that can be seen in the answer: the name in `reasoning_request`, on, and off.
_WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "effort": ({"reasoning_effort": "low"}, {"reasoning_effort": "none"}),
    "template": (
        {"chat_template_kwargs": {"enable_thinking": True}},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ),
    "reasoning": ({"reasoning": {"enabled": True}}, {"reasoning": {"enabled": False}}),
}
_TAG = "<think>"


def thinks(reply: Reply) -> bool:
    """Whether there is reasoning in the answer, in a field or in the text."""
    return bool(reply.reasoning) or _TAG in reply.text


def _levels(replies: Sequence[Reply]) -> Finding:
    """A backend that takes any level reads none of them, or would not say so."""
    nonsense, *levels = replies
    if nonsense.accepted:
        return Finding(NONSENSE_TOO)
    known = [level for level, reply in zip(LEVELS, levels, strict=True) if reply.accepted]
    if not known:
        return Finding(nonsense.error, {"fields.output_config.effort": "warn"})
    found = {
        "effort_levels": tuple(known),
        "reasoning_request": "effort",
        "fields.output_config.effort": "map",
        "fields.thinking": "map",
    }
    return Finding("accepted: " + ", ".join(known), found)


def _ways(replies: Sequence[Reply]) -> Finding:
    pairs = zip(_WAYS, replies[::2], replies[1::2], strict=True)
    for way, on, off in pairs:
        refused = 400 <= off.status < 500
        if thinks(on) and (refused or (off.accepted and not thinks(off))):
            effort = "warn" if way == "template" else "map"
            sets: dict[str, Any] = {"reasoning_request": way, "fields.thinking": "map"}
            sets["fields.output_config.effort"] = effort
            sets["can_disable_reasoning"] = off.accepted
            # Who refuses the one value and takes the other reads the member.
            how = "on and off" if off.accepted else f"on; off: {off.error}"
            return Finding(f"`{way}` turns it {how}", sets)
    return Finding("none of the ways tried turns it on and off")


def _place(replies: Sequence[Reply]) -> Finding:
    fields = [reply.reasoning for reply in replies if reply.reasoning]
    if fields:
        sets = {"reasoning_history": fields[0], "think_tags": False, "fields.thinking_block": "map"}
        return Finding(f"it comes in `{fields[0]}`", sets)
    if any(_TAG in reply.text for reply in replies):
        return Finding(f"it comes in the text, as `{_TAG}`", {"think_tags": True})
    return Finding("the model showed no reasoning")


QUESTIONS = (
    Question(
        "reasoning_effort",
        ("effort_levels", "fields.output_config.effort"),
        tuple(ProbeRequest({"reasoning_effort": level}) for level in (_NONSENSE, *LEVELS)),
        _levels,
        lambda replies: replies[0].accepted,
    ),
    Question(
        "other ways to ask for reasoning",
        (
            "reasoning_request",
            "can_disable_reasoning",
            "fields.thinking",
            "fields.output_config.effort",
        ),
        tuple(
            ProbeRequest({"messages": _SUM, **body}, _TOKENS)
            for way in _WAYS.values()
            for body in way
        ),
        _ways,
        unless="reasoning_request",
    ),
    Question(
        "where reasoning comes",
        ("reasoning_history", "think_tags", "fields.thinking_block"),
        (
            ProbeRequest({"messages": _SUM}, _TOKENS),
            ProbeRequest({"messages": _SUM, **_WAYS["template"][0]}, _TOKENS),
        ),
        _place,
        lambda replies: thinks(replies[-1]),
    ),
)
