"""The command `llm-proxy replay`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from proxy.cli_support import Number, config_option, json_option, reporting


@click.command()
@config_option
@click.argument("place", metavar="DIR|FILE", type=click.Path(path_type=Path))
@click.option(
    "--against",
    metavar="MODEL|BACKEND[/MODEL]",
    show_default="the config's targets",
    help="Send all requests to this model of the config, or to this backend.",
)
@click.option(
    "--pipeline",
    metavar="NAME",
    show_default="that of POST /v1/messages",
    help="The pipeline.",
)
@click.option("--limit", metavar="N", type=Number(1), help="Replay at most the first N exchanges.")
@click.option(
    "--concurrency",
    metavar="N",
    type=Number(1),
    default=1,
    show_default=True,
    help="Number of requests in flight.",
)
@click.option("--fail-on-difference", is_flag=True, help="Exit with 1 if an exchange differs.")
@json_option
def replay(
    config: str | None,
    place: Path,
    against: str | None,
    pipeline: str | None,
    limit: int | None,
    concurrency: int,
    fail_on_difference: bool,
    as_json: bool,
) -> None:
    """Run recorded exchanges again, and compare the results.

    DIR or FILE has what the stage `record` wrote. Each request goes through a pipeline of the
    config as it is now, in this process. The types of the blocks, the tool calls with their inputs,
    the stop reason and the error are compared; tokens and seconds are shown. Progress goes to
    stderr. The calls are not in the usage record, and not recorded. It exits with 1 if a request
    failed that did not fail before, or if there is no exchange.

    \b
    Examples:
      llm-proxy replay recordings                          the config as it is now
      llm-proxy replay recordings --against ollama/qwen3   another backend and model
      llm-proxy replay recordings --limit 20 --fail-on-difference --json
    """  # noqa: D301 - click knows \\b by the character itself
    if not place.exists():
        raise click.BadParameter(f"Path '{place}' does not exist.", param_hint="DIR|FILE")
    from proxy.config import read
    from proxy.replay import command

    wishes = command.Wishes(against, pipeline, limit, concurrency, as_json)

    def run() -> None:
        sums = command.run(read(config), place, wishes)
        if sums.verdicts["failed"] or (fail_on_difference and sums.verdicts["differs"]):
            sys.exit(1)

    reporting(run)
