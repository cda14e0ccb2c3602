"""Entries of a section that are in a file of their own, such as `keys_file`."""

from __future__ import annotations

from typing import Any

from attrs import NOTHING, Factory, define, evolve

from pipeline.config.builder import Builder
from pipeline.config.document import Path
from pipeline.config.files import FileError, Files
from pipeline.config.parsing import parse
from pipeline.config.structuring import KindError
from pipeline.config.walk import option_fields


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
            hint = f"write it as lines of `NAME: {{…}}`, or correct `{self.option}`"
            self.builder.report("bad-option", message, path, hint)
            return
        entries = self._complete(value or {}, kind, self.builder)
        self.entries = self.builder.build_entries(entries, kind, path)

    def _complete(self, value: dict[str, Any], kind: Any, builder: Builder) -> dict[str, Any]:
        """Give the entries that have the required options, and report the others.

        The reports have nothing of the file, which may be another one than was meant.
        """
        fields = option_fields(kind, builder.classes).items()
        required = [name for name, (field, _) in fields if field.default is NOTHING]
        entries = {}
        for key, entry in value.items():
            if isinstance(entry, dict) and entry.keys() >= {*required}:
                entries[key] = entry
            elif (self.section, key) not in builder.document.merging:
                options = ", ".join(f"{name}: …" for name in required)
                message = f"this is not an entry of `{self.section}`"
                hint = f"write it as `NAME: {{{options}}}`, or correct `{self.option}`"
                builder.report_key("bad-option", message, (self.section, key), hint)
        return entries

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
        self.config.problems += [evolve(each, file=self.name) for each in self.builder.problems]
        for problem in [*self.builder.warnings, *notes]:
            self.config.warnings[evolve(problem, file=self.name)] = None
