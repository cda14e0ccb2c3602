"""Parts that several commands share."""

from __future__ import annotations

import math
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
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


class Number(click.IntRange):
    """A whole number, with a name that fits click's message `… is not a valid …`."""

    name = "whole number"


class Seconds(click.FloatRange):
    """A number of seconds. FloatRange accepts `nan`, which no timer takes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


def reporting(
    run: Callable[[], Any], on_error: Callable[[ConfigError], None] | None = None
) -> None:
    """Call `run`; report the problems of a config to stderr or by `on_error`, and exit with 1."""
    try:
        run()
    except ConfigError as error:
        if on_error:
            on_error(error)
        else:
            click.echo(error.report(), err=True)
        sys.exit(1)
