"""Stars in place of secrets in the quoted lines of a config."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from attrs import frozen

# Names of variables and files: their values are not in the config. Defaults of variables are.
_VARIABLE = re.compile(r"\$\{(?:file:[^}]*|\w*(?::-)?)\}?")
# Anchors and tags before a value, and comments after them.
_PROPERTIES = re.compile(r"(?:[&!]\S*+\s++(?:#.*+\s*+)*+)*+")
# The beginning of a line up to its first colon, if nothing but a name is before that.
_NAME = re.compile(r"""[\s\-?{\[]*+["']?[\w.*/-]++["']?\s*+:(?=\s|$)""")
# A comment up to the next `#`: the first `#` of a line may be in a text, and the next one not.
_COMMENT = re.compile(r"(?<!\S)#.*?(?=\s#|$)", re.MULTILINE)
_INDENTATION = re.compile(r"[\s-]*")


#: Gives the spans of the secret parts of a text.
SecretPart = Callable[[str], list[tuple[int, int]]]


@frozen
class Secret:
    """A scalar that must not be shown: its span in the text, its value, the secret part of it.

    Without `part` all of it is secret.
    """

    start: int
    end: int
    value: str
    part: SecretPart | None = None

    def redact(self, message: str) -> str:
        """Give a message about the value with stars in place of the value."""
        spans = self.part(self.value) if self.part else [(0, len(self.value))]
        for value in sorted((self.value[i:j] for i, j in spans), key=len, reverse=True):
            quoted = repr(value)
            stars = "*" * (len(quoted) - 2)
            if quoted in message:
                message = message.replace(quoted, f"'{stars}'")
            elif len(value) > _SHORT:
                message = message.replace(quoted[1:-1], stars)
        return message


_HARMLESS = re.compile(r"true|false|[\d.]+")
#: A message may have a shorter word for another reason.
_SHORT = 3


def unknown(text: str) -> list[tuple[int, int]]:
    """The secret part of a value with an unknown name: all, except of a number or a short word."""
    harmless = len(text) <= _SHORT or _HARMLESS.fullmatch(text)
    return [] if harmless else [(0, len(text))]


def after_colon(text: str) -> list[tuple[int, int]]:
    """The secret part of an unknown name."""
    colon = text.find(":")
    return [] if colon < 0 else [(colon + 1, len(text))]


def mask(text: str, secrets: Iterable[Secret]) -> str:
    """Give `text` with stars in place of the secrets. Lines and columns stay."""
    characters = list(text)
    for secret in secrets:
        start, end = _inner(text, secret.start, secret.end)
        spans = [(start, end)]
        if secret.part:
            parts = secret.part(text[start:end])
            spans = [(start + first, start + last) for first, last in parts]
        if start - secret.start > _SHORT:  # YAML reads a secret that begins with `!` or `&` so
            spans.append((secret.start, start))
        for first, last in spans:
            _fill(characters, text, first, last)
    return "".join(characters)


def without_comments(text: str, scalars: Iterable[Secret]) -> str:
    """Give `text` with spaces in place of its comments, such as `# was sk-…`."""
    spans = [(each.start, each.end) for each in scalars if "#" in text[each.start : each.end]]
    texts = [_inner(text, *span) for span in spans]

    def blank(match: re.Match[str]) -> str:
        is_text = any(start <= match.start() < end for start, end in texts)
        return match[0] if is_text else " " * len(match[0])

    return _COMMENT.sub(blank, text)


def mask_unparsed(text: str) -> str:
    """Give a text that is not valid YAML with only the name at the beginning of each line."""
    return "\n".join(map(_only_name, text.splitlines()))


def _only_name(line: str) -> str:
    name, indentation = _NAME.match(line), _INDENTATION.match(line)
    shown = f"{name[0]} " if name else indentation[0]  # type: ignore[index]
    return f"{shown}…" if line[len(shown) :].strip() else shown.rstrip(" ")


def _inner(text: str, start: int, end: int) -> tuple[int, int]:
    """The span of a scalar without its anchor, tag and quotes, or without the line of its `|`."""
    if properties := _PROPERTIES.match(text, start, end):
        start = properties.end()
    if text[start : start + 1] in ("'", '"'):
        return start + 1, end - 1
    if text[start : start + 1] in ("|", ">"):
        return max(text.find("\n", start, end), start), end
    return start, end


def _fill(characters: list[str], text: str, start: int, end: int) -> None:
    """Put stars over a span, except over white space and names of variables."""
    shown = {n for match in _VARIABLE.finditer(text, start, end) for n in range(*match.span())}
    for n in range(start, end):
        if n not in shown and not text[n].isspace():
            characters[n] = "*"
