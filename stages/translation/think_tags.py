"""Reasoning that a backend leaves in the text, between `<think>` and `</think>`.

    state     text                           becomes
    -------   ----------------------------   ---------------------------------------------
    begin     white space, then `<think>`    nothing; state inside
    begin     anything else                  text, with that white space; state outside
    inside    up to `</think>`               thinking; state closed
    closed    white space                    nothing
    closed    anything else                  text; state outside
    outside   everything                     text

Only tags at the beginning count: later ones are what the model wants to say. What could be the
beginning of a tag is held back until it is clear.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from attrs import define

from stages.translation.stops import split

_OPEN, _CLOSE = "<think>", "</think>"

Kind = Literal["thinking", "text"]


@define
class ThinkTags:
    """Splits the text of one answer."""

    state: Literal["begin", "inside", "closed", "outside"] = "begin"
    _held: str = ""

    def feed(self, text: str) -> Iterator[tuple[Kind, str]]:
        """The pieces that are clear now."""
        self._held += text
        if self.state == "begin":
            start = self._held.lstrip()
            if start.startswith(_OPEN):
                self.state, self._held = "inside", start.removeprefix(_OPEN)
            elif _OPEN.startswith(start):
                return
            else:
                self.state = "outside"
        if self.state == "inside":
            thinking, tag, rest = self._held.partition(_CLOSE)
            if not tag:
                thinking, self._held = split(self._held, (_CLOSE,))
            yield "thinking", thinking
            if not tag:
                return
            self.state, self._held = "closed", rest
        if self.state == "closed":
            self._held = self._held.lstrip()
            self.state = "outside" if self._held else "closed"
        yield from self.finish()

    def finish(self) -> Iterator[tuple[Kind, str]]:
        """What was held back, when nothing of this text follows."""
        held, self._held = self._held, ""
        if held.strip() and self.state == "begin":
            self.state = "outside"
        if held:
            yield ("thinking" if self.state == "inside" else "text"), held
