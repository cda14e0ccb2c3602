"""YAML text to a Document, with `${VAR}` and `${file:PATH}` expanded per scalar.

Variables are expanded after parsing. So places stay true, and a value cannot change the
structure of the document.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from attrs import Factory, define, evolve
from ruamel.yaml.composer import ComposerError
from ruamel.yaml.error import YAMLError
from ruamel.yaml.reader import ReaderError

from pipeline.config.composing import compose, too_many
from pipeline.config.document import Document, FromEnvironment, Path, Unquoted
from pipeline.config.files import FileError, Files
from pipeline.config.problems import Location, Problem
from pipeline.config.redaction import Secret, unknown

_VARIABLE = re.compile(
    r"\$(\$)?\{(?:file:([^{}]+)\}|([A-Za-z_][A-Za-z0-9_]*)(?::-((?:(?!\$\{)[^}])*))?\}|)"
)
#: The name of a variable in a config. A key in its place has other characters.
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCALARS = {"int", "float", "bool", "null"}
#: Values and names in a file, each as often as an alias repeats it.
_MAX_NODES = 100_000
#: Characters for each of them. A larger file without aliases has fewer.
_MIN_CHARACTERS = 4


def parse(
    text: str,
    environ: Mapping[str, str],
    max_nodes: int | None = None,
    files: Files | None = None,
    root: Path = (),
) -> Document:
    """Parse `text`. The document has the problems; none is raised.

    Without `files`, no `${file:PATH}` is read. `root` is the path of the whole document: its paths
    begin with it.
    """
    max_nodes = max_nodes or max(_MAX_NODES, len(text) // _MIN_CHARACTERS)
    reader = _Reader(environ, max_nodes, files)
    value = None
    try:
        node = compose(text, max_nodes)
        value = reader.read(node, root) if node is not None else None
    except YAMLError as error:
        reader.problems.append(_syntax_problem(error, text))
    except RecursionError:  # it would end a proxy that reloads
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
        text,
        reader.scalars,
        reader.names,
        tuple(reader.unread),
        frozenset(reader.merging),
    )


# Words of the parser, and what has most likely happened. `{line}` is where the value begins that
# the parser was reading.
_SYNTAX_HINTS = {
    "mapping values are not allowed": "is the line above missing its colon, as in `- invoke:`?",
    "got '{'": 'inside [ ] and { } put quotes around it: "${NAME}"',
    "expected ',' or": "close the bracket that line {line} opens",
    "end of stream": "close the quote that begins here",
    "\\t": "indent with spaces, not with tabs",
    "'\t'": "indent with spaces, not with tabs",
    "undefined alias": "`*name` repeats the value after `&name`, which must be in an earlier line",
    "more than": "use fewer aliases, and remove entries that are not used",
    "contains itself": "replace the alias by a copy of the value",
    "special characters are not allowed": "remove the character that is not visible here",
    "another document": "keep one document per file: remove the line `---`",
}
_OTHER_HINT = (
    "check the indentation, the colon after each name, and quotes around special characters"
)


# Words that the parser quotes from the file. They may be secrets.
_QUOTED = re.compile(r" '[^'<]{3,}'")


def _syntax_problem(error: YAMLError, text: str) -> Problem:
    began, noticed = (getattr(error, mark, None) for mark in ("context_mark", "problem_mark"))
    message = getattr(error, "problem", None) or str(error).splitlines()[0]
    message = _QUOTED.sub("", message)
    mark = began if "end of stream" in message and began else noticed or began
    location = Location(mark.line + 1, mark.column + 1) if mark else Location()
    if isinstance(error, ReaderError):
        before = text[: error.position]
        location = Location(before.count("\n") + 1, len(before) - before.rfind("\n"))
    line = began.line + 1 if began else location.line
    hints = (hint for part, hint in _SYNTAX_HINTS.items() if part in message)
    hint = next(hints, _OTHER_HINT).replace("{line}", str(line))
    return Problem("yaml-syntax", f"this is not valid YAML: {message}", location, hint)


@define
class _Reader:
    environ: Mapping[str, str]
    max_nodes: int
    files: Files | None = None
    keys: dict[Path, Location] = Factory(dict)
    values: dict[Path, Location] = Factory(dict)
    problems: list[Problem] = Factory(list)
    missing: list[tuple[Path, Problem]] = Factory(list)
    expanded: list[tuple[Path, str, str]] = Factory(list)
    scalars: dict[Path, Secret] = Factory(dict)
    names: dict[Path, Secret] = Factory(dict)
    unread: list[Secret] = Factory(list)
    merging: set[Path] = Factory(set)
    open_nodes: dict[int, Any] = Factory(dict)
    nodes: int = 0

    def read(self, node: Any, path: Path) -> Any:
        self.nodes += 1
        if self.nodes > self.max_nodes:
            raise too_many(self.max_nodes, self._place(node))
        self.values[path] = _location(node)
        if node.id == "scalar":  # also of PyYAML's nodes
            scalar = self._scalar(node, path)
            span = _span(node, "" if scalar is None else str(scalar))
            if scalar is not None or (not node.value and span.start < span.end):  # `&secret` alone
                self.scalars[path] = span
            return scalar
        if id(node) in self.open_nodes:
            raise ComposerError(problem="this alias contains itself", problem_mark=node.start_mark)
        self.open_nodes[id(node)] = node
        value: Any
        if node.id == "mapping":
            value = self._mapping(node, path)
        else:
            value = [self.read(item, (*path, n)) for n, item in enumerate(node.value)]
        del self.open_nodes[id(node)]
        return value

    def _place(self, node: Any) -> Any:
        """Give the place of `node`, or of the alias that leads to it: the last place going down."""
        marks = [open_node.start_mark for open_node in (*self.open_nodes.values(), node)]
        for outer, inner in pairwise(marks):
            if inner.index < outer.index:
                return outer
        return node.start_mark

    def _mapping(self, node: Any, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, place = str(key_node.value), _location(key_node)
            here = (*path, key)
            if key_node.id != "scalar" or "${" in key:
                message = "a name must be a plain text without variables"
                hint = 'write the name itself, or put quotes around a value: "{…}"'
                self.problems.append(Problem("bad-name", message, place, hint))
                self._leave_unread(value_node)
                if key_node.id != "scalar":
                    self._leave_unread(key_node, names=True)
                continue
            if key == "<<":
                message = "the merge key `<<` of YAML is not supported"
                hint = "write the options of the other mapping here"
                self.problems.append(Problem("merge-key", message, place, hint))
                self.merging.add(path)
                if value_node.start_mark.index > key_node.start_mark.index:  # not at its anchor
                    self._leave_unread(value_node)
                continue
            if key in result:
                first = self.keys[here].line
                message = f"`{key}` is set twice; the first is in line {first}"
                self.problems.append(
                    Problem("duplicate-key", message, place, "remove or rename one of them")
                )
                self._leave_unread(value_node)
                continue
            self.keys[here] = place
            self.names[here] = _span(key_node, key)
            result[key] = self.read(value_node, here)
            if result[key] is None:  # the parser places it somewhere after its name
                self.values[here] = place
        return result

    def _leave_unread(self, node: Any, names: bool = False) -> None:
        """Note the scalars in a value that has no path, and with `names` the names in it."""
        if node.id == "scalar":
            self.unread.append(evolve(_span(node, node.value), part=unknown))
        elif id(node) not in self.open_nodes:
            self.open_nodes[id(node)] = node
            for item in node.value:
                pair = item if isinstance(item, tuple) else (item,)
                for inner in pair if names else pair[-1:]:
                    self._leave_unread(inner, names)
            del self.open_nodes[id(node)]

    def _scalar(self, node: Any, path: Path) -> Any:
        text: str = node.value
        if "${" in text:
            expanded = _VARIABLE.sub(lambda match: self._variable(match, path), text)
            return FromEnvironment(expanded) if node.style else Unquoted(expanded)
        kind = str(node.tag).rpartition(":")[2]
        return _plain(kind, text) if kind in _SCALARS else text

    def _variable(self, match: re.Match[str], path: Path) -> str:
        escaped, file, name, default = match.groups()
        if escaped:
            return match.group(0)[1:]
        where = self.values[path]
        if file is not None:
            return self._secret(file, path)
        if name is None:
            message = "`${` is not followed by a name and `}`"
            hint = (
                "write `${NAME}`, `${NAME:-default}` or `${file:PATH}`, or `$${` for the "
                "characters themselves"
            )
            self.problems.append(Problem("bad-variable", message, where, hint))
            return ""
        value = self.environ.get(name, "")
        if value:
            self.expanded.append((path, name, value))
            return value
        if default is not None:
            return default
        hint = f"set {name} in the environment or in `.env`, or write `${{{name}:-default}}`"
        message = f"the environment variable {name} is not set or is empty"
        self.missing.append((path, Problem("missing-variable", message, where, hint)))
        return ""

    def _secret(self, file: str, path: Path) -> str:
        if self.files is None:
            return ""
        try:
            value = self.files.secret(file)
        except FileError as error:
            problem = Problem("missing-file", str(error), self.values[path], error.hint)
            self.missing.append((path, problem))
            return ""
        self.expanded.append((path, f"file:{file}", value))
        return value


def _plain(kind: str, text: str) -> Any:
    """Read a scalar of the YAML 1.2 core schema; others, as `_` or `!!bool yes`, stay texts."""
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


def _span(node: Any, text: str) -> Secret:
    return Secret(node.start_mark.index, node.end_mark.index, text)


def _location(node: Any) -> Location:
    return Location(node.start_mark.line + 1, node.start_mark.column + 1)
