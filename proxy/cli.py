"""The command `llm-proxy`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click
from attrs import evolve

from pipeline.config.problems import ConfigError, suggest
from pipeline.config.schema import Config
from proxy import __version__

_config = click.option(
    "--config",
    metavar="PATH",
    help="The declaration; else LLM_PROXY_CONFIG, else ./pipelines.yaml.",
)


class _ServeByDefault(click.Group):
    """`llm-proxy --port 80` is `llm-proxy serve --port 80`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {*self.commands, "--help", "-h", "--version"}
        if not args or (args[0] not in known and args[0].startswith("-")):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ServeByDefault, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="llm-proxy")
def main() -> None:
    """Speak the Anthropic Messages API to clients, and answer with any OpenAI-compatible model.

    Without a command it serves. What it does with a request stands in pipelines.yaml.

    \b
    Examples:
      llm-proxy                              serve ./pipelines.yaml
      llm-proxy --host 0.0.0.0 --port 9000   serve elsewhere
      llm-proxy check --config my.yaml       say what is wrong with my.yaml
    """  # noqa: D301 - click knows \\b by the character itself


@main.command()
@_config
@click.option("--host", help="The address to listen on; goes before the declaration's.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port; 0 takes a free one.")
@click.option("--workers", type=click.IntRange(1), help="How many processes serve; else 1.")
def serve(config: str | None, host: str | None, port: int | None, workers: int | None) -> None:
    """Serve the declaration until stopped."""
    from proxy.serve import serve as run

    _reporting(lambda: run(_read(config), host=host, port=port, workers=workers))


@main.command()
@_config
def check(config: str | None) -> None:
    """Say everything that is wrong with the declaration, or that it is in order."""
    from proxy.config import check_open_access

    def run() -> None:
        declaration = _read(config)
        check_open_access(declaration, declaration.sections["server"].host)
        for note in declaration.notes:
            click.echo(note.render(declaration.file, declaration.source), err=True)
        for pipeline in declaration.pipelines:
            click.echo(f"{pipeline.name}: {', '.join(pipeline.routes)}")
        click.echo(f"{declaration.file} is in order")

    _reporting(run)


@main.command()
@_config
@click.argument("names", nargs=-1)
def stages(config: str | None, names: tuple[str, ...]) -> None:
    """List the stages there are, with their options, and what each accepts and emits.

    NAMES may also be stages of your own, as `my_module:MyStage`.
    """
    from pipeline.config.describe import describe_stage
    from pipeline.config.load import folder_of
    from pipeline.config.registry import UnknownStageError
    from proxy.config import locate
    from stages import REGISTRY

    registry = evolve(REGISTRY, folder=folder_of(locate(config)))
    for name in names or registry.names():
        try:
            click.echo(describe_stage(name, registry.get(name)))
        except UnknownStageError as error:
            raise click.ClickException(f"{error}\n  hint: {error.hint}") from error


@main.command()
@click.argument("name", required=False)
@click.option("--fields", is_flag=True, help="What becomes of each field, by profile.")
def profiles(name: str | None, fields: bool) -> None:
    """List the backend profiles, or show the one called NAME, whole."""
    from stages.profiles import describe
    from stages.profiles.profile import profiles as shipped

    if fields:
        click.echo(describe.table())
    elif name is None:
        click.echo("\n".join(shipped()))
    elif name in shipped():
        click.echo(describe.as_yaml(name), nl=False)
    else:
        raise click.ClickException(
            f"there is no profile `{name}`\n  hint: {suggest(name, shipped())}"
        )


@main.command()
@_config
@click.argument("backend")
@click.option("--model", metavar="NAME", help="Its model to ask; else the one you declared.")
@click.option("--url", help="Where BACKEND is, if it is not declared yet: its `base_url`.")
@click.option("--key-variable", metavar="VAR", help="The variable with its key, for --url.")
@click.option("--all", "whole", is_flag=True, help="Print the keys that are as in `generic`, too.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(1),
    default=60.0,
    help="For each request; else 60.",
)
def probe(
    config: str | None,
    backend: str,
    model: str | None,
    url: str | None,
    key_variable: str | None,
    whole: bool,
    timeout: float,
) -> None:
    """Ask a live backend what it takes, and print a profile to paste under `backends`.

    BACKEND is an entry of `backends`; with --url, the name to give it. It gets some fifty tiny
    requests, one after the other; its answers are some hundred tokens in all. The progress goes
    to stderr, the profile to stdout.

    \b
    Examples:
      llm-proxy probe ollama --model llama3.2
      llm-proxy probe mine --url http://gpu:8000/v1 > mine.yaml
      llm-proxy probe router --url https://openrouter.ai/api/v1 --key-variable ROUTER_KEY --model …
    """  # noqa: D301 - click knows \\b by the character itself
    import anyio

    from proxy.probe import command as command

    if key_variable and not url:
        raise click.UsageError("--key-variable goes with --url; else `api_key` is declared")

    def run() -> None:
        if url:
            subject = command.from_url(backend, url, key_variable, config)
        else:
            subject = command.from_config(backend, config)
        anyio.run(command.probe, subject, model, whole, timeout)

    _reporting(run)


def _read(config: str | None) -> Config:
    from proxy.config import read

    return read(config)


def _reporting(run: Callable[[], Any]) -> None:
    try:
        run()
    except ConfigError as error:
        click.echo(error.report(), err=True)
        sys.exit(1)
