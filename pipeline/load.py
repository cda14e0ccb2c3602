"""A declaration file to checked pipelines, or to the list of all that is wrong with it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any, get_args, get_origin

import attrs
from attrs import Factory, define, frozen
from cattrs import Converter
from cattrs.errors import BaseValidationError
from dotenv import dotenv_values

from pipeline.chain import Step, check_chain
from pipeline.document import Document, Path, parse
from pipeline.problems import DeclarationError, Location, Problem, nearest
from pipeline.registry import Registry, StageClass, UnknownStageError
from pipeline.run import AnyStage, Chain
from pipeline.structure import describe, make_converter, to_problems

# Problems that matter only when something refers to the entry they are in.
_OF_USE = {"missing-variable", "unavailable"}


@frozen
class Schema:
    """What a declaration may hold: its sections, its stages, and the ends of a pipeline."""

    sections: Mapping[str, Any]
    """Section name to its type, in an order in which each refers only to earlier ones."""
    registry: Registry
    start: type
    end: type
    register_hooks: Any = None
    """Called with the converter, to register hooks for types of one's own."""


@frozen
class Pipeline:
    """A checked chain and the routes that lead into it, as `POST /v1/messages`."""

    name: str
    routes: tuple[str, ...]
    stages: tuple[AnyStage, ...]
    chain: Chain
    locations: tuple[Location, ...]


@frozen
class Declaration:
    """A declaration that is in order. `notes` are problems that do no harm."""

    file: str
    source: str
    sections: Mapping[str, Any]
    pipelines: tuple[Pipeline, ...]
    notes: tuple[Problem, ...]

    def failed(self, *problems: Problem) -> DeclarationError:
        """An error that shows `problems` in this declaration."""
        return DeclarationError(self.file, self.source, problems)


@frozen
class PipelineOptions:
    """One entry of `pipelines`."""

    route: Any
    stages: Any


def load(file: str | FilePath, schema: Schema, environ: Mapping[str, str]) -> Declaration:
    """Read, check and build what `file` declares. Raises DeclarationError with all problems.

    A `.env` beside the file is read; `environ` goes before it. Modules beside the file can
    be named as stages.
    """
    path = FilePath(file)
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DeclarationError(str(file), "", [_unreadable(error)]) from error
    variables = {k: v for k, v in dotenv_values(path.parent / ".env").items() if v is not None}
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.append(folder)
    loader = _Loader(schema, parse(source, {**variables, **environ}))
    declaration = loader.load(os.fspath(file), source)
    errors = [each for each in loader.problems if each.severity == "error"]
    if errors:
        raise DeclarationError(str(file), source, errors)
    return declaration


def _unreadable(error: OSError | UnicodeDecodeError) -> Problem:
    hint = "give its path with `--config PATH` or in LLM_PROXY_CONFIG"
    if isinstance(error, FileNotFoundError):
        return Problem("file-absent", "there is no such file", hint=hint)
    if isinstance(error, UnicodeDecodeError):
        return Problem("file-unreadable", f"this is not UTF-8 text: {error}")
    return Problem("file-unreadable", f"it cannot be read: {error.strerror}", hint=hint)


@define
class _Loader:
    schema: Schema
    document: Document
    problems: list[Problem] = Factory(list)
    converter: Converter = Factory(make_converter)
    sections: dict[str, Any] = Factory(dict)
    used: set[Path] = Factory(set)
    unusable: list[tuple[Path, Problem]] = Factory(list)

    def load(self, file: str, source: str) -> Declaration:
        if self.schema.register_hooks:
            self.schema.register_hooks(self.converter)
        self.problems += self.document.problems
        self.unusable += self.document.missing
        pipelines: list[Pipeline] = []
        if self.document.value is None and not self.problems:
            hint = "start from the pipelines.yaml that comes with llm-proxy"
            self.problems.append(Problem("file-empty", "nothing is declared here", hint=hint))
        elif not isinstance(self.document.value, dict):
            if not self.problems:
                got = describe(self.document.value)
                self.problems.append(Problem("bad-option", f"expected a mapping, got {got}"))
        else:
            self._sections(self.document.value)
            pipelines = self._pipelines(self.document.value)
        notes = tuple(self._judge_unusable())
        return Declaration(file, source, self.sections, tuple(pipelines), notes)

    def _sections(self, value: dict[str, Any]) -> None:
        known = [*self.schema.sections, "pipelines"]
        for key in value.keys() - set(known):
            location = self.document.key((key,))
            message = f"there is no section `{key}`"
            self.problems.append(Problem("unknown-section", message, location, nearest(key, known)))
        for name, kind in self.schema.sections.items():
            if get_origin(kind) is dict:
                built: Any = self._entries(name, value.get(name, {}), get_args(kind)[1])
            else:
                built = self._structure(value.get(name, {}), kind, (name,))
            if built is not None:
                self.sections[name] = built
                self._references(built, (name,))

    def _entries(self, section: str, value: Any, kind: Any) -> dict[str, Any] | None:
        """A section of named entries, without those that are not in order."""
        if not isinstance(value, dict):
            message = f"`{section}`: expected a mapping, got {describe(value)}"
            location = self.document.at((section,))
            self.problems.append(Problem("bad-option", message, location))
            return None
        incomplete = {path[:2] for path, _ in self.document.missing}
        complete = {k: v for k, v in value.items() if (section, k) not in incomplete}
        built = {k: self._structure(v, kind, (section, k)) for k, v in complete.items()}
        return {k: v for k, v in built.items() if v is not None}

    def _structure(self, value: Any, kind: Any, path: Path) -> Any:
        try:
            return self.converter.structure(value, kind)
        except (BaseValidationError, ValueError, TypeError) as error:
            for problem in to_problems(error, path, self.document):
                if problem.code in _OF_USE:
                    self.unusable.append((path, problem))
                else:
                    self.problems.append(problem)
            return None

    def _references(self, built: Any, path: Path) -> None:
        for where, target, name in references(built, path):
            entries = self.document.value.get(target) or {}
            self.used.add((target, name))
            if name not in entries:
                message = f"there is no entry `{name}` in `{target}`"
                location = self.document.at(where)
                hint = nearest(name, entries)
                self.problems.append(Problem("unknown-reference", message, location, hint))

    def _judge_unusable(self) -> Iterator[Problem]:
        """An entry that cannot be used is an error where it is referred to, else a note."""
        referable = {target for target, _ in self.used}
        for path, problem in self.unusable:
            if path and path[0] in referable and path[:2] not in self.used:
                message = (
                    f"`{path[1]}` is not used by anything, and could not be: {problem.message}"
                )
                yield attrs.evolve(problem, severity="note", message=message, hint=problem.hint)
            else:
                self.problems.append(problem)

    def _pipelines(self, value: dict[str, Any]) -> list[Pipeline]:
        declared = value.get("pipelines")
        if not isinstance(declared, dict) or not declared:
            location = self.document.key(("pipelines",))
            hint = "add `pipelines:` with a route and a list of stages"
            self.problems.append(
                Problem("no-pipelines", "no pipelines are declared", location, hint)
            )
            return []
        found = [self._pipeline(name, entry) for name, entry in declared.items()]
        pipelines = [each for each in found if each]
        self._check_routes(pipelines)
        return pipelines

    def _check_routes(self, pipelines: list[Pipeline]) -> None:
        owners: dict[str, str] = {}
        for pipeline in pipelines:
            for route in pipeline.routes:
                location = self.document.at(("pipelines", pipeline.name, "route"))
                if route in owners:
                    message = f"`{route}` already leads to pipeline `{owners[route]}`"
                    hint = "give each pipeline a route of its own"
                    self.problems.append(Problem("route-taken", message, location, hint))
                owners[route] = pipeline.name

    def _pipeline(self, name: str, entry: Any) -> Pipeline | None:
        path: Path = ("pipelines", name)
        options = self._structure(entry, PipelineOptions, path)
        if options is None:
            return None
        routes = self._routes(options.route, (*path, "route"))
        path = (*path, "stages")
        if not isinstance(options.stages, list):
            message = f"`stages`: expected a list, got {describe(options.stages)}"
            self.problems.append(Problem("bad-option", message, self.document.at(path)))
            return None
        entries = [self._step(item, (*path, n)) for n, item in enumerate(options.stages)]
        steps = [step for step, _ in entries if step]
        if len(steps) < len(entries):
            return None
        schema = self.schema
        location = self.document.key(path)
        known = schema.registry.classes()
        problem = check_chain(name, steps, schema.start, schema.end, location, known)
        if problem:
            self.problems.append(problem)
        stages = tuple(stage for _, stage in entries if stage is not None)
        if problem or len(stages) < len(entries):
            return None
        locations = tuple(step.location for step in steps)
        return Pipeline(name, routes, stages, Chain.of(stages, schema.start), locations)

    def _routes(self, value: Any, path: Path) -> tuple[str, ...]:
        routes = value if isinstance(value, list) else [value]
        for n, route in enumerate(routes):
            method, _, address = route.partition(" ") if isinstance(route, str) else ("", "", "")
            if not (method.isupper() and address.startswith("/")):
                where = (*path, n) if isinstance(value, list) else path
                message = (
                    f"expected a method and a path, as `POST /v1/messages`, got {describe(route)}"
                )
                self.problems.append(Problem("bad-route", message, self.document.at(where)))
        return tuple(route for route in routes if isinstance(route, str))

    def _step(self, item: Any, path: Path) -> tuple[Step | None, AnyStage | None]:
        """The stage an item of the list names, and, if its options are right, the stage itself."""
        name, options = self._named(item, path)
        if name is None:
            return None, None
        location = self.document.key((*path, name))
        try:
            cls = self.schema.registry.get(name)
        except UnknownStageError as error:
            self.problems.append(Problem("unknown-stage", str(error), location, error.hint))
            return None, None
        step = Step(name, location, cls)
        return step, self._build(cls, {} if options is None else options, (*path, name))

    def _named(self, item: Any, path: Path) -> tuple[str | None, Any]:
        if isinstance(item, str):
            return item, None
        if isinstance(item, dict) and len(item) == 1:
            return next(iter(item.items()))
        location, hint = self.document.at(path), ""
        message = f"expected the name of a stage, got {describe(item)}"
        if isinstance(item, dict) and len(item) > 1:
            name, stray = list(item)[:2]
            location = self.document.key((*path, stray))
            message = f"`{stray}` stands beside `{name}`, not below it"
            hint = f"if it is an option of `{name}`, indent it by two more spaces"
        self.problems.append(Problem("bad-stage", message, location, hint))
        return None, None

    def _build(self, cls: StageClass, options: Any, path: Path) -> AnyStage | None:
        given = {
            a.name: a.metadata["section"] for a in attrs.fields(cls) if "section" in a.metadata
        }
        if isinstance(options, dict):
            for key in options.keys() & given.keys():
                message = f"`{path[-1]}` has no option `{key}`"
                hint = f"it is the section `{given[key]}` of this file"
                location = self.document.key((*path, key))
                self.problems.append(Problem("unknown-option", message, location, hint))
            if not self.sections.keys() >= set(given.values()):
                return None  # a section it needs is broken, which is told already
            options = {**options, **{k: self.sections[v] for k, v in given.items()}}
        built: AnyStage | None = self._structure(options, cls, path)
        if built is not None:
            self._references(built, path)
        return built


def references(built: Any, path: Path) -> Iterator[tuple[Path, str, str]]:
    """Each reference to an entry of a section: its path, the section, the name of the entry."""
    if isinstance(built, dict):
        for key, value in built.items():
            yield from references(value, (*path, key))
    elif attrs.has(type(built)):
        for field in attrs.fields(type(built)):
            value = getattr(built, field.name, None)
            target = field.metadata.get("reference")
            if target and value is not None:
                yield (*path, field.name), target, value
            elif "section" not in field.metadata and field.init:
                yield from references(value, (*path, field.name))
