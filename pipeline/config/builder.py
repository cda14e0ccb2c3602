"""Builds objects from the values of a document, and collects the problems."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import attrs
from attrs import Factory, define
from cattrs import Converter
from cattrs.errors import BaseValidationError, StructureHandlerNotFoundError

from pipeline.config.document import Document, FromEnvironment, Path
from pipeline.config.problems import Location, Problem, suggest
from pipeline.config.structuring import last_name, make_converter, to_problems
from pipeline.config.walk import OptionClasses, secret_part, set_options

# Problems that are errors only if something refers to their entry.
_ONLY_IF_REFERENCED = {"missing-file", "missing-variable", "unavailable"}
#: Values that refer to nothing, unless their field does.
_SCALARS = (str, int, float)
# Without its variable or file a value has other problems. They are not reported.
_OF_VARIABLES = {"missing-file", "missing-variable", "bad-variable"}
#: A variable as other programs write it, perhaps after `https://` or `Bearer `, or before a path.
_OTHER_VARIABLE = re.compile(
    r"(?:[A-Za-z]+(?:://| ))?"
    r"(?:\$(?:env:)?NAME|\$\(NAME\)|\{\{? ?NAME ?\}?\}|%NAME%|os\.environ/NAME)"
    r"(?:[:/].*)?".replace("NAME", "([A-Za-z_][A-Za-z0-9_]*)")
)


@define
class Builder:
    """The state of one load. `problems` are the errors until now."""

    document: Document
    converter: Converter = Factory(make_converter)
    classes: OptionClasses = Factory(dict)
    problems: list[Problem] = Factory(list)
    warnings: dict[Problem, None] = Factory(dict)
    """Each once: an alias repeats what is wrong after its anchor."""
    _unusable: list[tuple[Path, Problem]] = Factory(list)
    _used: set[Path] = Factory(set)
    _unfilled: set[Location] = Factory(set)

    def __attrs_post_init__(self) -> None:
        self.problems += self.document.problems
        self._unusable += self.document.missing
        problems = [*self.problems, *(problem for _, problem in self._unusable)]
        self._unfilled |= {p.location for p in problems if p.code in _OF_VARIABLES}

    def report(self, code: str, message: str, path: Path, hint: str = "") -> None:
        """Report a problem with the value at `path`."""
        self.problems.append(Problem(code, message, self.document.location_of(path), hint))

    def report_key(self, code: str, message: str, path: Path, hint: str = "") -> None:
        """Report a problem with the name at the end of `path`."""
        self.problems.append(Problem(code, message, self.document.location_of_key(path), hint))

    def build(self, value: Any, kind: Any, path: Path) -> Any:
        """Build a `kind` from `value`, which is at `path`. Give None if `value` has a problem."""
        self._read_options(value, kind, path)
        try:
            built = self.converter.structure(value, kind)
        except (BaseValidationError, ValueError, TypeError) as error:
            for problem in to_problems(error, path, self.document):
                if problem.location in self._unfilled:
                    continue
                if problem.code in _ONLY_IF_REFERENCED:
                    self._unusable.append((path, problem))
                else:
                    self.problems.append(problem)
            return None
        except StructureHandlerNotFoundError as error:
            message = f"`{path[-1]}` has an option of a type that cannot come from YAML: {error}"
            self.report_key("bad-stage", message, path, "give it another type in its class")
            return None
        self._check_references(built, path)
        return built

    def _read_options(self, value: Any, kind: Any, path: Path) -> None:
        """Hide the secrets in `value`, and replace the old names of its options by the new ones."""
        options = list(set_options(value, kind, path, self.classes))
        for where, field in options:
            if field is None:  # perhaps the misspelt name of a secret
                self.document.hide_unknown(where)
            elif secret := secret_part(field):
                self.document.hide(where, None if secret is True else secret)
            if where == path or (field is not None and secret_part(field)):
                self._check_variables(_at(value, where[len(path) :]), where)
        for where, field in reversed(options):  # inner ones first: paths have the outer old names
            if field is not None and where[-1] != field.name:
                self._rename(_at(value, where[len(path) : -1]), where, field.name)

    def _check_variables(self, value: Any, path: Path) -> None:
        """Report texts in `value`, a secret or a URL, that other programs take for a variable.

        The message has the name only if there is such a variable: it may be a secret.
        """
        for key, item in _items(value):
            self._check_variables(item, (*path, key))
        if not isinstance(value, str) or isinstance(value, FromEnvironment):
            return
        if match := _OTHER_VARIABLE.fullmatch(value):
            names = [name for name in match.groups() if name in self.document.environ]
            message = f"`{last_name(path)}` looks like a variable, but is not written as one"
            hint = f"write `${{{[*names, 'NAME'][0]}}}`; if the text is right, put it in a variable"
            self.report("bad-variable", message, path, hint)
            self._unfilled.add(self.document.location_of(path))

    def _rename(self, options: dict[str, Any], where: Path, new: str) -> None:
        old = str(where[-1])
        if new in options:
            message = f"`{old}` is the old name of `{new}`, which is set too"
            self.report_key("renamed-option", message, where, f"remove `{old}`")
            del options[old]
            return
        problem = Problem(
            "renamed-option",
            f"`{old}` is now called `{new}`",
            self.document.location_of_key(where),
            f"write `{new}`, or let `llm-proxy check --fix` do it",
            "warning",
            (old, new),
        )
        self.warnings[problem] = None
        items = [(new if key == old else key, value) for key, value in options.items()]
        options.clear()
        options.update(items)
        self.document.rename(where, new)

    def build_entries(self, value: Any, kind: Any, path: Path) -> Any:
        """Build a section of named entries, without the entries that have a problem."""
        if not isinstance(value, dict):
            return self.build(value, dict[str, kind], path)
        incomplete = {where[:2] for where, _ in self.document.missing}
        complete = {k: v for k, v in value.items() if (*path, k) not in incomplete}
        built = {k: self.build(v, kind, (*path, k)) for k, v in complete.items()}
        return {k: v for k, v in built.items() if v is not None}

    def _check_references(self, built: Any, path: Path) -> None:
        for where, target, name in references(built, path):
            entries = self.document.value.get(target)
            entries = entries if isinstance(entries, dict) else {}
            self._used.add((target, name))
            if name not in entries and not self.document.merges_into(target):
                redacted = self.document.redact(name, where)
                message = f"there is no entry `{redacted}` in `{target}`"
                hint = suggest(name, entries) or f"add it to `{target}`"
                self.report("unknown-reference", message, where, hint)

    def split_unusable(self) -> list[Problem]:
        """Report entries that cannot work here: as errors if something refers to them.

        Give the others, as notes. Call it last.
        """
        notes: dict[Path, Problem] = {}
        referable = {target for target, _ in self._used}
        for path, problem in self._unusable:
            entry = path[:2]
            if not path or path[0] not in referable or entry in self._used:
                self.problems.append(problem)
            elif entry in notes:
                message = f"{notes[entry].message}; {problem.message}"
                notes[entry] = attrs.evolve(notes[entry], message=message)
            else:
                message = f"`{path[1]}` is not used, and cannot be: {problem.message}"
                location = self.document.location_of_key(entry)
                hint = "" if problem.code == "missing-variable" else problem.hint
                notes[entry] = Problem(problem.code, message, location, hint, "note")
        return list(notes.values())


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def references(built: Any, path: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield each reference to an entry of a section: its path, the section, the entry's name."""
    if built is None or isinstance(built, _SCALARS):
        return
    for key, value in _items(built):
        yield from references(value, (*path, key))
    if attrs.has(type(built)):
        for field in attrs.fields(type(built)):
            value = getattr(built, field.name, None)
            where, target = (*path, field.name), field.metadata.get("reference")
            if isinstance(value, str) and target:
                yield where, target, value
            elif target:  # a list of names, or null
                yield from (((*where, key), target, name) for key, name in _items(value))
            elif value is None or isinstance(value, _SCALARS):
                continue
            elif "section" not in field.metadata and field.init:
                yield from references(value, where)


def _items(built: Any) -> Iterator[tuple[str | int, Any]]:
    """Give the keys and values of a mapping or a list."""
    if isinstance(built, dict):
        yield from built.items()
    elif isinstance(built, (list, tuple)):
        yield from enumerate(built)
