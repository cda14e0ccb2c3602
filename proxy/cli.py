"""The command `llm-proxy`."""

from __future__ import annotations

from typing import Any

import click

from pipeline.config.schema import Config
from proxy import __version__
from proxy.cli_init import init
from proxy.cli_inspect import explain, profiles, schema, show, stages
from proxy.cli_keys import keys
from proxy.cli_replay import replay
from proxy.cli_run import run, statusline
from proxy.cli_support import Number, Seconds, json_option
from proxy.cli_support import config_option as _config
from proxy.cli_support import reporting as _reporting
from proxy.signals import block_hangup

_AS_CONFIGURED = "as in the config"


class _ServeByDefault(click.Group):
    """`llm-proxy --port 80` means `llm-proxy serve --port 80`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        names = {*self.commands, "--help", "-h", "--version"}
        if ctx.resilient_parsing:  # the shell completes the name of a command
            return super().parse_args(ctx, args)
        if not args or (args[0] not in names and args[0].startswith("-")):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ServeByDefault, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="llm-proxy")
def main() -> None:
    """Speak the Anthropic Messages API to clients, and use any OpenAI-compatible backend.

    Without a command it serves. The stages of pipelines.yaml say what happens to a request.

    \b
    Examples:
      llm-proxy init                         find a model server, write pipelines.yaml
      llm-proxy run -- claude                start Claude Code with a proxy of its own
      llm-proxy                              serve ./pipelines.yaml
      llm-proxy --host 0.0.0.0 --port 9000   serve elsewhere
      llm-proxy check --config my.yaml       report the problems of my.yaml
    """  # noqa: D301 - click knows \\b by the character itself


@main.command()
@_config
@click.option(
    "--host", metavar="ADDRESS", help="The address to listen on.", show_default=_AS_CONFIGURED
)
@click.option(
    "--port",
    metavar="N",
    type=Number(0, 65535),
    help="The port; 0 takes a free one.",
    show_default=_AS_CONFIGURED,
)
@click.option(
    "--workers",
    metavar="N",
    type=Number(1),
    help="Number of worker processes.",
    show_default=_AS_CONFIGURED,
)
def serve(config: str | None, host: str | None, port: int | None, workers: int | None) -> None:
    """Serve the pipelines of the config.

    \b
    Examples:
      llm-proxy serve
      llm-proxy serve --config my.yaml --port 9000
    """  # noqa: D301 - click knows \\b by the character itself
    block_hangup()  # before imports that take a second
    from proxy.serve import serve as serve_until_signal

    _reporting(lambda: serve_until_signal(_read(config), host=host, port=port, workers=workers))


@main.command()
@_config
@click.option("--fix", is_flag=True, help="Rewrite old names of options in the file.")
@json_option
def check(config: str | None, fix: bool, as_json: bool) -> None:
    """Report every problem of the config.

    It exits with 0 if the config has no errors, otherwise with 1.

    \b
    Examples:
      llm-proxy check
      llm-proxy check --config my.yaml --fix
    """  # noqa: D301 - click knows \\b by the character itself
    from proxy import cli_json
    from proxy.config import check_open_access

    def run() -> None:
        if fix:
            _fix(config)
        loaded = _read(config)
        check_open_access(loaded, loaded.sections["server"].host)
        if as_json:
            return cli_json.echo(cli_json.check_result(loaded))
        for note in loaded.notes:
            click.echo(note.render(loaded.file, loaded.masked_source), err=True)
        for pipeline in loaded.pipelines:
            click.echo(f"{pipeline.name}: {', '.join(pipeline.routes)}")
        click.echo(f"{loaded.file} is in order")

    _reporting(
        run, on_error=(lambda e: cli_json.echo(cli_json.check_errors(e))) if as_json else None
    )


@main.command()
@_config
@click.argument("backend")
@click.option(
    "--model", metavar="NAME", show_default="the one in `models`", help="The model to ask."
)
@click.option(
    "--url", metavar="URL", help="The `base_url` of BACKEND, if the config does not have BACKEND."
)
@click.option("--api-key-env", metavar="VAR", help="The variable with the key for --url.")
@click.option("--key-variable", "old_api_key_env", hidden=True)  # its name until 0.1
@click.option("--all", "whole", is_flag=True, help="Print also the keys that are as in `generic`.")
@json_option
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=Seconds(1),
    default=60.0,
    show_default=True,
    help="Timeout of each request.",
)
def probe(
    config: str | None,
    backend: str,
    model: str | None,
    url: str | None,
    api_key_env: str | None,
    old_api_key_env: str | None,
    whole: bool,
    as_json: bool,
    timeout: float,
) -> None:
    """Find out what a backend supports, and print its profile.

    BACKEND is an entry of `backends`; with --url, BACKEND is the name for the new entry. The
    command sends about fifty tiny requests, one after the other. The responses have a few hundred
    tokens in all. The progress goes to stderr. The profile for `backends` goes to stdout.

    \b
    Examples:
      llm-proxy probe ollama --model llama3.2
      llm-proxy probe mine --url http://gpu:8000/v1 > mine.yaml
      llm-proxy probe router --url https://openrouter.ai/api/v1 --api-key-env ROUTER_KEY --model …
    """  # noqa: D301 - click knows \\b by the character itself
    import anyio

    from proxy.probe import command as command

    api_key_env = api_key_env or old_api_key_env
    if api_key_env and not url:
        raise click.UsageError("--api-key-env needs --url; an entry of `backends` has an `api_key`")

    def run() -> None:
        if url:
            subject = command.from_url(backend, url, api_key_env, config)
        else:
            subject = command.from_config(backend, config)
        anyio.run(command.probe, subject, model, timeout, whole, as_json)

    _reporting(run)


@main.command()
@_config
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(("day", "key", "model", "session", "agent", "backend")),
    default=("day",),
    show_default=True,
    help="Group by this; may be repeated.",
)
@click.option(
    "--since",
    metavar="DATE",
    default="30d",
    show_default=True,
    help="The first day (UTC), as 2026-11-01, or the number of days, as 7d.",
)
@click.option("--json", "form", flag_value="json", help="Print a JSON list.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
def usage(config: str | None, by: tuple[Any, ...], since: str, form: str | None) -> None:
    """Print what was used: requests, tokens, backend hours and cost.

    It reads the daily sums of the usage record, which the stage `account` writes. The cost is
    derived from `price` of the backends and models, in the currency of those prices. It exits with
    1 if there is no record.

    \b
    Examples:
      llm-proxy usage                                  each of the last 30 days
      llm-proxy usage --by model --since 2026-11-01    each model since then
      llm-proxy usage --by session --by agent --csv    each agent of each session
    """  # noqa: D301 - click knows \\b by the character itself
    from proxy import usage as command

    try:
        first = command.parse_since(since)
    except ValueError:
        raise click.BadParameter("write it as 2026-11-01 or 7d", param_hint="--since") from None
    formats = {"json": command.as_json, "csv": command.as_csv}

    def run() -> None:
        result = command.report(_read(config), tuple(dict.fromkeys(by)), first)
        click.echo(formats.get(form or "", command.as_table)(result))

    _reporting(run)


def _fix(config: str | None) -> None:
    from pipeline.config.fix import FixError, fix_file
    from proxy.config import check_open_access, locate, read

    file = locate(config)

    def load(text: str | None) -> Config:
        loaded = read(file, source=text)
        check_open_access(loaded, loaded.sections["server"].host)
        return loaded

    try:
        repaired = fix_file(file, load)
    except FixError as error:
        raise click.ClickException(str(error)) from error
    for problem in repaired:
        place = f"{file}:{problem.location.line}:{problem.location.column}"
        click.echo("{}: renamed `{}` to `{}`".format(place, *problem.rename or ()))


def _read(config: str | None) -> Config:
    from proxy.config import read

    return read(config)


main.add_command(init)
main.add_command(keys)
main.add_command(run)
main.add_command(statusline)
main.add_command(schema)
main.add_command(show)
main.add_command(stages)
main.add_command(profiles)
main.add_command(explain)
main.add_command(replay)
