"""The commands that look into a config: `schema`, `show`, `explain`."""

from __future__ import annotations

import json
import sys
from typing import BinaryIO

import click

from proxy.cli_support import config_option, reporting


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

    FILE is the body of a request, or a saved exchange: a JSON object with the body as `request` and
    perhaps `headers`; - reads stdin. For each stage the command prints its time, and what it added
    (+), changed (~), removed (-) and reported to the client (!). Keys are masked; prompts are not.
    It exits with 1 if the client would get an error.

    \b
    Examples:
      llm-proxy explain --dry body.json
      llm-proxy explain --pipeline messages --json body.json
    """  # noqa: D301 - click knows \\b by the character itself
    from proxy.config import read
    from proxy.explain import command

    def run() -> None:
        loaded = read(config)
        chosen = command.choose(loaded, pipeline)
        if command.explain(loaded, chosen, command.saved(file.read()), dry, as_json):
            sys.exit(1)

    reporting(run)
