"""Whether text stands in code, as Markdown has it: what is written there is talked about, not done.

Code is what stands between fences, of which the second is at least as long as the first, in the
line of a fence, and in a line between as many backticks as began it. Code that goes on over
several lines without a fence is not known as such.
"""

from __future__ import annotations

import re

from attrs import Factory, define

_FENCE = re.compile(r"[\s>*+.)\d-]*(`{3,}|~{3,})(.*)")
_TICKS = re.compile("`+")
_MAX_FED = 500  # texts
_MAX_LINE = 1_000  # characters of a line that are looked at


@define
class MarkdownCode:
    """Reads text on and on; little by little it is only kept, because that is the usual case."""

    _unread: list[str] = Factory(list)
    _fence: str = ""
    _line: str = ""
    _last: str = ""

    def feed(self, text: str) -> None:
        """Read on."""
        self._unread.append(text)
        if len(self._unread) >= _MAX_FED:
            self._read()

    @property
    def is_open(self) -> bool:
        """Whether what comes next stands in code."""
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
        for each in ended:
            self._line += each[:_MAX_LINE]
            self._end_line()
        if len(self._line) < _MAX_LINE:
            self._line += text[:_MAX_LINE]

    def _end_line(self) -> None:
        found, self._line = _FENCE.match(self._line), ""
        if not found:
            return
        fence, rest = found.groups()
        if not self._fence and (fence[0] == "~" or "`" not in rest):
            self._fence = fence
        elif self._fence and fence.startswith(self._fence) and not rest.strip():
            self._fence = ""
