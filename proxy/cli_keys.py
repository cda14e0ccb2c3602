"""The commands `llm-proxy keys`."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from proxy.cli_support import config_option, json_option, reporting

_NAME_HINT = "use 1 to 64 of the characters a-z A-Z 0-9 ._@+-, but not `anonymous` or `key-1`"


@click.group()
def keys() -> None:
    """Make, list and revoke the API keys of clients.

    A key has a name. The log and the usage record have the name, and the config has the SHA-256 of
    the key. A running proxy applies a change within a second.

    \b
    Examples:
      llm-proxy keys new alice --models 'claude-*' --expires 90d
      llm-proxy keys list
      llm-proxy keys revoke alice
    """  # noqa: D301 - click knows \\b by the character itself


@keys.command()
@config_option
@click.option(
    "--models",
    metavar="NAME,…",
    multiple=True,
    show_default="all",
    help="The models that the key may use: names or patterns.",
)
@click.option(
    "--expires",
    metavar="TIME",
    show_default="never",
    help="The end of the key in UTC, as 2027-01-31 or 2027-01-31T18:00:00Z, or days, as 90d.",
)
@click.option(
    "--file",
    metavar="PATH",
    help="Make PATH the `keys_file` of the config, if it has none; relative to the config.",
)
@json_option
@click.argument("name")
def new(
    config: str | None,
    models: tuple[str, ...],
    expires: str | None,
    file: str | None,
    as_json: bool,
    name: str,
) -> None:
    """Make a key with the name NAME, and print it.

    The key is random and goes to stdout, once. Its SHA-256 is written to the `keys_file` of the
    config, or to its section `keys`. A new `keys_file` can be read by its owner alone.

    \b
    Examples:
      llm-proxy keys new alice
      llm-proxy keys new ci --models claude-haiku-4-5,embed --expires 30d
      llm-proxy keys new bob --file keys.yaml
    """  # noqa: D301 - click knows \\b by the character itself
    from proxy import cli_json
    from proxy import keys as command
    from proxy.config import locate

    if not command.check_name(name):
        raise click.BadParameter(_NAME_HINT, param_hint="NAME")
    names = tuple(filter(None, (part.strip() for text in models for part in text.split(","))))
    end = _end(expires)

    def run() -> None:
        key, path, warnings = command.new(locate(config), name, names, end, file)
        for warning in warnings:
            click.echo(f"warning: {warning.message}", err=True)
        click.echo(f"`{name}` is in {path}; this is the only time that its key is shown", err=True)
        if as_json:
            return cli_json.echo({"name": name, "key": key, "file": str(path)})
        click.echo(key)

    _run(run)


@keys.command("list")
@config_option
@json_option
def list_(config: str | None, as_json: bool) -> None:
    """List the keys of the config and its `keys_file`.

    It prints the beginning of each key's SHA-256, never a key. PROXY_API_KEY and `keys` of
    `authenticate` are not listed: they have no names.

    \b
    Example:
      llm-proxy keys list --json
    """  # noqa: D301 - click knows \\b by the character itself
    from proxy import keys as command
    from proxy import keys_list
    from proxy.config import locate

    def run() -> None:
        keys = command.load(locate(config))
        if keys.broken:  # without their names: the file may be another one than was meant
            number, hint = len(keys.broken), "type `llm-proxy check` to see them"
            click.echo(f"warning: entries with problems: {number}; {hint}", err=True)
        click.echo(keys_list.as_json(keys) if as_json else keys_list.as_table(keys))

    _run(run)


@keys.command()
@config_option
@click.option("--delete", is_flag=True, help="Remove the entry, so that the name is free again.")
@json_option
@click.argument("name")
def revoke(config: str | None, delete: bool, as_json: bool, name: str) -> None:
    """Refuse the key with the name NAME from now on.

    It sets `disabled: true` in the entry. Requests in flight end.

    \b
    Examples:
      llm-proxy keys revoke alice
      llm-proxy keys revoke --delete alice
    """  # noqa: D301 - click knows \\b by the character itself
    from proxy import cli_json
    from proxy import keys as command
    from proxy.config import locate

    def run() -> None:
        path = command.revoke(locate(config), name, delete)
        if as_json:
            return cli_json.echo({"name": name, "deleted": delete, "file": str(path)})
        click.echo(f"`{name}` is {'removed from' if delete else 'disabled in'} {path}")

    _run(run)


def _end(text: str | None) -> str | None:
    """Check the value of --expires; give a number of days as a time."""
    from stages.keys.config import parse_time

    if text is None:
        return None
    if match := re.fullmatch(r"([0-9]{1,5})d", text):
        end = datetime.now(UTC) + timedelta(days=int(match[1]))
        return f"{end:%Y-%m-%dT%H:%M:%SZ}"
    try:
        parse_time(text)
    except ValueError:
        message = "write it as 2027-01-31, 2027-01-31T18:00:00Z or 90d"
        raise click.BadParameter(message, param_hint="--expires") from None
    return text


def _run(run: Callable[[], Any]) -> None:
    from proxy.keys import KeyCommandError

    try:
        reporting(run)
    except KeyCommandError as error:
        raise click.ClickException(str(error)) from error
