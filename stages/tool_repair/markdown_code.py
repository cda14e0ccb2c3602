"""Detect Markdown code: a tool call written in code is an example, not a call.

Code is the text between two fences, the second at least as long as the first; the line of a fence;
and, in a line, the text between equal numbers of backticks. Inline code over several lines is not
detected.
"""

from __future__ import annotations

import re

from attrs import Factory, define

_FENCE = re.compile(r"[\s>*+.)\d-]*(`{3,}|~{3,})(.*)")
_TICKS = re.compile("`+")
_MAX_FED = 500  # texts
_MAX_LINE = 1_000  # characters of a line that are read


@define
class MarkdownCode:
    """Follows text. Small parts are only collected at first, because `is_open` is rarely needed."""

    _unread: list[str] = Factory(list)
    _fence: str = ""
    _line: str = ""
    _last: str = ""

    def feed(self, text: str) -> None:
        """Take the next part of the text."""
        self._unread.append(text)
        if len(self._unread) >= _MAX_FED:
            self._read()

    @property
    def is_open(self) -> bool:
        """Whether the next character is in code."""
        self._read()
        if self._fence or self._last == "`" or _FENCE.match(self._line):
            return True
        opened = 0
        for ticks in _TICKS.findall(self._line):
            if not opened:
                opened = len(ticks)
            elif opened == len(ticks):
                opened = 0
        return opened > 0

    def _read(self) -> None:
        text = "".join(self._unread)
        self._unread.clear()
        self._last = text[-1:] or self._last
        *ended, text = text.split("\n")
        for line in ended:
            self._line += line[:_MAX_LINE]
            self._end_line()
        if len(self._line) < _MAX_LINE:
            self._line += text[:_MAX_LINE]

    def _end_line(self) -> None:
        match, self._line = _FENCE.match(self._line), ""
        if not match:
            return
        fence, text_after = match.groups()
        if not self._fence and (fence[0] == "~" or "`" not in text_after):
            self._fence = fence
        elif self._fence and fence.startswith(self._fence) and not text_after.strip():
            self._fence = ""
