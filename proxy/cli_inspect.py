"""The commands that show what a config has, or may have, and what a pipeline does."""

from __future__ import annotations

import json
import sys
from typing import Any, BinaryIO

import click
from attrs import asdict, evolve

from pipeline.config.problems import suggest
from pipeline.config.schema import Config, Pipeline
from proxy.cli_support import config_option, json_option, reporting


@click.command()
@config_option
@json_option
@click.argument("names", nargs=-1)
def stages(config: str | None, as_json: bool, names: tuple[str, ...]) -> None:
    """List the stages with their events and options.

    NAMES may include your own stages, as `my_module:MyStage`.

    \b
    Examples:
      llm-proxy stages
      llm-proxy stages queue my_stages:LimitTokens
    """  # noqa: D301 - click knows \\b by the character itself
    from pipeline.config.describe import describe_stage
    from pipeline.config.load import folder_of
    from pipeline.config.registry import UnknownStageError
    from proxy import cli_json
    from proxy.config import locate
    from stages import REGISTRY

    registry = evolve(REGISTRY, folder=folder_of(locate(config)))
    try:
        classes = {name: registry.get(name) for name in names or registry.names()}
    except UnknownStageError as error:
        raise click.ClickException(f"{error}\n  hint: {error.hint}") from error
    if as_json:
        return cli_json.echo([cli_json.stage(name, kind) for name, kind in classes.items()])
    for name, kind in classes.items():
        click.echo(describe_stage(name, kind))


@click.command()
@click.argument("name", required=False)
@click.option("--fields", is_flag=True, help="Print the policy of each field, by profile.")
@json_option
def profiles(name: str | None, fields: bool, as_json: bool) -> None:
    """List the backend profiles, or print the profile NAME.

    \b
    Examples:
      llm-proxy profiles
      llm-proxy profiles ollama
    """  # noqa: D301 - click knows \\b by the character itself
    from proxy import cli_json
    from stages.profiles import describe
    from stages.profiles.profile import profiles as shipped

    if fields:
        click.echo(describe.table())
    elif name is None:
        cli_json.echo(list(shipped())) if as_json else click.echo("\n".join(shipped()))
    elif name in shipped() and as_json:
        cli_json.echo(cli_json.profile(name))
    elif name in shipped():
        click.echo(describe.as_yaml(name), nl=False)
    else:
        raise click.ClickException(
            f"there is no profile `{name}`\n  hint: {suggest(name, shipped())}"
        )


@click.command()
@click.option(
    "--config",
    metavar="PATH",
    help="Offer only the backends, models and own stages of this config. It may have mistakes.",
)
def schema(config: str | None) -> None:
    """Print a JSON Schema of the config, for editors.

    An editor with a YAML language server then completes names, and marks misspelt ones, while you
    type. It looks for the schema in the first line of the config:

    \b
      # yaml-language-server: $schema=pipelines.schema.json

    \b
    Examples:
      llm-proxy schema > pipelines.schema.json
      llm-proxy schema --config pipelines.yaml > pipelines.schema.json
    """  # noqa: D301 - click knows \\b by the character itself
    from proxy.config_schema import for_editors

    reporting(lambda: click.echo(json.dumps(for_editors(config), indent=2, ensure_ascii=False)))


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("names", nargs=-1)
def show(config: str | None, as_json: bool, names: tuple[str, ...]) -> None:
    """Draw the pipelines of the config.

    The drawing has the stages, the events between them, and the options that differ from their
    defaults. Keys are masked. NAMES are pipelines; default: all.

    \b
    Examples:
      llm-proxy show
      llm-proxy show messages --config my.yaml
    """  # noqa: D301 - click knows \\b by the character itself
    from pipeline.config.drawing import draw
    from proxy.config import SCHEMA, read

    def run() -> None:
        chosen = _named(read(config), names)
        if as_json:
            drawn = [_as_json(pipeline, SCHEMA.start) for pipeline in chosen]
            click.echo(json.dumps(drawn, indent=2, ensure_ascii=False))
        else:
            click.echo("\n".join(draw(pipeline, SCHEMA.start) for pipeline in chosen), nl=False)

    reporting(run)


def _named(config: Config, names: tuple[str, ...]) -> list[Pipeline]:
    by_name = {pipeline.name: pipeline for pipeline in config.pipelines}
    for name in names:
        if name not in by_name:
            message = f"there is no pipeline `{name}` in {config.file}"
            raise click.ClickException(f"{message}\n  hint: {suggest(name, by_name)}")
    return [by_name[name] for name in names or by_name]


def _as_json(pipeline: Pipeline, start: type) -> dict[str, Any]:
    from pipeline.config.drawing import drawn_stages

    stages = [asdict(stage) for stage in drawn_stages(pipeline, start)]
    routes = list(pipeline.routes)
    return {"name": pipeline.name, "routes": routes, "start": start.__name__, "stages": stages}


@click.command()
@config_option
@click.argument("file", type=click.File("rb"))
@click.option(
    "--pipeline",
    metavar="NAME",
    show_default="that of POST /v1/messages",
    help="The pipeline.",
)
@click.option("--dry", is_flag=True, help="Stop before the backend is called.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all values.")
def explain(
    config: str | None, file: BinaryIO, pipeline: str | None, dry: bool, as_json: bool
) -> None:
    """Show what each stage of a pipeline does to a request.

    FILE is the body of a request, or a saved exchange: a file of the stage `record`, or a JSON
    object with the body as `request` and perhaps `headers`; - reads stdin. For each stage the
    command prints its time, and what it added (+), changed (~), removed (-) and reported to the
    client (!). Keys are masked; prompts are not. Without --dry the backend is called; the call is
    not in the usage record. It exits with 1 if the client would get an error.

    \b
    Examples:
      llm-proxy explain --dry body.json
      llm-proxy explain --pipeline messages --json body.json
      tail -n 1 recordings/exchanges-….jsonl | llm-proxy explain -
    """  # noqa: D301 - click knows \\b by the character itself
    from proxy.config import read
    from proxy.explain import command
    from proxy.explain.request import saved

    def run() -> None:
        loaded = read(config)
        chosen = command.choose(loaded, pipeline)
        try:
            request, others = saved(file.read())
        except OSError as error:
            message = f"{file.name} cannot be read: {error.strerror}\n  hint: name another file"
            raise click.ClickException(message) from error
        if others:
            click.echo(f"note: only the first exchange is explained; {others} follow", err=True)
        if command.explain(loaded, chosen, request, dry, as_json):
            sys.exit(1)

    reporting(run)
