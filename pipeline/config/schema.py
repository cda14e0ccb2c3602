"""The schema of a config, and a loaded config."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import Factory, frozen
from cattrs import Converter

from pipeline.chain import AnyStage, Chain
from pipeline.config.document import Path as ConfigPath
from pipeline.config.problems import Location, Problem
from pipeline.config.registry import Registry
from pipeline.config.walk import OptionClasses

JsonSchema = dict[str, Any]


@frozen
class Pipeline:
    """A checked chain and its routes, as `POST /v1/messages`.

    `stage_names` are the names of the stages in the file, and `locations` their places.
    """

    name: str
    routes: tuple[str, ...]
    stages: tuple[AnyStage, ...]
    chain: Chain
    locations: tuple[Location, ...]
    stage_names: tuple[str, ...]


#: Finds further problems of sections and pipelines, and yields each with its path.
Rule = Callable[[Mapping[str, Any], tuple[Pipeline, ...]], Iterator[tuple[ConfigPath, Problem]]]


@frozen
class Schema:
    """The sections and stages that a config may have, and the events at the ends of a pipeline.

    `sections` maps names to types. `dict[str, X]` is a section of named entries, which options made
    with `reference` can name. `register_hooks` gets the converter, to add structuring hooks.
    `option_classes` gives, for a type with such a hook, the class with its options, and
    `json_schemas` the function that adapts its JSON Schema. `reserved` are routes that a config may
    not use. `optional` are sections that are None if the config does not have them.
    `section_files` maps names of top-level options to sections: the option names a file with more
    entries of the section. `rules` find further problems of sections and pipelines, and give each
    with its path.
    """

    sections: Mapping[str, Any]
    registry: Registry
    start: type
    end: type
    reserved: tuple[str, ...] = ()
    option_classes: OptionClasses = Factory(dict)
    json_schemas: Mapping[Any, Callable[[JsonSchema], JsonSchema]] = Factory(dict)
    register_hooks: Callable[[Converter], None] = lambda converter: None
    optional: frozenset[str] = frozenset()
    section_files: Mapping[str, str] = Factory(dict)
    rules: tuple[Rule, ...] = ()


@frozen
class Config:
    """A loaded config without errors. `notes` are its warnings and notes.

    `masked_source` is `source` without its secrets, to be quoted. `digest` changes if one of the
    files changes; `files` are those that the config names. `public_digest` identifies the text
    without the secrets, and the entries in other files. A section of named entries does not have
    the entries that nothing refers to and that cannot work on this machine.
    """

    file: str
    source: str
    sections: Mapping[str, Any]
    pipelines: tuple[Pipeline, ...]
    notes: tuple[Problem, ...]
    masked_source: str = ""
    digest: bytes = b""
    files: tuple[Path, ...] = ()
    public_digest: str = ""
    section_locations: Mapping[str, Location] = Factory(dict)
    """The places of the sections that the file has."""
