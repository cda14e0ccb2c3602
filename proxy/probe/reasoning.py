"""Questions about reasoning: how to request it, and where it is in the response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxy.probe.question import NONSENSE_TOO, Finding, ProbeRequest, Question, user
from proxy.probe.reply import Reply
from stages.translation.reasoning_options import LEVELS

#: Enough to see whether the model reasons first.
_TOKENS = 32
_SUM = user("What is 17 + 25?")
_NONSENSE = "nonsense"
#: Ways to request reasoning, by name in `reasoning_request`: the options for on, and for off.
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
    """Whether the response has reasoning, in a field or in the text."""
    return bool(reply.reasoning) or _TAG in reply.text


def _levels(replies: Sequence[Reply]) -> Finding:
    """A backend that accepts any level may ignore all of them."""
    nonsense, *levels = replies
    if nonsense.accepted:
        return Finding(NONSENSE_TOO)
    levels_accepted = [level for level, reply in zip(LEVELS, levels, strict=True) if reply.accepted]
    if not levels_accepted:
        return Finding(nonsense.error, {"fields.output_config.effort": "warn"})
    sets = {
        "effort_levels": tuple(levels_accepted),
        "reasoning_request": "effort",
        "fields.output_config.effort": "map",
        "fields.thinking": "map",
    }
    return Finding("accepted: " + ", ".join(levels_accepted), sets)


def _ways(replies: Sequence[Reply]) -> Finding:
    pairs = zip(_WAYS, replies[::2], replies[1::2], strict=True)
    for way, on, off in pairs:
        refused = 400 <= off.status < 500
        if thinks(on) and (refused or (off.accepted and not thinks(off))):
            effort = "warn" if way == "template" else "map"
            sets: dict[str, Any] = {"reasoning_request": way, "fields.thinking": "map"}
            sets["fields.output_config.effort"] = effort
            sets["can_disable_reasoning"] = off.accepted
            # A backend that refuses one value and accepts the other reads the member.
            effect = "on and off" if off.accepted else f"on; off: {off.error}"
            return Finding(f"`{way}` turns it {effect}", sets)
    return Finding("no tested way turns it on and off")


def _place(replies: Sequence[Reply]) -> Finding:
    fields = [reply.reasoning for reply in replies if reply.reasoning]
    if fields:
        sets = {"reasoning_history": fields[0], "think_tags": False, "fields.thinking_block": "map"}
        return Finding(f"reported in `{fields[0]}`", sets)
    if any(_TAG in reply.text for reply in replies):
        return Finding(f"in the text, as `{_TAG}`", {"think_tags": True})
    return Finding("the model did not reason")


QUESTIONS = (
    Question(
        "reasoning_effort",
        ("effort_levels", "fields.output_config.effort"),
        tuple(ProbeRequest({"reasoning_effort": level}) for level in (_NONSENSE, *LEVELS)),
        _levels,
        lambda replies: replies[0].accepted,
    ),
    Question(
        "other ways to request reasoning",
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
        "where reasoning is",
        ("reasoning_history", "think_tags", "fields.thinking_block"),
        (
            ProbeRequest({"messages": _SUM}, _TOKENS),
            ProbeRequest({"messages": _SUM, **_WAYS["template"][0]}, _TOKENS),
        ),
        _place,
        lambda replies: thinks(replies[-1]),
    ),
)
