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
          | \{ (?: \$\{ [^}]* \} | [^}] )*            # a mapping
          | " (?: [^"\\] | \\. )* | ' (?: [^'] | '' )*   # a text in quotes
          | (?: \$\{ [^}]* \} | [^],}] | , (?! \s* ["']? [\w-]+ ["']? \s* : ) )* ) )
                                                      # one without, perhaps within brackets
    | :// (?: [^/\s:@"]* : (?! @ ) )? ( [^\s"]* [^\s":] ) :? @   # a URL's password, or token
    | [?&] [\w.-]* (?: key | token | secret | password | pwd | credentials? | auth | code
                     | sig (?: nature )? ) = ( [^\s"'&#]* )   # in its query
    """,
    re.IGNORECASE | re.VERBOSE,
)
# Names of variables, anchors and aliases; comments.
_NO_VALUE = re.compile(r"\$\{\w+(?::-)?|[&*][\w-]+|(?<!\S)#.*")
# A name that stands alone in its line, and the colon in a later one.
_EXPLICIT = re.compile(r"""\?[ \t]+(\S.*?)(?:[ \t]*(?:#.*)?\n)+\s*:(?=\s|$)""")
_WORD = re.compile(r"""(?<![^\s\[\]{},"'])[^\s\[\]{},"']{4,}+(?<!:)(?!["']?:)""")


def hide(text: str, source: str) -> str:
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
    for line in _EXPLICIT.sub(r"\1:", source).splitlines():
        indentation = len(line) - len(line.lstrip())
        item = line[indentation:].startswith("-")
        if below is not None and (not line.strip() or indentation + item > below):
            yield line, True
            continue
        below, end = None, 0
        for found in _SECRET.finditer(line):
            start, last = found.span(found.lastindex or 0)
            yield line[end:start], False
            yield line[start:last], True
            end = last
            if not line[end:].strip():
                below = len(line) - len(line.lstrip(" -"))
        yield line[end:], False
