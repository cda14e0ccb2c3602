"""A config file to checked pipelines, or to the list of its problems."""

from __future__ import annotations

import difflib
import functools
import hashlib
import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any, get_args, get_origin

from attrs import evolve
from cattrs import Converter
from dotenv import dotenv_values

from pipeline.config.builder import Builder
from pipeline.config.files import Files
from pipeline.config.parsing import parse
from pipeline.config.pipelines import PipelineBuilder
from pipeline.config.problems import ConfigError, Location, Problem, suggest
from pipeline.config.redaction import unknown
from pipeline.config.schema import Config, Pipeline, Schema
from pipeline.config.section_files import SectionFile
from pipeline.config.structuring import describe, make_converter

Sections = dict[str, Any]


def load(
    file: str | Path,
    schema: Schema,
    environ: Mapping[str, str],
    adapt: Callable[[Sections], Sections] = lambda sections: sections,
    source: str | None = None,
    replaced: Mapping[Path, str] | None = None,
) -> Config:
    """Read and check `file`, and build its pipelines. Raises ConfigError with all problems.

    A `.env` next to the file sets variables that `environ` does not have. Import paths of stages
    may name modules in the folder of the file. `adapt` may replace sections before the stages get
    them. `source` is used in place of the text of `file`, and the texts in `replaced` in place of
    those of the files that the config names.
    """
    name = os.fspath(file)
    texts = read_texts(file)
    source, variables = texts = (texts[0] if source is None else source, texts[1])
    schema = evolve(schema, registry=evolve(schema.registry, folder=folder_of(file)))
    files = Files(Path(folder_of(file)), replaced or {})
    document = parse(source, {**variables_of(variables), **environ}, files=files)
    builder = Builder(document, _converter(schema.register_hooks), schema.option_classes)
    entries = [SectionFile(*names, builder, files) for names in schema.section_files.items()]
    sections, pipelines = _build(builder, schema, adapt, entries)
    for each in entries:
        each.report()
    warnings = sorted(builder.warnings, key=lambda problem: problem.place)
    notes = (*warnings, *builder.split_unusable())
    masked = builder.document.masked_text()
    watched = (digest(texts, files.contents.values()), tuple(files.contents))
    if builder.problems:
        raise ConfigError(name, masked, [*builder.problems, *warnings], *watched)
    public = public_digest([masked, *(each.text for each in entries)])
    places = {key: builder.document.location_of_key((key,)) for key in builder.document.value}
    return Config(name, source, sections, pipelines, notes, masked, *watched, public, places)


@functools.cache
def _converter(register_hooks: Callable[[Converter], None]) -> Converter:
    """Return the converter with these hooks. It compiles a function for each class only once."""
    converter = make_converter()
    register_hooks(converter)
    return converter


def _build(
    builder: Builder,
    schema: Schema,
    adapt: Callable[[Sections], Sections],
    files: Iterable[SectionFile],
) -> tuple[Sections, tuple[Pipeline, ...]]:
    document = builder.document
    if isinstance(document.value, dict):
        sections = _sections(builder, schema, document.value)
        for file in files:
            file.add_to(sections, get_args(schema.sections[file.section])[1])
        sections = adapt(sections)
        pipelines = PipelineBuilder(builder, schema, sections).build(
            document.value.get("pipelines")
        )
        _apply_rules(builder, schema, sections, pipelines, files)
        return sections, pipelines
    if not builder.problems:
        hint = "move the file away, and type `llm-proxy init` to write a new one"
        if document.value is None:
            builder.report("file-empty", "the file is empty", (), hint)
        else:
            document.hide((), unknown)
            message = document.redact(f"expected sections, got {describe(document.value)}", ())
            builder.report("bad-option", message, (), hint)
    return {}, ()


def _apply_rules(
    builder: Builder,
    schema: Schema,
    sections: Sections,
    pipelines: tuple[Pipeline, ...],
    files: Iterable[SectionFile],
) -> None:
    for rule in schema.rules:
        for path, problem in rule(sections, pipelines):
            owner = next((file.builder for file in files if file.has(path)), None) or builder
            problem = evolve(problem, location=owner.document.location_of_key(path))
            if problem.severity == "error":
                owner.problems.append(problem)
            else:
                owner.warnings[problem] = None


def folder_of(file: str | Path) -> str:
    """Give the folder of `file`, which may have modules with stages."""
    return str(Path(file).resolve().parent)


def read_texts(file: str | Path) -> tuple[str, str]:
    """Read `file`, and the `.env` next to it, if that is a file. Raises ConfigError."""
    return _read(Path(file), os.fspath(file)), read_variables(file)


def read_variables(file: str | Path) -> str:
    """Read the `.env` next to `file`, if that is a file. Raises ConfigError."""
    path = Path(file).resolve().parent / ".env"
    if not path.exists() or path.is_dir():
        return ""
    return _read(path, str(Path(file).with_name(".env")))


def digest(texts: tuple[str, str], contents: Iterable[bytes] = ()) -> bytes:
    """Give a digest of the two files and of those they name, to notice that one has changed."""
    whole = hashlib.sha256("\0".join(texts).encode())
    for content in contents:
        whole.update(hashlib.sha256(content).digest())
    return whole.digest()


def public_digest(texts: Iterable[str]) -> str:
    """Give the beginning of a digest of texts without secrets, to be shown."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


def variables_of(variables: str) -> dict[str, str]:
    """Give the variables of the text of a `.env`."""
    values = dotenv_values(stream=StringIO(variables))
    return {name: value for name, value in values.items() if value is not None}


def _read(file: Path, name: str) -> str:
    """Read `file`. Its problems call it `name`."""
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = _near(file)
        hint = (
            f"did you mean `{near}`? Rename it, or type `llm-proxy --config {shlex.quote(near)}`"
            if near
            else "type `llm-proxy init` to write one, "
            "or `llm-proxy --config PATH` (or set LLM_PROXY_CONFIG) to use another file"
        )
        problem = Problem("file-absent", "there is no such file", hint=hint)
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()
        place = Location(before.count("\n") + 1, len(before) - before.rfind("\n"))
        problem = Problem("file-unreadable", "this is not UTF-8 text", place, "save it as UTF-8")
    except OSError as error:
        hint = "check that it is a file that the proxy may read"
        problem = Problem(
            "file-unreadable", f"the file cannot be read: {error.strerror}", hint=hint
        )
    raise ConfigError(name, "", [problem])


def _near(file: Path) -> str:
    """Give the path of a YAML file with nearly the same name; empty if there is none."""
    with suppress(OSError):
        names = [each.name for each in file.parent.iterdir() if each.suffix in (".yaml", ".yml")]
        for name in difflib.get_close_matches(file.name, names, n=1, cutoff=0.8):
            return str(file.with_name(name))
    return ""


def _sections(builder: Builder, schema: Schema, value: dict[str, Any]) -> Sections:
    """Build the sections, by name; without those that have a problem."""
    names = [*schema.sections, *schema.section_files, "pipelines"]
    for key in value:
        if key not in names:
            message = f"there is no section `{key}`"
            builder.report_key("unknown-section", message, (key,), suggest(key, names))
            builder.document.hide((key,), unknown)
    built = {}
    absent = schema.optional - value.keys()
    for name, kind in schema.sections.items():
        if name in absent:
            continue
        entries = value.get(name)
        entries = {} if entries is None else entries
        if get_origin(kind) is dict:
            built[name] = builder.build_entries(entries, get_args(kind)[1], (name,))
        else:
            built[name] = builder.build(entries, kind, (name,))
    sections = {name: section for name, section in built.items() if section is not None}
    return {**sections, **dict.fromkeys(absent)}
