"""Adds and removes entries of mappings in a config file, and changes nothing else in the file.

The text is edited in place, for the reason that pipeline/config/fix.py gives.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipeline.config.fix import LINE_BREAK

_INDENT = "  "

#: Names that lead to a mapping or a scalar.
Path = tuple[str, ...]


class EditError(Exception):
    """The entry cannot be inserted."""


def add_entry(text: str, at: str | Path, name: str, value: str, comment: str = "") -> str:
    """Give `text` with the entry `name: value` at the end of the mapping `at`.

    `at` is a section, or the path of a mapping; an empty path is the whole document. `name` and
    `value` are YAML on one line. A section that is not in `text` is added at its end. The comment
    is left out if the mapping is a flow mapping. Raises EditError if the result would not be the
    old config and the new entry.
    """
    path = (at,) if isinstance(at, str) else at

    def change(config: dict[str, Any]) -> None:
        inner = config
        for step in path:
            if inner.get(step) is None:
                inner[step] = {}
            inner = inner[step]
        new = load(f"{name}: {value}")
        if new.keys() & inner.keys():
            raise _refusal(path)
        inner.update(new)

    return _verified(text, lambda: _insert(text, path, f"{name}: {value}", comment), change, path)


def remove_entry(text: str, path: Path) -> str:
    """Give `text` without the entry at `path`. Raises EditError as `add_entry` does."""

    def change(config: dict[str, Any]) -> None:
        *outer, last = path
        for step in outer:
            config = config[step]
        del config[last]

    return _verified(text, lambda: _remove(text, path), change, path)


def replace_scalar(text: str, path: Path, value: str) -> str:
    """Give `text` with `value` as the scalar at `path`. Raises EditError as `add_entry` does."""

    def change(config: dict[str, Any]) -> None:
        *outer, last = path
        for step in outer:
            config = config[step]
        config.update(load(f"{last}: {value}"))

    def edited() -> str:
        node = _node(_root(text), path)[1]
        if not isinstance(node, ScalarNode) or not node.value:
            raise _refusal(path)
        start, end = _span(text, node)
        return text[:start] + value + text[end:]

    return _verified(text, edited, change, path)


def _verified(
    text: str, edit: Callable[[], str], change: Callable[[dict[str, Any]], None], path: Path
) -> str:
    """Give the result of `edit`, which must load as the old config after `change`."""
    try:
        new, expected = edit(), copy.deepcopy(load(text))  # an alias is one object with its anchor
        change(expected)
        result = load(new)
    except (YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise _refusal(path) from error
    if _without_empty(result) != _without_empty(expected):
        raise _refusal(path)
    return new


def _without_empty(value: Any) -> Any:
    """Give `value` with None in place of empty mappings: a block without entries is null."""
    if isinstance(value, dict):
        return {key: _without_empty(item) for key, item in value.items()} or None
    return value


def _refusal(path: Path) -> EditError:
    return EditError(f"`{'.'.join(path)}` has a form that cannot be edited")


def line_of(text: str, section: str, name: str) -> int:
    """Give the line of an entry, from 1; 0, if there is no such entry."""
    value = _node(_root(text), (section,))[1]
    pairs = value.value if isinstance(value, MappingNode) else []
    lines: Iterator[int] = (key.start_mark.line + 1 for key, _ in pairs if key.value == name)
    return next(lines, 0)


def _insert(text: str, path: Path, entry: str, comment: str) -> str:
    line = f"{entry}{_INDENT}# {comment}" if comment else entry
    newline = "\r\n" if "\r\n" in text else "\n"
    end = "" if not text or text.endswith(("\n", "\r")) else newline
    if not path:
        if load(text):
            _root(text)
        return f"{text}{end}{line}{newline}"
    key, value = _node(_root(text), path)
    if key is None or value is None:
        if len(path) > 1:
            raise _refusal(path)
        return f"{text}{end}{newline}{path[0]}:{newline}{_INDENT}{line}{newline}"
    if isinstance(value, MappingNode) and value.flow_style:
        at = _span(text, value)[1] - 1  # before the brace
        start = text[:at].rstrip(" ")
        comma = ", " if value.value and not start.endswith(",") else " " * bool(value.value)
        return f"{start}{comma}{entry}{text[at:]}"
    pairs = value.value if isinstance(value, MappingNode) else []
    column = pairs[0][0].start_mark.column if pairs else key.start_mark.column + len(_INDENT)
    at = _line_end(text, _last_line(key, value))
    return f"{text[:at]}{newline}{' ' * column}{line}{text[at:]}"


def _remove(text: str, path: Path) -> str:
    root = _root(text)
    mapping = _node(root, path[:-1])[1] if path[1:] else root
    if not isinstance(mapping, MappingNode):
        raise _refusal(path)
    pairs = mapping.value
    n = next((n for n, (key, _) in enumerate(pairs) if key.value == path[-1]), None)
    if n is None:
        raise _refusal(path)
    key, value = pairs[n]
    start, end = _span(text, key)[0], _span(text, value)[1]
    if not mapping.flow_style:
        start, end = _offset(text, key.start_mark.line, 0), _line_end(text, _last_line(key, value))
        after = LINE_BREAK.match(text, end)
        return text[:start] + text[after.end() if after else end :]
    if n + 1 < len(pairs):
        end = _span(text, pairs[n + 1][0])[0]
    elif n:
        start = _span(text, pairs[n - 1][1])[1]
    return text[:start] + text[end:]


def _root(text: str) -> MappingNode:
    root = YAML(typ="rt", pure=True).compose(text)
    if not isinstance(root, MappingNode) or root.flow_style:
        raise EditError("the config is not a list of sections, one below the other")
    return root


def _node(root: Node, path: Path) -> tuple[Node | None, Node | None]:
    """Give the nodes of the name and the value at `path`, which is not empty."""
    key, value = None, root
    for step in path:
        pairs = value.value if isinstance(value, MappingNode) else []
        match = next((pair for pair in pairs if pair[0].value == step), None)
        if match is None:
            return None, None
        key, value = match
    return key, value


def _span(text: str, node: Node) -> tuple[int, int]:
    """Give the offsets of the beginning and the end of a node."""
    start, end = node.start_mark, node.end_mark
    return _offset(text, start.line, start.column), _offset(text, end.line, end.column)


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


def load(text: str) -> dict[str, Any]:
    """Give the values of a config, with the names of variables in them; a date is a text.

    Raises YAMLError, or ValueError for a number of thousands of digits.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    return yaml.load(text) or {}


class _Constructor(SafeConstructor):
    """Gives the text of a date, also of one that the calendar does not have."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)
