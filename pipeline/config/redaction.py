"""Keys that stand in a declaration: what is told of a problem quotes its line, but not these.

It has to work on a text that is no YAML, so it goes by names: what stands behind `api_key:` or
`keys:`, or indented below it, is secret. The names of variables are not, their defaults are. And a
word that stands elsewhere in the declaration is none: some write `api_key: ollama`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_SECRET = re.compile(
    r"""
    (?: keys? | token | secret | password | pwd | credentials? | authorization | headers
        | authenticate (?= : \s* [^\s{] ) )
    (?: ["'] \s* : | \s* : (?= \s | $ ) | (?<= api_key ) : )   # where a space may be missing
    ( \s* (?: \[ [^\]]*                               # a list
          | \{ (?: \$\{ [^}]*+ \}? | [^}] )*            # a mapping
          | " (?: [^"\\] | \\. )* | ' (?: [^'] | '' )*   # a text in quotes
          | (?: \$\{ [^}]*+ \}? | [^],}] | , (?! \s* ["']? [\w-]+ ["']? \s* : ) )* ) )
                                                      # one without, perhaps within brackets
    | [?&] [\w.-]* (?: key | token | secret | password | pwd | credentials? | auth | code
                     | sig (?: nature )? ) = ( [^\s"'&#]* )   # in its query
    """,
    re.IGNORECASE | re.VERBOSE,
)
# Names of variables, anchors and aliases; comments.
_NO_VALUE = re.compile(r"\$\{\w+(?::-)?|[&*][\w-]+|(?<!\S)#.*")
# A URL's password, or token. Looked for only up to the last `@` of what may be one URL, and once:
# from each `://` of a long line it would take the square of the time.
_CREDENTIALS = re.compile(r""":// (?: [^/\s:@"]* : (?! @ ) )? ( .* [^:] ) :? @""", re.VERBOSE)
_URL = re.compile(r"""[^\s"]++""")
# A name that stands alone in its line; the colon is in a later one.
_EXPLICIT = re.compile(r"\?[ \t]++(?=\S)")
_VALUE = re.compile(r"\s*+:(?=\s|$)")
_WORD = re.compile(r"""(?<![^\s\[\]{},"'])[^\s\[\]{},"']{4,}+(?<!:)(?!["']?:)""")


def redact(text: str, source: str) -> str:
    """`text` with stars in the place of what is secret in `source`."""
    for secret in sorted(_secrets(source), key=len, reverse=True):
        text = text.replace(secret, "*" * len(secret))
    return text


def _secrets(source: str) -> set[str]:
    secret: list[str] = []
    rest: list[str] = []
    for part, is_secret in _parts(source):
        (secret if is_secret else rest).append(part)
    return _words(secret) - _words(rest) - {"null", "true", "false"}


def _words(parts: list[str]) -> set[str]:
    return {word for part in parts for word in _WORD.findall(_NO_VALUE.sub(" ", part))}


def _parts(source: str) -> Iterator[tuple[str, bool]]:
    """The parts of each line, and whether they are secret."""
    below = None  # the indentation of the name that this line may belong to
    for line in _joined(source.splitlines()):
        indentation = len(line) - len(line.lstrip())
        item = line[indentation:].startswith("-")
        if below is not None and (not line.strip() or indentation + item > below):
            yield line, True
            continue
        below, end = None, 0
        for start, last in _spans(line):
            yield line[end:start], False
            yield line[start:last], True
            end = last
            if not line[end:].strip():
                below = len(line) - len(line.lstrip(" -"))
        yield line[end:], False


def _spans(line: str) -> list[tuple[int, int]]:
    """Where in a line secrets are, in order; none reaches into the next."""
    found = [each.span(each.lastindex or 0) for each in _SECRET.finditer(line)]
    found += _credentials(line)
    spans: list[tuple[int, int]] = []
    for start, end in sorted(found):
        begin = max(start, spans[-1][1] if spans else 0)
        if begin <= end:  # empty, where what is secret is in the lines below
            spans.append((begin, end))
    return spans


def _credentials(line: str) -> Iterator[tuple[int, int]]:
    for url in _URL.finditer(line):
        last = line.rfind("@", *url.span())
        if found := _CREDENTIALS.search(line, url.start(), max(last, url.start()) + 1):
            yield found.span(1)


def _joined(lines: list[str]) -> Iterator[str]:
    """The lines, with `? name` and its `: value` in one, as if that were `name: value`."""
    at = 0
    while at < len(lines):
        line, at = lines[at], at + 1
        name = _EXPLICIT.search(line)
        if name is None:
            yield line
            continue
        later = at
        while later < len(lines) and lines[later].lstrip()[:1] in ("", "#"):
            later += 1
        value = _VALUE.match(lines[later]) if later < len(lines) else None
        if value is None:
            yield line
            continue
        key = line[name.end()] + line[name.end() + 1 :].partition("#")[0]
        yield f"{line[: name.start()]}{key.rstrip()}:{lines[later][value.end() :]}"
        at = later + 1
