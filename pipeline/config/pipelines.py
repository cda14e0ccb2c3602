"""The section `pipelines`: builds checked chains from names of stages and their options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs
from attrs import define, frozen

from pipeline.chain import AnyStage, Chain
from pipeline.config.builder import Builder
from pipeline.config.document import FromEnvironment, Path
from pipeline.config.problems import suggest
from pipeline.config.redaction import unknown
from pipeline.config.registry import StageClass, UnknownStageError
from pipeline.config.schema import Pipeline, Schema
from pipeline.config.structuring import KindError, describe, option_names
from pipeline.config.type_check import Step, check_chain

# `POST /v1/messages`, `GET /v1/models/{id:path}`
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
ROUTE = re.compile(r"[A-Z]+ /(?:[^\s{}]|\{[A-Za-z_]\w*(?::(?:str|path|int|float|uuid))?\})*")
_STAGE_HINT = "write it as `- name`, or as `- name: {option: value}`"


@frozen
class PipelineEntry:
    """One entry of `pipelines`. `route` is one route or a list of routes."""

    route: Any
    stages: Any


@define
class PipelineBuilder:
    """Builds the pipelines of a config. Problems go to `builder`."""

    builder: Builder
    schema: Schema
    sections: Mapping[str, Any]

    def build(self, entries: Any) -> tuple[Pipeline, ...]:
        """Build the pipelines, without those that have a problem."""
        if entries and not isinstance(entries, dict):
            message = f"`pipelines`: {KindError('a mapping', entries)}"
            hint = "give each pipeline a name with `route` and `stages` below it"
            self.builder.document.hide(("pipelines",), unknown)
            self.builder.report("bad-option", message, ("pipelines",), hint)
            return ()
        if not entries and self.builder.document.merges_into("pipelines"):
            return ()
        if not entries:
            hint = (
                "add `pipelines:` with a name, its route and its list of stages; "
                "`llm-proxy init --config new.yaml` writes a file with the usual ones"
            )
            self.builder.report_key(
                "no-pipelines", "the config has no pipelines", ("pipelines",), hint
            )
            return ()
        pipelines = [self._pipeline(name, entry) for name, entry in entries.items()]
        self._check_routes(entries)
        return tuple(pipeline for pipeline in pipelines if pipeline)

    def _check_routes(self, entries: dict[str, Any]) -> None:
        owners = dict.fromkeys(self.schema.reserved, "")
        for name, entry in entries.items():
            value = entry.get("route") if isinstance(entry, dict) else None
            for n, route in enumerate(value if isinstance(value, list) else [value]):
                if not isinstance(route, str):
                    continue
                path = ("pipelines", name, "route", n)
                redacted = self.builder.document.redact(route, path[:-1])
                names = _PARAMETER.findall(route)
                if len(names) > len(set(names)):
                    message = f"`{redacted}` names a parameter twice"
                    self.builder.report("bad-route", message, path, "give each its own name")
                alike = _PARAMETER.sub("{}", route)  # names of parameters do not matter
                if alike in owners:
                    owner = owners[alike]
                    where = f"leads to pipeline `{owner}`" if owner else "is llm-proxy's own"
                    message = f"`{redacted}` already {where}"
                    hint = "remove one of the two, or change it" if owner else "choose another"
                    self.builder.report("route-taken", message, path, hint)
                owners.setdefault(alike, name)

    def _pipeline(self, name: str, entry: Any) -> Pipeline | None:
        path: Path = ("pipelines", name)
        options = self.builder.build(entry, PipelineEntry, path)
        if options is None:
            return None
        routes = self._routes(options.route, (*path, "route"))
        path = (*path, "stages")
        if not isinstance(options.stages, list):
            error = KindError("a list", options.stages)
            hint = "write it as lines of `- name` below it"
            self.builder.document.hide(path, unknown)
            self.builder.report("bad-option", f"`stages`: {error}", path, hint)
            return None
        entries = [self._stage(item, (*path, n)) for n, item in enumerate(options.stages)]
        steps = [step for step, _ in entries if step]
        stages = tuple(stage for _, stage in entries if stage)
        fits = len(steps) == len(entries) and self._fits(name, steps, path)
        if not fits or len(stages) < len(entries):
            return None
        chain = Chain.of(stages, self.schema.start)
        locations = tuple(step.location for step in steps)
        names = tuple(step.name for step in steps)
        return Pipeline(name, routes, stages, chain, locations, names)

    def _fits(self, name: str, steps: list[Step], path: Path) -> bool:
        schema = self.schema
        location = self.builder.document.location_of_key(path)
        classes = schema.registry.classes
        problem = check_chain(name, steps, schema.start, schema.end, location, classes)
        if problem:
            self.builder.problems.append(problem)
        return problem is None

    def _routes(self, value: Any, path: Path) -> tuple[str, ...]:
        routes = value if isinstance(value, list) else [value]
        hint = "write it as `POST /v1/messages`, or as `GET /v1/models/{id:path}`"
        if not routes:
            self.builder.report("bad-route", "expected at least one route", path, hint)
        for n, route in enumerate(routes):
            if not (isinstance(route, str) and ROUTE.fullmatch(route)):
                message = f"expected a method and a path, got {describe(route)}"
                self.builder.report("bad-route", message, (*path, n), hint)
        return tuple(str(route) for route in routes if isinstance(route, str))

    def _stage(self, item: Any, path: Path) -> tuple[Step | None, AnyStage | None]:
        """Give the step for the type check; and the stage, if its options have no problem."""
        name, options = self._named(item, path)
        if name is None:
            return None, None
        path = (*path, name)
        try:
            cls = self.schema.registry.get(name)
        except UnknownStageError as error:
            message = self.builder.document.redact(str(error), path[:-1])
            self.builder.report_key("unknown-stage", message, path, error.hint)
            self.builder.document.hide(path, unknown)
            return None, None
        step = Step(name, self.builder.document.location_of_key(path), cls)
        return step, self._configured(cls, {} if options is None else options, path)

    def _named(self, item: Any, path: Path) -> tuple[str | None, Any]:
        if isinstance(item, str) and " " in item and not isinstance(item, FromEnvironment):
            message = f"`{item}` is not the name of one stage"
            self.builder.report("bad-stage", message, path, "put `- ` before each of them")
            return None, None
        if isinstance(item, str):
            return item, None
        if isinstance(item, dict) and len(item) == 1:
            name, options = next(iter(item.items()))
            return name, options
        self.builder.document.hide(path, unknown)
        if isinstance(item, dict) and item:
            name, stray = list(item)[:2]
            message = f"`{stray}` is next to `{name}`, not below it"
            hint = f"if it is an option of `{name}`, indent it by two more spaces"
            if stray in self.schema.registry.names():
                hint = "put `- ` before it"
            self.builder.report_key("bad-stage", message, (*path, stray), hint)
        else:
            message = f"expected the name of a stage, got {describe(item)}"
            self.builder.report("bad-stage", message, path, _STAGE_HINT)
        return None, None

    def _configured(self, cls: StageClass, options: Any, path: Path) -> AnyStage | None:
        fields = [field for field in attrs.fields(cls) if "section" in field.metadata]
        sections = {field.name: field.metadata["section"] for field in fields}
        for section in set(sections.values()) - self.schema.sections.keys():
            message = f"`{path[-1]}` asks for the section `{section}`, which no file has"
            hint = f"correct its class: {suggest(section, self.schema.sections)}"
            self.builder.report_key("bad-stage", message, path, hint)
        if isinstance(options, dict):
            for key in options.keys() & sections.keys():
                message = f"`{path[-1]}` has no option `{key}`"
                hint = f"it is the section `{sections[key]}` of this file"
                self.builder.report_key("unknown-option", message, (*path, key), hint)
            options = self._without_section_options(cls, options, sections, path)
            if not self.sections.keys() >= set(sections.values()):
                return None  # a section that it needs has problems, which are reported
            options = {
                **self._from_environment(cls),
                **options,
                **{k: self.sections[v] for k, v in sections.items()},
            }
        # A `Stage[T, T]` is generic itself; its options do not depend on T.
        parameters = tuple(Any for _ in getattr(cls, "__parameters__", ()))
        kind = cls[parameters] if parameters else cls  # type: ignore[index]
        built: AnyStage | None = self.builder.build(options, kind, path)
        return built

    def _without_section_options(
        self, cls: StageClass, options: dict[Any, Any], sections: dict[str, str], path: Path
    ) -> dict[Any, Any]:
        """Report options that belong in a section of the stage. Give the others."""
        owners = {
            name: section
            for section in sections.values()
            if isinstance(kind := self.schema.sections.get(section), type) and attrs.has(kind)
            for name in option_names(kind)
        }
        misplaced = (options.keys() & owners.keys()) - {*option_names(cls), *sections}
        for key in misplaced:
            message = f"`{path[-1]}` has no option `{key}`"
            hint = f"write it in the section `{owners[key]}` of this file"
            self.builder.report_key("unknown-option", message, (*path, key), hint)
        return {key: value for key, value in options.items() if key not in misplaced}

    def _from_environment(self, cls: StageClass) -> dict[str, Any]:
        environ = self.builder.document.environ
        variables = {f.name: f.metadata.get("variable") for f in attrs.fields(cls)}
        sections = {k: environ.get(v, "") for k, v in variables.items() if v}
        return {k: [FromEnvironment(value)] for k, value in sections.items() if value}
