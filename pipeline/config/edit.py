"""Adds entries to the sections of a config file, and changes nothing else in the file.

The entries are inserted into the text, for the reason that pipeline/config/fix.py gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipeline.config.fix import LINE_BREAK

_INDENT = "  "


class EditError(Exception):
    """The entry cannot be inserted."""


def add_entry(text: str, section: str, name: str, value: str, comment: str = "") -> str:
    """Give `text` with the entry `name: value` at the end of `section`.

    `name` and `value` are YAML on one line. A section that is not in `text` is added at its end.
    The comment is left out if the section is a flow mapping. Raises EditError if the result would
    not be the old config and the new entry.
    """
    refusal = EditError(f"`{section}` has a form that cannot be edited")
    try:
        new = _insert(text, section, f"{name}: {value}", comment)
        before, after = _load(text), _load(new)
    except YAMLError as error:
        raise refusal from error
    entry = _load(f"{name}: {value}")
    if after != {**before, section: {**(before.get(section) or {}), **entry}}:
        raise refusal
    return new


def line_of(text: str, section: str, name: str) -> int:
    """Give the line of an entry, from 1; 0, if there is no such entry."""
    value = _section(_root(text), section)[1]
    pairs = value.value if isinstance(value, MappingNode) else []
    lines: Iterator[int] = (key.start_mark.line + 1 for key, _ in pairs if key.value == name)
    return next(lines, 0)


def _insert(text: str, section: str, entry: str, comment: str) -> str:
    key, value = _section(_root(text), section)
    line = f"{entry}{_INDENT}# {comment}" if comment else entry
    newline = "\r\n" if "\r\n" in text else "\n"
    if key is None or value is None:
        end = "" if not text or text.endswith(("\n", "\r")) else newline
        return f"{text}{end}{newline}{section}:{newline}{_INDENT}{line}{newline}"
    if isinstance(value, MappingNode) and value.flow_style:
        at = _offset(text, value.end_mark.line, value.end_mark.column) - 1  # before the brace
        start = text[:at].rstrip(" ")
        comma = ", " if value.value and not start.endswith(",") else " " * bool(value.value)
        return f"{start}{comma}{entry}{text[at:]}"
    pairs = value.value if isinstance(value, MappingNode) else []
    column = pairs[0][0].start_mark.column if pairs else key.start_mark.column + len(_INDENT)
    at = _line_end(text, _last_line(key, value))
    return f"{text[:at]}{newline}{' ' * column}{line}{text[at:]}"


def _root(text: str) -> MappingNode:
    root = YAML(typ="rt", pure=True).compose(text)
    if not isinstance(root, MappingNode) or root.flow_style:
        raise EditError("the config is not a list of sections, one below the other")
    return root


def _section(root: MappingNode, name: str) -> tuple[Node | None, Node | None]:
    """Give the nodes of the name and the value of a section."""
    return next(((key, value) for key, value in root.value if key.value == name), (None, None))


def _last_line(key: Node, value: Node) -> int:
    """Give the number of the last line of an entry, from 0."""
    line: int = key.end_mark.line  # an alias has the marks of its anchor, which is above
    if isinstance(value, MappingNode) and value.value and not value.flow_style:
        return max(line, _last_line(*value.value[-1]))
    if isinstance(value, SequenceNode) and value.value and not value.flow_style:
        return max(line, _last_line(key, value.value[-1]))
    if isinstance(value, ScalarNode) and not value.value and not value.style:
        return line  # the marks of an absent value are those of the next entry
    end = value.end_mark
    block = isinstance(value, ScalarNode) and value.style in ("|", ">")
    last: int = end.line - 1 if block and end.column == 0 else end.line
    return max(line, last)


def _offset(text: str, line: int, column: int) -> int:
    starts = [0, *(match.end() for match in LINE_BREAK.finditer(text))]
    return starts[line] + column


def _line_end(text: str, line: int) -> int:
    """Give the offset of the line break after `line`, or of the end of the text."""
    match = LINE_BREAK.search(text, _offset(text, line, 0))
    return match.start() if match else len(text)


def _load(text: str) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(text) or {}
