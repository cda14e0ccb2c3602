"""Where a request may go, and in which order: rules by its kind, and shares with affinity.

Shares are by weighted rendezvous hashing: each target draws a number, from the conversation's
key and its own name, and the highest goes first. So a conversation stays where it is, whose
prefix cache is then warm; and when a target is away, only its own conversations move, to the
targets they have drawn next. Without a key the numbers are random: the same shares.
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
from pipeline.stage import OptionError
from stages.backends.config import TargetGroup, WeightedTarget
from stages.events import Validated
from stages.messages_api.request import MessagesRequest
from stages.routing.traits import has_images, input_tokens, prefix_key, wants_thinking


@frozen
class When:
    """Conditions on a request, all of which have to hold."""

    model: str | None = option(None, help="a pattern for the name the client asks for")
    input_tokens_over: int | None = option(
        None, help="about, by size", validator=validators.optional(validators.ge(0))
    )
    thinking: bool | None = option(None, help="whether the client wants thinking")
    images: bool | None = option(None, help="whether there are images in the conversation")
    tools: bool | None = option(None, help="whether there are tools")

    def holds(self, request: MessagesRequest) -> bool:
        """Whether this is such a request."""
        return all(
            check(request, wanted)
            for name, check in _CHECKS.items()
            if (wanted := getattr(self, name)) is not None
        )


#: By the option of When; what takes longest comes last.
_CHECKS: Mapping[str, Callable[[MessagesRequest, Any], bool]] = {
    "model": lambda request, pattern: fnmatch.fnmatchcase(request.model, pattern),
    "thinking": lambda request, wanted: wants_thinking(request) is wanted,
    "tools": lambda request, wanted: bool(request.tools) is wanted,
    "images": lambda request, wanted: has_images(request) is wanted,
    "input_tokens_over": lambda request, limit: input_tokens(request) > limit,
}


def _check_when(_: Rule, __: Any, when: When) -> None:
    if when == When():
        hint = "give it a condition, as `{thinking: true}`; for the rest there is `default`"
        raise OptionError("when", "`when` is empty", hint)


@frozen
class Rule:
    """Requests of a kind go to an entry of `models`, whatever name they ask for."""

    when: When = option(validator=_check_when)
    to: str = reference("models", help="an entry of `models`")


def ordered(group: TargetGroup, event: Validated) -> Sequence[WeightedTarget]:
    """The targets of a group in the order in which this request should try them."""
    if group.policy == "fallback":
        return group.targets
    draw = _draw(event, group.affinity or "session")
    return sorted(
        group.targets, key=lambda each: math.log(draw(each.label)) / each.weight, reverse=True
    )


def _draw(event: Validated, affinity: str) -> Callable[[str], float]:
    """What gives each target its number, over 0 and at most 1."""
    if affinity == "none":
        return lambda label: 1 - random.random()  # noqa: S311 - no secret
    session = event.http.session if affinity == "session" else ""
    key = session.encode() if session else prefix_key(event.request)

    def drawn(label: str) -> float:
        data = hashlib.blake2b(label.encode(), digest_size=7, key=key[:64]).digest()
        return (int.from_bytes(data) + 1) / (2**56 + 1)

    return drawn
