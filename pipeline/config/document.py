"""YAML text to plain values and the place of each, with `${VAR}` expanded per scalar.

Variables are expanded after parsing, so places stay true and a value cannot change the
structure of the document.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from attrs import Factory, define, field, frozen
from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.reader import ReaderError

from pipeline.config.problems import Location, Problem

Path = tuple[str | int, ...]

_VARIABLE = re.compile(r"\$(\$)?\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-((?:(?!\$\{)[^}])*))?\}|)")
_SCALARS = {"int", "float", "bool", "null"}
#: Values and names in a file, each as often as an alias repeats it. They take 4 s.
_MAX_NODES = 100_000


class FromEnvironment(str):
    """The text of a scalar with variables in it: no message shows it."""

    __slots__ = ()


class Unquoted(FromEnvironment):
    """The same without quotes: may stand for a number."""

    __slots__ = ()


@frozen
class Document:
    """A parsed declaration. `value` is made of dict, list and scalars."""

    value: Any
    keys: Mapping[Path, Location]
    values: Mapping[Path, Location]
    problems: tuple[Problem, ...]
    environ: Mapping[str, str] = field(repr=False)
    missing: tuple[tuple[Path, Problem], ...]
    """The variables that are not set, with the path of the scalar that names them."""
    expanded: tuple[tuple[Path, str, str], ...] = field(default=(), repr=False)
    """The variables that are set: the path of the scalar, the name, the value."""

    def location_of(self, path: Path) -> Location:
        """The place of a value, or of the nearest value around it."""
        return self._find(self.values, path)

    def location_of_key(self, path: Path) -> Location:
        """The place of a key (of a list's item, for an item), or of the nearest around it."""
        return self._find(self.keys, path)

    def redact(self, text: str, path: Path) -> str:
        """`text`, said of the value at `path`, with `${NAME}` in the place of values."""
        names = {
            shown: f"${{{name}}}"
            for where, name, value in self.expanded
            if where[: len(path)] == path
            for shown in (value, repr(value)[1:-1])
        }
        longest_first = sorted(map(re.escape, names), key=len, reverse=True)
        shown = re.compile("|".join(longest_first))
        return shown.sub(lambda match: names[match.group()], text) if names else text

    def _find(self, places: Mapping[Path, Location], path: Path) -> Location:
        for end in range(len(path), -1, -1):
            for known in (places, self.values):
                if path[:end] in known:
                    return known[path[:end]]
        return Location()


def parse(text: str, environ: Mapping[str, str], max_nodes: int = _MAX_NODES) -> Document:
    """Parse `text`. Problems are collected in the document, none is raised."""
    reader = _Reader(environ, max_nodes)
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _Composer
    yaml.composer.max_nodes = max_nodes
    yaml.composer.warn_double_anchors = False  # a pipeline that was copied has its anchor twice
    value = None
    try:
        node = yaml.compose(text)
        value = reader.read(node, ()) if node is not None else None
    except YAMLError as error:
        reader.problems.append(_syntax_problem(error, text))
    except RecursionError:  # which would end a proxy that reloads
        message = "this is not valid YAML: it is nested too deeply"
        reader.problems.append(Problem("yaml-syntax", message, hint="look for too many brackets"))
    return Document(
        value,
        reader.keys,
        reader.values,
        tuple(reader.problems),
        environ,
        tuple(reader.missing),
        tuple(reader.expanded),
    )


# What the parser says, and what most likely happened. `{line}` is where the thing began that it
# was reading.
_SYNTAX_HINTS = {
    "mapping values are not allowed": "is the line above missing its colon, as in `- invoke:`?",
    "got '{'": 'inside [ ] and { } put quotes around it: "${NAME}"',
    "expected ',' or": "close the bracket that line {line} opens",
    "end of stream": "close the quote that begins here",
    "\\t": "indent with spaces, not with tabs",
    "'\t'": "indent with spaces, not with tabs",
    "undefined alias": "`*name` repeats what stands behind `&name`: put that into an earlier line",
    "more than": "repeat less with aliases, and take away what is not used",
    "contains itself": "write out what is meant where the alias stands",
    "special characters are not allowed": "take away the character that is not shown here",
    "another document": "keep one document in a file: remove the line `---`",
}
_OTHER_HINT = (
    "check the indentation, the colon after each name, and quotes around special characters"
)


def _syntax_problem(error: YAMLError, text: str) -> Problem:
    began, noticed = (getattr(error, mark, None) for mark in ("context_mark", "problem_mark"))
    message = getattr(error, "problem", None) or str(error).splitlines()[0]
    mark = began if "end of stream" in message and began else noticed or began
    location = Location(mark.line + 1, mark.column + 1) if mark else Location()
    if isinstance(error, ReaderError):
        before = text[: error.position]
        location = Location(before.count("\n") + 1, len(before) - before.rfind("\n"))
    line = began.line + 1 if began else location.line
    hints = (hint for part, hint in _SYNTAX_HINTS.items() if part in message)
    hint = next(hints, _OTHER_HINT).replace("{line}", str(line))
    return Problem("yaml-syntax", f"this is not valid YAML: {message}", location, hint)


class _Composer(Composer):
    """Stops where a file has too many nodes, before it has built them all."""

    max_nodes = _MAX_NODES
    _nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """See Composer."""
        self._nodes += 1
        if self._nodes > self.max_nodes:
            raise _too_many(self.max_nodes, self.parser.peek_event().start_mark)
        return super().compose_node(parent, index)


def _too_many(nodes: int, mark: Any) -> ComposerError:
    message = f"it has more than {nodes} values, counting what aliases repeat"
    return ComposerError(problem=message, problem_mark=mark)


@define
class _Reader:
    environ: Mapping[str, str]
    max_nodes: int
    keys: dict[Path, Location] = Factory(dict)
    values: dict[Path, Location] = Factory(dict)
    problems: list[Problem] = Factory(list)
    missing: list[tuple[Path, Problem]] = Factory(list)
    expanded: list[tuple[Path, str, str]] = Factory(list)
    open_nodes: dict[int, Node] = Factory(dict)
    nodes: int = 0

    def read(self, node: Node, path: Path) -> Any:
        self.nodes += 1
        if self.nodes > self.max_nodes:
            raise _too_many(self.max_nodes, self._place(node))
        self.values[path] = _location(node)
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if id(node) in self.open_nodes:
            raise ComposerError(problem="this alias contains itself", problem_mark=node.start_mark)
        self.open_nodes[id(node)] = node
        value: Any
        if isinstance(node, MappingNode):
            value = self._mapping(node, path)
        else:
            value = [self.read(item, (*path, n)) for n, item in enumerate(node.value)]
        del self.open_nodes[id(node)]
        return value

    def _place(self, node: Node) -> Any:
        """Where `node` is read, or else the alias that leads to it: the last place going down."""
        marks = [each.start_mark for each in (*self.open_nodes.values(), node)]
        for outer, inner in pairwise(marks):
            if inner.index < outer.index:
                return outer
        return node.start_mark

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, place = str(key_node.value), _location(key_node)
            here = (*path, key)
            if not isinstance(key_node, ScalarNode) or "${" in key:
                message = "a name is a plain text, without variables"
                hint = 'write the name itself, or put quotes around a value: "{…}"'
                self.problems.append(Problem("bad-name", message, place, hint))
                continue
            if key in result:
                first = self.keys[here].line
                message = f"`{key}` stands twice; the first is in line {first}"
                self.problems.append(
                    Problem("duplicate-key", message, place, "remove or rename one of them")
                )
                continue
            self.keys[here] = place
            result[key] = self.read(value_node, here)
            if result[key] is None:  # the parser places it somewhere behind its name
                self.values[here] = place
        return result

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        text: str = node.value
        if "${" in text:
            expanded = _VARIABLE.sub(lambda match: self._variable(match, path), text)
            return Unquoted(expanded) if node.style is None else FromEnvironment(expanded)
        kind = str(node.tag).rpartition(":")[2]
        return _plain(kind, text) if kind in _SCALARS else text

    def _variable(self, match: re.Match[str], path: Path) -> str:
        escaped, name, default = match.groups()
        if escaped:
            return match.group(0)[1:]
        where = self.values[path]
        if name is None:
            message = "`${` is not followed by a name and `}`"
            hint = "write `${NAME}` or `${NAME:-default}`, and `$${` for the characters themselves"
            self.problems.append(Problem("bad-variable", message, where, hint))
            return ""
        value = self.environ.get(name, "")
        if value:
            self.expanded.append((path, name, value))
            return value
        if default is not None:
            return default
        hint = f"set {name} in the environment or in `.env`, or write `${{{name}:-default}}`"
        message = f"the environment variable {name} is not set, or empty"
        self.missing.append((path, Problem("missing-variable", message, where, hint)))
        return ""


def _plain(kind: str, text: str) -> Any:
    """A YAML 1.2 core-schema scalar; as a text what is none, as `_`, or `yes` tagged a bool."""
    if kind == "null":
        return None
    if kind == "bool":
        return {"true": True, "false": False}.get(text.lower(), text)
    digits = text.replace("_", "").lower()
    try:
        if kind == "float":
            return float(digits.replace(".inf", "inf").replace(".nan", "nan"))
        return int(digits, 0 if digits.lstrip("+-")[:2] in ("0x", "0o", "0b") else 10)
    except ValueError:
        return text


def _location(node: Node) -> Location:
    return Location(node.start_mark.line + 1, node.start_mark.column + 1)
