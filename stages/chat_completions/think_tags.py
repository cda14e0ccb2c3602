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
    _buffered: str = ""
    _blank: list[str] = Factory(list)
    """White space at the beginning; of some models there is no end to it."""

    def feed(self, text: str) -> Iterator[tuple[Kind, str]]:
        """The pieces that are clear now."""
        if self.state == "begin" and not self._buffered and text.isspace():
            self._blank.append(text)
            return
        self._buffered = self._take_buffered() + text
        if self.state == "begin" and not self._is_decided():
            return
        if self.state == "inside":
            thinking, tag, rest = self._buffered.partition(self._close)
            if not tag:
                thinking, self._buffered = split_partial_match(self._buffered, (self._close,))
            yield "thinking", thinking
            if not tag:
                return
            self.state, self._buffered = "closed", rest
        if self.state == "closed":
            self._buffered = self._buffered.lstrip()
            self.state = "outside" if self._buffered else "closed"
        yield from self.finish()

    def _is_decided(self) -> bool:
        """Whether it is clear how the text begins."""
        start = self._buffered.lstrip()
        for opening, closing in self.tags:
            if start and start.startswith(opening):
                self.state, self._close, self._buffered = "inside", closing, start[len(opening) :]
                return True
            if opening.startswith(start):
                return False
        self.state = "outside"
        return True

    def finish(self) -> Iterator[tuple[Kind, str]]:
        """What was held back, when nothing of this text follows."""
        if not (self._buffered or self._blank):
            return
        held = self._take_buffered()
        if held.strip() and self.state == "begin":
            self.state = "outside"
        yield ("thinking" if self.state == "inside" else "text"), held

    def _take_buffered(self) -> str:
        held = "".join((*self._blank, self._buffered))
        self._blank.clear()
        self._buffered = ""
        return held
