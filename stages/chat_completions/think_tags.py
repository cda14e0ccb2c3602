"""Reasoning that a backend leaves in the text, between tags as `<think>` and `</think>`.

    state     text                           becomes
    -------   ----------------------------   ---------------------------------------------
    begin     white space, then a tag that   nothing; state inside
              opens
    begin     anything else                  text, with that white space; state outside
    inside    up to the tag that closes it   thinking; state closed
    closed    white space                    nothing
    closed    anything else                  text; state outside
    outside   everything                     text

Only tags at the beginning count: later ones are what the model wants to say. What could be the
beginning of a tag is held back until it is clear. A tag may be opened by nothing, where it stands
in the prompt already: then it closes reasoning that the text begins with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from attrs import Factory, define

from stages.chat_completions.stop_sequences import split_partial_match

#: A tag that opens reasoning, and the one that closes it.
Tags = tuple[tuple[str, str], ...]
#: What backends are known to leave in the text; see `think_tags` of a profile.
THINK: Tags = (("<think>", "</think>"),)

Kind = Literal["thinking", "text"]
State = Literal["begin", "inside", "closed", "outside"]


@define
class ThinkTags:
    """Splits the text of one answer. Without tags, all of it is text."""

    tags: Tags = THINK
    state: State = Factory(lambda self: "begin" if self.tags else "outside", takes_self=True)
    _close: str = ""
    _held: str = ""
    _blank: list[str] = Factory(list)
    """White space at the beginning; of some models there is no end to it."""

    def feed(self, text: str) -> Iterator[tuple[Kind, str]]:
        """The pieces that are clear now."""
        if self.state == "begin" and not self._held and text.isspace():
            self._blank.append(text)
            return
        self._held = self._taken() + text
        if self.state == "begin" and not self._begun():
            return
        if self.state == "inside":
            thinking, tag, rest = self._held.partition(self._close)
            if not tag:
                thinking, self._held = split_partial_match(self._held, (self._close,))
            yield "thinking", thinking
            if not tag:
                return
            self.state, self._held = "closed", rest
        if self.state == "closed":
            self._held = self._held.lstrip()
            self.state = "outside" if self._held else "closed"
        yield from self.finish()

    def _begun(self) -> bool:
        """Whether it is clear how the text begins."""
        start = self._held.lstrip()
        for opening, closing in self.tags:
            if start and start.startswith(opening):
                self.state, self._close, self._held = "inside", closing, start[len(opening) :]
                return True
            if opening.startswith(start):
                return False
        self.state = "outside"
        return True

    def finish(self) -> Iterator[tuple[Kind, str]]:
        """What was held back, when nothing of this text follows."""
        if not (self._held or self._blank):
            return
        held = self._taken()
        if held.strip() and self.state == "begin":
            self.state = "outside"
        yield ("thinking" if self.state == "inside" else "text"), held

    def _taken(self) -> str:
        held = "".join((*self._blank, self._held))
        self._blank.clear()
        self._held = ""
        return held
