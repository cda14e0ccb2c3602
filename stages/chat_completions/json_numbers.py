"""Numbers in the fragments of JSON that not every parser reads."""

from __future__ import annotations

import math
import re
from string import ascii_letters, digits

from attrs import define

#: A string, perhaps without its end; a number or a word; a quote that JSON does not have.
_TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\]++|\\.)*+(?P<end>"?))|(?P<word>[-+.\w]++)|(?P<quote>')""", re.DOTALL
)
#: Text without one of these and without `_LARGE` does not change. To search it takes a tenth of the
#: time of the tokens.
_SUSPECTS = ("NaN", "Infinity", "'")
_LARGE = re.compile(r"[eE]\+?\d\d\d")
_NON_FINITE = ("NaN", "Infinity", "-Infinity")
#: A number with an exponent. Others may have any number of digits.
_FLOAT = re.compile(r"-?\d+(?:\.\d+)?[eE]\+?\d+")
_WORD = ascii_letters + digits + "-+._"
_MAX_BUFFERED = 400
"""Characters; a longer number is not a sensible one."""


@define
class FiniteNumbers:
    """Replaces NaN, Infinity and numbers like 1e400 with null, as JavaScript does.

    Strings do not change. No fragment ends within an escape. A word at the end of a fragment waits
    for the next one. Nothing changes after a single quote outside a string, because the text is
    then not JSON, nor after a word that is too long to wait.
    """

    _in_string: bool = False
    _buffered: str = ""
    _stopped: bool = False

    def feed(self, fragment: str) -> str:
        """The text to send now; it may be empty."""
        if self._stopped or (self._in_string and '"' not in fragment):
            return fragment
        begun = '"' * self._in_string
        text = begun + self._buffered + fragment
        if any(suspect in text for suspect in _SUSPECTS) or _LARGE.search(text):
            self._in_string = False
            text = _TOKEN.sub(self._replaced, text)
        else:
            quotes = text.replace("\\\\", "").replace('\\"', "").count('"')
            self._in_string = quotes % 2 == 1
        self._buffered = ""
        if not (self._in_string or self._stopped):
            whole = text.rstrip(_WORD)
            if len(text) - len(whole) > _MAX_BUFFERED:
                self._stopped = True
            else:
                text, self._buffered = whole, text[len(whole) :]
        return text[len(begun) :]

    def end(self) -> str:
        """The text that waits at the end of the arguments."""
        return "null" if _is_non_finite(self._buffered) else self._buffered

    def _replaced(self, match: re.Match[str]) -> str:
        text = match[0]
        if self._stopped:
            return text
        self._in_string = match.lastgroup == "string" and not match["end"]
        self._stopped = match.lastgroup == "quote"
        last = match.end() == len(match.string)
        return "null" if not last and _is_non_finite(text) else text


def _is_non_finite(word: str) -> bool:
    if word in _NON_FINITE:
        return True
    return bool(_FLOAT.fullmatch(word)) and math.isinf(float(word))
