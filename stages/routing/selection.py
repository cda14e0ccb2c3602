"""Selects targets for a request: the rules of `resolve`, and the order of a group's targets.

Shares use weighted rendezvous hashing. For each conversation, each target has a number: a hash of
the conversation's key and the target's label. The target with the highest number is first. So a
conversation stays at its target, whose prefix cache is warm. If a target is removed, only its own
conversations move: each to the target with the next lower number. Without a key the numbers are
random, with the same shares.
"""

from __future__ import annotations

import fnmatch
import hashlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen, validators

from pipeline import option, reference
from pipeline.config.options import OptionError
from stages.backends.config import TargetGroup, WeightedTarget
from stages.events import Validated
from stages.messages_api.request import MessagesRequest
from stages.routing.traits import has_images, input_tokens, prefix_key, wants_thinking


@frozen
class When:
    """Conditions on a request. All of them must hold."""

    model: str | None = option(
        None, help="pattern for the name of the model that the client requests"
    )
    input_tokens_over: int | None = option(
        None,
        help="more input tokens than this, by an estimate",
        validator=validators.optional(validators.ge(0)),
    )
    thinking: bool | None = option(None, help="whether the client wants thinking")
    images: bool | None = option(None, help="whether the conversation has images")
    tools: bool | None = option(None, help="whether the request has tools")

    def holds(self, request: MessagesRequest) -> bool:
        """Whether the request fulfils all conditions."""
        return all(
            check(request, wanted)
            for name, check in _CHECKS.items()
            if (wanted := getattr(self, name)) is not None
        )


#: The check for each option of When, the most expensive last.
_CHECKS: Mapping[str, Callable[[MessagesRequest, Any], bool]] = {
    "model": lambda request, pattern: fnmatch.fnmatchcase(request.model, pattern),
    "thinking": lambda request, wanted: wants_thinking(request) is wanted,
    "tools": lambda request, wanted: bool(request.tools) is wanted,
    "images": lambda request, wanted: has_images(request) is wanted,
    "input_tokens_over": lambda request, limit: input_tokens(request) > limit,
}


def _check_when(_: Rule, __: Any, when: When) -> None:
    if when == When():
        hint = "add a condition, for example `{thinking: true}`; `default` is for other requests"
        raise OptionError("when", "`when` is empty", hint)


@frozen
class Rule:
    """Sends requests that meet `when` to an entry of `models`. Their `model` does not matter."""

    when: When = option(validator=_check_when)
    to: str = reference("models", help="an entry of `models`")


def ordered(group: TargetGroup, event: Validated) -> Sequence[WeightedTarget]:
    """The targets of a group, in the order in which this request tries them."""
    if group.strategy == "fallback":
        return group.targets
    draw = _draw(event, group.affinity or "session")
    return sorted(
        group.targets,
        key=lambda target: math.log(draw(target.label)) / target.weight,
        reverse=True,
    )


def _draw(event: Validated, affinity: str) -> Callable[[str], float]:
    """Return a function that maps a target's label to its number: over 0, and at most 1."""
    if affinity == "none":
        return lambda label: 1 - random.random()  # noqa: S311 - no secret
    session = event.exchange.session if affinity == "session" else ""
    key = session.encode() if session else prefix_key(event.request)

    def number(label: str) -> float:
        data = hashlib.blake2b(label.encode(), digest_size=7, key=key[:64]).digest()
        return (int.from_bytes(data) + 1) / (2**56 + 1)

    return number
