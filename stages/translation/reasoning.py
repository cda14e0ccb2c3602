"""Reasoning that goes back to its backend in the next turn; how to ask for it is in `asking`.

Clients return thinking blocks unchanged, so the signature is an envelope of ours.
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
