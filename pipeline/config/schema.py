"""A declaration: what one may hold, and what comes of one that is in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import Factory, frozen
from cattrs import Converter

from pipeline.chain import AnyStage, Chain
from pipeline.config.problems import Location, Problem
from pipeline.config.registry import Registry
from pipeline.config.walk import OptionClasses


@frozen
class Schema:
    """What a declaration may hold: its sections, its stages, and the ends of a pipeline.

    `sections` maps names to types; `dict[str, X]` is a section of named entries, which
    options made with `reference` can name. `register_hooks` is called with the converter,
    to teach it types of one's own. `reserved` are routes that are taken already.
    """

    sections: Mapping[str, Any]
    registry: Registry
    start: type
    end: type
    reserved: tuple[str, ...] = ()
    option_classes: OptionClasses = Factory(dict)
    register_hooks: Callable[[Converter], None] = lambda converter: None


@frozen
class Pipeline:
    """A checked chain and the routes that lead into it, as `POST /v1/messages`.

    `locations` are the places of its stages in the file.
    """

    name: str
    routes: tuple[str, ...]
    stages: tuple[AnyStage, ...]
    chain: Chain
    locations: tuple[Location, ...]


@frozen
class Config:
    """A declaration that is in order. `notes` are problems that do no harm.

    `digest` tells what its files said from what they say later.

    A section of named entries leaves out those that nothing refers to and that could not be
    used here.
    """

    file: str
    source: str
    sections: Mapping[str, Any]
    pipelines: tuple[Pipeline, ...]
    notes: tuple[Problem, ...]
    digest: bytes = b""
    masked_source: str = ""
