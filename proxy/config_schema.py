"""`llm-proxy schema`: the JSON Schema of pipelines.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_origin

from attrs import evolve

from pipeline.config.json_schema import json_schema, loadable
from pipeline.config.load import folder_of, read_texts
from pipeline.config.parsing import parse
from pipeline.config.problems import ConfigError
from pipeline.config.schema import JsonSchema
from proxy.config import SCHEMA


def for_editors(file: str | None) -> JsonSchema:
    """Give the JSON Schema of a config; with `file`, of one with the names in `file`.

    Raises ConfigError if `file` cannot be read or is not valid YAML.
    """
    if file is None:
        return json_schema(SCHEMA, {})
    document = parse(read_texts(file)[0], {})
    if unreadable := [p for p in document.problems if p.code == "yaml-syntax"]:
        raise ConfigError(file, document.masked_text(), unreadable)
    config = document.value if isinstance(document.value, dict) else {}
    entries = {
        name: list(_mapping(config.get(name)))
        for name, kind in SCHEMA.sections.items()
        if get_origin(kind) is dict
    }
    registry = evolve(SCHEMA.registry, folder=folder_of(file))
    own_stages = loadable(registry, _import_paths(config))
    return json_schema(evolve(SCHEMA, registry=registry), entries, own_stages)


def _import_paths(config: dict[str, Any]) -> Iterator[str]:
    """Yield the import paths of the stages in `config`, which may have any mistake."""
    for pipeline in _mapping(config.get("pipelines")).values():
        stages = _mapping(pipeline).get("stages")
        for stage in stages if isinstance(stages, list) else []:
            for name in (stage,) if isinstance(stage, str) else _mapping(stage):
                if ":" in name:
                    yield name


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
