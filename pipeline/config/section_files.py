"""Entries of a section that are in a file of their own, such as `keys_file`."""

from __future__ import annotations

from typing import Any

from attrs import Factory, define, evolve

from pipeline.config.builder import Builder
from pipeline.config.document import Path
from pipeline.config.files import FileError, Files
from pipeline.config.parsing import parse
from pipeline.config.problems import Problem, SourceFile
from pipeline.config.structuring import KindError


@define
class SectionFile:
    """The file with more entries of `section` that the option `option` of the config names.

    An entry is in the section or in the file, never in both. `config` is the builder of the config.
    """

    option: str
    section: str
    config: Builder
    files: Files
    name: str = ""
    text: str = ""
    builder: Builder | None = None
    """The builder of the file; None: the config has no such file, or it cannot be read."""
    entries: dict[str, Any] = Factory(dict)

    def has(self, path: Path) -> bool:
        """Whether the entry at `path` is in the file."""
        return path[:1] == (self.section,) and path[1] in self.entries

    def add_to(self, sections: dict[str, Any], kind: Any) -> None:
        """Add the entries of the file to their section. `kind` is the type of an entry."""
        root = self.config.document.value
        if self.option not in root:
            return
        section = sections.setdefault(self.section, {})
        if section is None:
            section = sections[self.section] = {}
        name = self.config.build(root[self.option], str, (self.option,))
        if name is None:
            return
        self.name = name
        self._read(kind)
        for key in self.entries.keys() & section.keys():
            self._report_twice(key)
        section.update(self.entries)

    def _read(self, kind: Any) -> None:
        path: Path = (self.section,)
        try:
            self.text = self.files.text(self.name)
        except FileError as error:
            message = self.config.document.redact(str(error), (self.option,))
            self.config.report("missing-file", message, (self.option,), error.hint)
            return
        environ = self.config.document.environ
        document = parse(self.text, environ, files=self.files, root=path)
        self.builder = Builder(document, self.config.converter, self.config.classes)
        value = document.value
        if value is not None and not isinstance(value, dict):
            document.hide(path)
            message = f"`{self.section}`: {KindError('a mapping', '')}".partition(", got")[0]
            self.builder.report("bad-option", message, path, "write it as lines of `NAME: {…}`")
            return
        self.entries = self.builder.build_entries(value or {}, kind, path)

    def _report_twice(self, key: str) -> None:
        """Report an entry that is in both."""
        if self.builder:
            line = self.config.document.location_of_key((self.section, key)).line
            message = f"`{key}` is also in `{self.section}` of the config, in line {line}"
            self.builder.report_key(
                "duplicate-key", message, (self.section, key), "remove one of them"
            )

    def report(self) -> None:
        """Move the problems of the file to the builder of the config. Call it last."""
        if self.builder is None:
            return
        notes = self.builder.split_unusable()
        file = SourceFile(self.name, self.builder.document.masked_text())
        self.config.problems += [_in(file, problem) for problem in self.builder.problems]
        for problem in [*self.builder.warnings, *notes]:
            self.config.warnings[_in(file, problem)] = None


def _in(file: SourceFile, problem: Problem) -> Problem:
    return evolve(problem, file=file)
