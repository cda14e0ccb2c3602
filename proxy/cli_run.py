"""The command `llm-proxy run`."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipeline.config.schema import Config
    from proxy.client_environment import Changes

from proxy.cli_support import config_option, reporting


@click.command(context_settings={"allow_interspersed_args": False})
@config_option
@click.option("--model", metavar="NAME", help="The model for the command: a name of `models`.")
@click.option("--api-key", is_flag=True, help="Set ANTHROPIC_API_KEY, too.")
@click.option(
    "--log",
    metavar="PATH",
    type=click.Path(dir_okay=False, path_type=Path),
    show_default="a temporary file, kept after an error",
    help="The file for the proxy's log.",
)
@click.option("--print", "only_print", is_flag=True, help="Show what would happen, and do nothing.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    config: str | None,
    model: str | None,
    api_key: bool,
    log: Path | None,
    only_print: bool,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND with a proxy of its own.

    The proxy listens on a free port of 127.0.0.1, and accepts only a new random key. COMMAND gets
    the address and the key in its environment (ANTHROPIC_BASE_URL, ANTHROPIC_AUTH_TOKEN), has the
    terminal, and gets the signals. The proxy ends with COMMAND. The exit status is that of COMMAND;
    128 + N after signal N. No file of the client is changed.

    \b
    Examples:
      llm-proxy run -- claude
      llm-proxy run --model llama3.2 -- claude -p 'What is gravity?'
      llm-proxy run --print -- python my_agent.py
    """  # noqa: D301 - click knows \\b by the character itself
    status = 1

    def start() -> None:
        nonlocal status
        status = _run(config, model, api_key, log, only_print, command)

    reporting(start)
    sys.exit(status)


@click.command()
def statusline() -> None:
    """Print a status line for Claude Code.

    The command reads Claude Code's JSON from stdin, and asks the proxy that `llm-proxy run` has
    started for the session: the model that responds, the tokens of the prompt and their cached
    share, the speed, and how long a request has been waiting. Set it in Claude Code's settings.

    \b
    Example:
      {"statusLine": {"type": "command", "command": "llm-proxy statusline", "refreshInterval": 1}}
    """  # noqa: D301 - click knows \\b by the character itself
    from proxy.statusline import main

    main()


def _run(
    config: str | None,
    model: str | None,
    api_key: bool,
    log: Path | None,
    only_print: bool,
    command: tuple[str, ...],
) -> int:
    from proxy import client_environment
    from proxy.config import read

    loaded = read(config)
    if model:
        _check_model(model, list(loaded.sections["models"]))
    environment = functools.partial(
        client_environment.changes,
        loaded,
        environ=os.environ,
        model=model,
        with_api_key=api_key,
    )
    if only_print:
        _print(loaded, environment("http://127.0.0.1:<free port>", "<new key>"), command)
    _check_conflicts(list(client_environment.conflicts(command, os.environ, Path.cwd())))
    if only_print:
        return 0
    _check_command(command[0])
    from proxy import run as supervision

    _report_absent_servers(loaded)
    file = supervision.create_log(log)
    start = file.stat().st_size
    try:
        status = supervision.run(loaded, command, _reporting_page(environment, loaded), file)
    except click.ClickException:
        if log is None:
            file.unlink()
        raise
    return _report(status, file, start, temporary=log is None)


def _check_command(name: str) -> None:
    if shutil.which(name) is not None:
        return
    if os.sep not in name or not Path(name).exists():
        hint = "install it, or give its path"
        raise click.ClickException(f"there is no command {name}\n  hint: {hint}")
    if Path(name).is_dir():
        raise click.ClickException(f"{name} is a folder\n  hint: name the command in it")
    hint = f"make it executable with `chmod +x {shlex.quote(name)}`, or name its interpreter first"
    raise click.ClickException(f"{name} is not executable\n  hint: {hint}")


def _report_absent_servers(config: Config) -> None:
    """Report them before the command has the terminal. Clients may retry for minutes in silence."""
    from proxy.absent_servers import absent_servers

    for note in absent_servers(config):
        click.echo(f"llm-proxy: {note}", err=True)


def _check_conflicts(conflicts: list[str]) -> None:
    if conflicts:
        raise click.ClickException(
            f"Claude Code would not use the proxy, because of {', '.join(conflicts)}\n"
            "  hint: remove it there; if it is in your own settings, not in those of the project, "
            "you can set CLAUDE_CONFIG_DIR to another folder"
        )


def _report(status: int | None, log: Path, start: int, temporary: bool) -> int:
    """Report a failure with the place of the log; remove a temporary log that nobody needs.

    The log of this run begins at the byte `start`.
    """
    if status is None:
        click.echo(f"Error: the proxy ended before the command; its log is {log}", err=True)
        return 1
    if _has_losses(log, start):
        click.echo(f"usage or recordings are not complete; the proxy's log is {log}", err=True)
    elif temporary and (status == 0 or not log.stat().st_size):
        log.unlink()
    elif status:
        click.echo(f"the command ended with {status}; the proxy's log is {log}", err=True)
    return status


def _has_losses(log: Path, start: int) -> bool:
    """Whether the log reports lost rows or exchanges after `start`.

    A terminal or a pipe is not read.
    """
    from stages.recording import writer as recording
    from stages.usage import writer as usage

    losses = usage.LOST.encode(), recording.LOST.encode()
    with suppress(OSError):
        if log.is_file():
            with log.open("rb") as lines:
                lines.seek(start)
                return any(loss in line for line in lines for loss in losses)
    return False


def _check_model(name: str, models: list[str]) -> None:
    from pipeline.config.problems import suggest
    from stages.routing.model_names import ModelNames

    names = ModelNames(dict.fromkeys(models, True))  # type: ignore[arg-type]
    if names.find(names.clean(name)) is None:
        raise click.ClickException(
            f"the config has no model `{name}`\n  hint: {suggest(name, models)}"
        )


def _reporting_page(
    environment: Callable[[str, str], Changes], config: Config
) -> Callable[[str, str], Changes]:
    """Print the page's address before the command starts, and its password on a terminal alone."""
    from stages.ui import page_path

    page = page_path(config.pipelines)

    def report(url: str, key: str) -> Changes:
        if page:
            password = key if sys.stderr.isatty() else "ANTHROPIC_AUTH_TOKEN of the command"
            click.echo(f"llm-proxy: page at {url}{page}; password: {password}", err=True)
        return environment(url, key)

    return report


def _print(config: Config, changes: Changes, command: tuple[str, ...]) -> None:
    from stages.ui import page_path

    click.echo(f"serve {config.file} on a free port of 127.0.0.1, with a new key\nset:")
    for name, value in changes.added.items():
        click.echo(f"  {name}={value}")
    if changes.removed:
        click.echo(f"remove: {', '.join(changes.removed)}")
    if page := page_path(config.pipelines):
        url = changes.added["ANTHROPIC_BASE_URL"]
        click.echo(f"page: {url}{page}; password: the value of ANTHROPIC_AUTH_TOKEN")
    click.echo(f"run: {shlex.join(command)}")
