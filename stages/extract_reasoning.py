"""The stage `extract-reasoning`."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from attrs import evolve, frozen

from pipeline import Send, Stage, option, reference
from stages.chat_completions.think_tags import Tags
from stages.events import ChatRequest

_USUAL = ("think", "thinking", "reasoning")


def _check_tags(_: ExtractReasoning, __: Any, tags: dict[str, str]) -> None:
    for opening, closing in tags.items():
        if not (opening and not opening[0].isspace() and closing):
            raise ValueError(f"`tags` cannot have {opening!r}: {closing!r}: give both, as text")
    if not tags:
        raise ValueError("`tags` is empty: name a tag, as `{<think>: </think>}`")


@frozen
class ExtractReasoning(Stage[ChatRequest, ChatRequest]):
    """Set the tags between which a model writes its reasoning; the text becomes thinking.

    It replaces the profile's `think_tags`, which knows `<think>`. `translate-out` reads the
    response by these tags. A chain may have several of this stage, for different backends.
    """

    tags: dict[str, str] = option(
        factory=lambda: {f"<{name}>": f"</{name}>" for name in _USUAL},
        help="the tags that open and close reasoning at the beginning of the text",
        validator=_check_tags,
    )
    starts_inside: bool = option(
        False,
        renamed_from="begins_inside",
        help="the prompt ends with the opening tag: all text before the closing tag is reasoning",
    )
    backends: tuple[str, ...] = reference(
        "backends", (), help="only for these backends; default: for all"
    )

    def handle(self, event: ChatRequest, forward: Send[ChatRequest]) -> Awaitable[None]:
        if not self.backends or event.resolved.target.backend in self.backends:
            event = evolve(event, think_tags=self._pairs())
        return forward(event)

    def _pairs(self) -> Tags:
        pairs = tuple(self.tags.items())
        return (*pairs, ("", pairs[0][1])) if self.starts_inside else pairs
