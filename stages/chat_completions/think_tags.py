"""Split reasoning from text in which a backend marks it by tags such as `<think>`, `</think>`.

    state     text                           becomes
    -------   ----------------------------   ---------------------------------------------
    begin     white space, then an opening   nothing; state inside
              tag
    begin     anything else                  text, with that white space; state outside
    inside    up to the closing tag          thinking; state closed
    closed    white space                    nothing
    closed    anything else                  text; state outside
    outside   everything                     text

Only tags at the beginning count: later ones are part of the model's text. A possible beginning of a
tag is buffered until it is decided. An opening tag may be empty, if the prompt already contains it:
then the text begins with reasoning.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from attrs import Factory, define

from stages.chat_completions.stop_sequences import split_partial_match

#: Pairs of an opening and a closing tag.
Tags = tuple[tuple[str, str], ...]
#: The tags of known backends; see `think_tags` of a profile.
THINK: Tags = (("<think>", "</think>"),)

Kind = Literal["thinking", "text"]
State = Literal["begin", "inside", "closed", "outside"]


@define
class ThinkTags:
    """Split the text of one response. Without tags, all of it is text."""

    tags: Tags = THINK
    state: State = Factory(lambda self: "begin" if self.tags else "outside", takes_self=True)
    _close: str = ""
    _buffered: str = ""
    _blank: list[str] = Factory(list)
    """White space at the beginning. Some models never stop sending it."""

    def feed(self, text: str) -> Iterator[tuple[Kind, str]]:
        """Take more text; yield the decided parts."""
        if self.state == "begin" and not self._buffered and text.isspace():
            self._blank.append(text)
            return
        self._buffered = self._take_buffered() + text
        if self.state == "begin" and not self._is_decided():
            return
        if self.state == "inside":
            thinking, tag, text_after = self._buffered.partition(self._close)
            if not tag:
                thinking, self._buffered = split_partial_match(self._buffered, (self._close,))
            yield "thinking", thinking
            if not tag:
                return
            self.state, self._buffered = "closed", text_after
        if self.state == "closed":
            self._buffered = self._buffered.lstrip()
            self.state = "outside" if self._buffered else "closed"
        yield from self.finish()

    def _is_decided(self) -> bool:
        """Whether the beginning of the text is decided."""
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
        """Yield the buffered text, at the end of this text."""
        if not (self._buffered or self._blank):
            return
        buffered = self._take_buffered()
        if buffered.strip() and self.state == "begin":
            self.state = "outside"
        yield ("thinking" if self.state == "inside" else "text"), buffered

    def _take_buffered(self) -> str:
        buffered = "".join((*self._blank, self._buffered))
        self._blank.clear()
        self._buffered = ""
        return buffered
