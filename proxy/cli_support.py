"""Parts that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from pipeline.config.problems import ConfigError

config_option = click.option(
    "--config",
    metavar="PATH",
    show_default="LLM_PROXY_CONFIG, or ./pipelines.yaml",
    help="The config file.",
)


def reporting(run: Callable[[], Any]) -> None:
    """Call `run`; report the problems of a config to stderr, and exit with 1."""
    try:
        run()
    except ConfigError as error:
        click.echo(error.report(), err=True)
        sys.exit(1)
