"""What commands such as `check` print with `--json`: for scripts."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import click
from ruamel.yaml import YAML

from pipeline.config.describe import describe_options
from pipeline.config.problems import ConfigError, Problem
from pipeline.config.registry import StageClass
from pipeline.config.schema import Config
from pipeline.stage import signature
from stages.profiles import describe as profile_text
from stages.wire.json_codec import encode


def echo(value: Any) -> None:
    """Print a value as JSON on one line."""
    click.echo(encode(value))


def check_result(config: Config) -> dict[str, Any]:
    """Give the result for a config without errors."""
    pipelines = {pipeline.name: list(pipeline.routes) for pipeline in config.pipelines}
    return _result(config.file, config.notes, pipelines)


def check_errors(error: ConfigError) -> dict[str, Any]:
    """Give the result for a config with errors."""
    return _result(error.file, error.problems, {})


def _result(
    file: str, problems: Iterable[Problem], pipelines: Mapping[str, list[str]]
) -> dict[str, Any]:
    rows = [
        {
            "file": problem.file or file,
            "severity": problem.severity,
            "code": problem.code,
            "message": problem.message,
            "line": problem.location.line,
            "column": problem.location.column,
            "hint": problem.hint,
        }
        for problem in problems
    ]
    valid = all(row["severity"] != "error" for row in rows)
    return {"file": file, "valid": valid, "problems": rows, "pipelines": pipelines}


def stage(name: str, kind: StageClass) -> dict[str, Any]:
    """Give a stage: its events, its text, and its options by their paths."""
    events = signature(kind)
    options = [attrs.asdict(option) for option in describe_options(kind)]
    return {
        "name": name,
        "accepts": [event.__name__ for event in events.accepts],
        "emits": [event.__name__ for event in events.emits],
        "transparent": events.transparent,
        "description": inspect.cleandoc(kind.__doc__ or ""),
        "options": options,
    }


def profile(name: str) -> Any:
    """Give a whole profile, as `profiles NAME` prints it."""
    return YAML(typ="safe", pure=True).load(profile_text.as_yaml(name))[name]
