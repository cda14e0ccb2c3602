"""A declaration file to checked pipelines, or to the list of all that is wrong with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any, get_args, get_origin

from attrs import evolve
from dotenv import dotenv_values

from pipeline.config.builder import Builder
from pipeline.config.parsing import parse
from pipeline.config.pipelines import PipelineBuilder
from pipeline.config.problems import ConfigError, Location, Problem, suggest
from pipeline.config.redaction import unknown
from pipeline.config.schema import Config, Pipeline, Schema
from pipeline.config.structuring import describe

Sections = dict[str, Any]


def load(
    file: str | Path,
    schema: Schema,
    environ: Mapping[str, str],
    adapt: Callable[[Sections], Sections] = lambda sections: sections,
    source: str | None = None,
) -> Config:
    """Read, check and build what `file` declares. Raises ConfigError with all problems.

    A `.env` beside the file is read; `environ` goes before it. Modules in the folder of the file
    can be named as stages. Stages are given the sections that `adapt` makes of those declared.
    """
    name = os.fspath(file)
    texts = read_texts(file)
    source, variables = texts = (texts[0] if source is None else source, texts[1])
    schema = evolve(schema, registry=evolve(schema.registry, folder=folder_of(file)))
    builder = Builder(
        parse(source, {**_values(variables), **environ}), classes=schema.option_classes
    )
    schema.register_hooks(builder.converter)
    sections: Sections = {}
    pipelines: tuple[Pipeline, ...] = ()
    value = builder.document.value
    if isinstance(value, dict):
        sections = adapt(_sections(builder, schema, value))
        pipelines = PipelineBuilder(builder, schema, sections).build(value.get("pipelines"))
    elif not builder.problems:
        hint = "start from the short one in llm-proxy's README"
        if value is None:
            builder.report("file-empty", "nothing is declared here", (), hint)
        else:
            builder.document.hide((), unknown)
            message = builder.document.redact(f"expected sections, got {describe(value)}", ())
            builder.report("bad-option", message, (), hint)
    warnings = sorted(builder.warnings, key=lambda problem: problem.location)
    notes = (*warnings, *builder.split_unusable())
    masked = builder.document.masked_text()
    if builder.problems:
        raise ConfigError(name, masked, [*builder.problems, *warnings])
    return Config(name, source, sections, pipelines, notes, digest(texts), masked)


def folder_of(file: str | Path) -> str:
    """The folder of `file`, for modules of stages that `file` names by import path."""
    return str(Path(file).resolve().parent)


def read_texts(file: str | Path) -> tuple[str, str]:
    """What `file` says, and the `.env` beside it, if there is one. Raises ConfigError.

    A directory of that name is something else.
    """
    source = _read(Path(file), os.fspath(file))
    path = Path(file).resolve().parent / ".env"
    if not path.exists() or path.is_dir():
        return source, ""
    return source, _read(path, str(Path(file).with_name(".env")))


def digest(texts: tuple[str, str]) -> bytes:
    """What tells one state of the two files from another."""
    return hashlib.sha256("\0".join(texts).encode()).digest()


def _values(variables: str) -> dict[str, str]:
    values = dotenv_values(stream=StringIO(variables))
    return {name: value for name, value in values.items() if value is not None}


def _read(file: Path, name: str) -> str:
    """The text of `file`, which is called `name`."""
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = (
            "write one (llm-proxy's README has a short one to copy), "
            "or give its path with `--config PATH` or in LLM_PROXY_CONFIG"
        )
        problem = Problem("file-absent", "there is no such file", hint=hint)
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()
        place = Location(before.count("\n") + 1, len(before) - before.rfind("\n"))
        problem = Problem("file-unreadable", "this is not UTF-8 text", place, "save it as UTF-8")
    except OSError as error:
        hint = "see that it is a file, and that the proxy may read it"
        problem = Problem("file-unreadable", f"it cannot be read: {error.strerror}", hint=hint)
    raise ConfigError(name, "", [problem])


def _sections(builder: Builder, schema: Schema, value: dict[str, Any]) -> Sections:
    """The sections that are in order, by name."""
    known = [*schema.sections, "pipelines"]
    for key in value:
        if key not in known:
            message = f"there is no section `{key}`"
            builder.report_key("unknown-section", message, (key,), suggest(key, known))
            builder.document.hide((key,), unknown)
    built = {}
    for name, kind in schema.sections.items():
        given = value.get(name)
        given = {} if given is None else given
        if get_origin(kind) is dict:
            built[name] = builder.build_entries(given, get_args(kind)[1], (name,))
        else:
            built[name] = builder.build(given, kind, (name,))
    return {name: section for name, section in built.items() if section is not None}
