"""Recognise what a backend says by a row of a table; the tables are in wordings.py.

A row holds a text as the backend writes it, whose it is, and where it was seen. The text is at the
beginning of a message: what comes later may be quoted from the request. `{tokens}` and the like
are numbers, `{word}` is one word, `…` is up to 80 characters, `[text]` may be missing. Case and the
kind of white space do not count. Nothing else can be written, so each row takes linear time.

    number       says
    ---------    --------------------------------------------------------------
    tokens       how long the prompt is, exactly
    more         how long the tools are, where the backend counts them apart
    asked        the output limit
    total        the prompt and the output limit together
    maximum      the window, or the most that the model puts out
    n            nothing that helps: a sum, characters, or where it stopped counting
"""

from __future__ import annotations

import re

from attrs import field, frozen

#: Characters of a message that are looked at.
_MAX_CHARACTERS = 4000
_MAX_LABELS = 8
_NUMBER = r"\d[\d,]{0,14}(?![\d,]*\d)"
_PARTS = re.compile(r"\{(\w+)\}|(…)|(\[)|(\])")
# What stands before the backend's own words: names of errors, statuses, the quotes of a dict.
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
    """One row: whose words, the words, and their source."""

    backend: str
    template: str
    source: str
    _pattern: re.Pattern[str] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        pattern = re.compile(_expression(self.template), re.IGNORECASE)
        object.__setattr__(self, "_pattern", pattern)

    def numbers(self, said: LabelledMessage) -> dict[str, int] | None:
        """The numbers in what a backend said; None where these are not its words."""
        found = self._pattern.match(said.text)
        if found is None:
            return None
        return {name: int(n.replace(",", "")) for name, n in found.groupdict().items() if n}


@frozen
class LabelledMessage:
    """A message of a backend: the labels it begins with, and the words after them."""

    labels: str
    text: str


def split_labels(message: str) -> LabelledMessage:
    """Take the labels from the beginning of a message, of which no more than that is read."""
    text = " ".join(message[:_MAX_CHARACTERS].split())
    at = 0
    for _ in range(_MAX_LABELS):
        found = _LABEL.match(text, at)
        if found is None or found.end() == at:
            break
        at = found.end()
    return LabelledMessage(text[:at].lower(), text[at:])


def matches_any(wordings: tuple[ErrorPattern, ...], said: LabelledMessage) -> bool:
    """Whether a backend said one of these."""
    return any(each.numbers(said) is not None for each in wordings)
