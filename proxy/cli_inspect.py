"""The commands that explain a config: `schema`, `show`."""

from __future__ import annotations

import json

import click

from proxy.cli_support import reporting


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
