"""Follow the nesting of JSON that arrives in fragments, without parsing it again each time."""

from __future__ import annotations

import re

from attrs import define

_SIGNS = re.compile(r'\\(?:.|$)|["{}\[\]]', re.DOTALL)


@define
class JsonNesting:
    """The depth of the next character, and whether it is in a string. `fed` counts fragments."""

    fed: int = 0
    in_string: bool = False
    _depth: int = 0
    _escaped: bool = False

    def feed(self, fragment: str) -> None:
        """Read the next fragment."""
        self.fed += 1
        if not fragment:
            return
        start, self._escaped = int(self._escaped), False
        for sign in _SIGNS.findall(fragment, start):
            if sign == '"':
                self.in_string = not self.in_string
            elif self.in_string:
                self._escaped = sign == "\\"  # the last character; what it escapes comes next
            elif sign in "{[":
                self._depth += 1
            elif sign in "}]":
                self._depth -= 1

    @property
    def closed(self) -> bool:
        """Whether nothing is open, so that all fragments together may be one document."""
        return self._depth <= 0 and not self.in_string
