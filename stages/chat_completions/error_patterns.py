"""Recognise error messages of backends by patterns; the tables are in `*_patterns.py`.

A pattern is a text in the backend's words, with the backend and the source where it was seen. It
matches at the beginning of a message: later text may be quoted from the request. `{tokens}` and the
like are numbers, `{word}` is one word, `…` is up to 80 characters, `[text]` may be missing. Case
and the kind of white space are ignored. A pattern has no other syntax, so it takes linear time.

    number       meaning
    ---------    --------------------------------------------------------------
    tokens       the exact length of the prompt
    more         the length of the tools, if the backend counts them separately
    asked        the output limit
    total        the prompt and the output limit together
    maximum      the window, or the model's maximum output
    n            nothing useful: a sum, characters, or an incomplete count
"""

from __future__ import annotations

import re

from attrs import field, frozen

#: Characters of a message that are read.
_MAX_CHARACTERS = 4000
_MAX_LABELS = 8
_NUMBER = r"\d[\d,]{0,14}(?![\d,]*\d)"
_PARTS = re.compile(r"\{(\w+)\}|(…)|(\[)|(\])")
# Labels before the backend's message: names of errors, statuses, the quotes of a dict.
_LABEL = re.compile(
    r"""(?: (?:[\w.]{1,60}\ ){0,3} [\w.]{0,60} (?:error|exception) (?:\ code:\ \d{3})?
          | InternalError\.[\w.]{1,80} | invalid\ request | invalid\ params
          | (?:upstream\ )?error\ from\ [\w.-]{1,60}
          | an\ error\ occurred\ \(\w{1,60}\)\ when\ calling\ the\ \w{1,60}\ operation
          | the\ model\ returned\ the\ following\ errors | \d{3,4} | <\d{3}> | \[\d{3,4}\]
          ) (?: : | \ - | , | (?<=[\d>\]]) ) \ ?
      | (?: [\[{] ["'] (?:error|message|detail) ["'] :\ ? ){1,3} ["']?""",
    re.IGNORECASE | re.VERBOSE,
)


def _expression(template: str) -> str:
    result, end = "", 0
    for part in _PARTS.finditer(template):
        result += re.escape(template[end : part.start()])
        name, gap, begins, _ = part.groups()
        if name:
            kind = r"\S{1,100}" if name == "word" else _NUMBER
            result += f"(?:{kind})" if name in ("word", "n") else f"(?P<{name}>{kind})"
        else:
            result += ".{0,80}?" if gap else "(?:" if begins else ")?"
        end = part.end()
    return result + re.escape(template[end:]) + r"(?!\w)"


@frozen
class ErrorPattern:
    """One row of a table. `template` is described at the top of this module."""

    backend: str
    template: str
    source: str
    _pattern: re.Pattern[str] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        pattern = re.compile(_expression(self.template), re.IGNORECASE)
        object.__setattr__(self, "_pattern", pattern)

    def numbers(self, message: LabelledMessage) -> dict[str, int] | None:
        """The numbers in a message, by name; None if the pattern does not match."""
        match = self._pattern.match(message.text)
        if match is None:
            return None
        return {name: int(n.replace(",", "")) for name, n in match.groupdict().items() if n}


@frozen
class LabelledMessage:
    """A backend's message, divided into its labels in lower case and the text after them."""

    labels: str
    text: str


def split_labels(message: str) -> LabelledMessage:
    """Split the labels from the beginning of a message, and cut the message to its limit."""
    text = " ".join(message[:_MAX_CHARACTERS].split())
    at = 0
    for _ in range(_MAX_LABELS):
        label = _LABEL.match(text, at)
        if label is None or label.end() == at:
            break
        at = label.end()
    return LabelledMessage(text[:at].lower(), text[at:])


def matches_any(patterns: tuple[ErrorPattern, ...], message: LabelledMessage) -> bool:
    """Whether one of the patterns matches."""
    return any(pattern.numbers(message) is not None for pattern in patterns)
