"""The JSON Schema next to a new config, which the first line of the config names for editors."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pipeline.config.json_schema import json_schema
from proxy.config import SCHEMA

NAME = "pipelines.schema.json"


def may_write(config: str) -> bool:
    """Whether the file next to `config` is a schema of a config, or does not exist yet."""
    path = Path(config).parent / NAME
    try:
        return bool(json.loads(path.read_bytes())["title"] == _schema()["title"])
    except FileNotFoundError:
        return True
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def write(config: str) -> None:
    """Write the schema, as `llm-proxy schema` prints it. A file that exists is not changed."""
    path = Path(config).parent / NAME
    update = f"`llm-proxy schema > {NAME}`"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(_schema(), indent=2, ensure_ascii=False) + "\n")
    except FileExistsError:
        click.echo(f"unchanged: {path} was there already; {update} updates it")
    except OSError as error:
        click.echo(f"{path} cannot be written: {error.strerror}; {update} writes it", err=True)
    else:
        click.echo(f"wrote {path}: editors complete and check the config with it")


def _schema() -> dict[str, object]:
    return json_schema(SCHEMA, {})
