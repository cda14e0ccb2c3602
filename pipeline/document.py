"""YAML text to plain values and the place of each, with `${VAR}` expanded per scalar.

Variables are expanded after parsing, so places stay true and a value cannot change the
structure of the document.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from attrs import Factory, define, field, frozen
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipeline.problems import Location, Problem

Path = tuple[str | int, ...]

_VARIABLE = re.compile(r"\$(\$)?\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|)")
_SCALARS = {"int", "float", "bool", "null"}


class FromEnvironment(str):
    """The text of an unquoted scalar that came from variables: may stand for a number."""

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

    def at(self, path: Path) -> Location:
        """The place of a value, or of the nearest value around it."""
        return self._find(self.values, path)

    def key(self, path: Path) -> Location:
        """The place of a key (of a list's item, for an item), or of the nearest around it."""
        return self._find(self.keys, path)

    def _find(self, places: Mapping[Path, Location], path: Path) -> Location:
        for end in range(len(path), -1, -1):
            for known in (places, self.values):
                if path[:end] in known:
                    return known[path[:end]]
        return Location()


def parse(text: str, environ: Mapping[str, str]) -> Document:
    """Parse `text`. Problems are collected in the document, none is raised."""
    reader = _Reader(environ)
    value = None
    try:
        node = YAML(typ="safe", pure=True).compose(text)
        value = reader.read(node, ()) if node is not None else None
    except YAMLError as error:
        reader.problems.append(_syntax_problem(error))
    return Document(
        value,
        reader.keys,
        reader.values,
        tuple(reader.problems),
        environ,
        tuple(reader.missing),
    )


def _syntax_problem(error: YAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark if isinstance(error, MarkedYAMLError) else None
    location = Location(mark.line + 1, mark.column + 1) if mark else Location()
    message = (isinstance(error, MarkedYAMLError) and error.problem) or str(error).splitlines()[0]
    hint = "check the indentation, the colon after each name, and quotes around special characters"
    if "mapping values are not allowed" in message:
        hint = "is the line above missing its colon, as in `- invoke:`?"
    elif "got '{'" in message:
        hint = 'inside [ ] and { } put quotes around it: "${NAME}"'
    elif "\\t" in message or "'\t'" in message:
        hint = "indent with spaces, not with tabs"
    return Problem("yaml-syntax", f"this is not valid YAML: {message}", location, hint)


@define
class _Reader:
    environ: Mapping[str, str]
    keys: dict[Path, Location] = Factory(dict)
    values: dict[Path, Location] = Factory(dict)
    problems: list[Problem] = Factory(list)
    missing: list[tuple[Path, Problem]] = Factory(list)
    open_nodes: set[int] = Factory(set)

    def read(self, node: Node, path: Path) -> Any:
        self.values[path] = _location(node)
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if id(node) in self.open_nodes:
            problem = Problem("alias-cycle", "this alias contains itself", self.values[path])
            self.problems.append(problem)
            return None
        self.open_nodes.add(id(node))
        value: Any = None
        if isinstance(node, MappingNode):
            value = self._mapping(node, path)
        elif isinstance(node, SequenceNode):
            value = [self.read(item, (*path, n)) for n, item in enumerate(node.value)]
        self.open_nodes.discard(id(node))
        return value

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, place = str(key_node.value), _location(key_node)
            here = (*path, key)
            if key in result:
                first = self.keys[here].line
                message = f"`{key}` stands twice; the first is in line {first}"
                self.problems.append(
                    Problem("duplicate-key", message, place, "remove or rename one of them")
                )
                continue
            self.keys[here] = place
            result[key] = self.read(value_node, here)
        return result

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        text: str = node.value
        if "${" in text:
            expanded = _VARIABLE.sub(lambda match: self._variable(match, path), text)
            return FromEnvironment(expanded) if node.style is None else expanded
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
        if value or default is not None:
            return value or default
        hint = f"set {name} in the environment or in `.env`, or write `${{{name}:-default}}`"
        message = f"the environment variable {name} is not set, or empty"
        self.missing.append((path, Problem("missing-variable", message, where, hint)))
        return ""


def _plain(kind: str, text: str) -> Any:
    """A YAML 1.2 core-schema scalar."""
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    digits = text.replace("_", "")
    if kind == "float":
        return float(digits.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return int(digits, 0) if digits.lstrip("+-")[:2].lower() in ("0x", "0o") else int(digits)


def _location(node: Node) -> Location:
    return Location(node.start_mark.line + 1, node.start_mark.column + 1)
