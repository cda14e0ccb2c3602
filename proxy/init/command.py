"""`llm-proxy init`: find servers, choose a model, write or extend the config."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import anyio
import click
from attrs import evolve, frozen

from pipeline.config.edit import EditError
from pipeline.config.fix import FixError, create, rewrite
from pipeline.config.load import read_variables, variables_of
from pipeline.config.options import OptionError, UnavailableError
from pipeline.config.parsing import VARIABLE_NAME, parse
from pipeline.config.schema import Config
from pipeline.config.text_width import pad, text_width
from proxy.config import DEFAULT_FILE, check_open_access, read
from proxy.init import discovery, schema_file
from proxy.init.discovery import Address, ModelServer
from proxy.init.new_config import CLIENT_MODELS, Choice, extend, new_config
from proxy.probe.command import variable_for
from proxy.probe.reply import on_one_line
from stages.backends import embedded
from stages.backends.session import strip_credentials
from stages.profiles.describe import profile_named
from stages.profiles.profile import Profile, profiles
from stages.routing.allowed_models import is_pattern

#: Models that are listed for the choice.
_MAX_LISTED = 50
#: The entry of `backends` for the embedded model, as in the shipped config.
_EMBEDDED = Choice("local", "embedded", model=embedded.ALIAS)
#: The login of a URL. Without a user, it is all a password.
_LOGIN = re.compile(r"(?:\w+://)?(?:(?:\$\{[^}]*\}|[^:@$])*:)?(?P<password>.+)@", re.DOTALL)
#: A password that the config does not have. A default (`:-`) is in the config.
_IN_VARIABLE = re.compile(r"\$\{(?:\w+|file:[^}]+)\}")


@frozen
class Wishes:
    """The options of the command. `timeout`: seconds of each request to a server.

    `print_only`: print the new text of the config, and write no file.
    """

    addresses: tuple[Address, ...]
    model: str | None
    embedded: bool
    yes: bool
    timeout: float
    print_only: bool = False


def address(text: str, api_key_env: str | None, config: str) -> Address:
    """Read `NAME=URL`, or the name of a profile. Raises click.UsageError, ConfigError.

    The key and the `${VARIABLES}` of the URL are in the environment, or in the `.env` next to
    `config`. No message has the URL: it may have a password.
    """
    name, _, written = text.partition("=")
    usual = discovery.USUAL_ADDRESSES.get(name) or profiles().get(name, {}).get("base_url", "")
    if not written and not usual:
        names = ", ".join(discovery.USUAL_ADDRESSES)
        raise click.UsageError(
            f"--backend takes NAME=URL, such as gpu=http://gpu:8000/v1, or one of {names}"
        )
    variables = {**variables_of(read_variables(config)), **os.environ}
    written = written or usual
    _refuse_password(name, written)
    url = _expanded(written, variables)
    if "://" not in url:
        raise click.UsageError("the URL of --backend begins with http:// or https://")
    try:
        Profile(url)
    except OptionError as error:
        raise click.UsageError(f"the URL of --backend: {error}; {error.hint}") from error
    if api_key_env and not VARIABLE_NAME.fullmatch(api_key_env):  # it may be the key itself
        raise click.UsageError("--api-key-env takes the name of a variable, not a key")
    key = variables.get(api_key_env) if api_key_env else ""
    if api_key_env and not key:
        message = f"the environment variable {api_key_env} is not set or is empty"
        raise click.UsageError(f"{message}; set it in the environment or in `.env`")
    return Address(url, name, name, key or "", api_key_env or "", written)


def _refuse_password(name: str, url: str) -> None:
    """Refuse a URL with a password that is not a variable: the config would have it."""
    login = _LOGIN.match(url)
    if login and not _IN_VARIABLE.fullmatch(login["password"]):
        variable = variable_for(name, "password")
        hidden = f"{url[: login.start('password')]}${{{variable}}}{url[login.end('password') :]}"
        raise click.UsageError(
            "the URL of --backend has a password, which the config would show\n"
            f"  hint: write `{variable}=…` into `.env`, and type "
            + shlex.join(["--backend", f"{name}={hidden}"])
        )


def _expanded(written: str, variables: Mapping[str, str]) -> str:
    """Give a URL with the values of its variables, which it has as in a config."""
    document = parse(json.dumps(written), variables)
    for problem in (*document.problems, *(missing for _, missing in document.missing)):
        raise click.UsageError(f"the URL of --backend: {problem.message}\n  hint: {problem.hint}")
    return str(document.value)


def init(file: str, wishes: Wishes) -> None:
    """Write `file`, or add to it. Raises ClickException, UsageError and ConfigError."""
    running = _load(file) if Path(file).exists() else None  # a broken config is reported at once
    choice = _choose(wishes)
    if running is None:
        _write(file, choice, wishes.print_only)
    else:
        _extend(file, running, choice, wishes.print_only)
    if not wishes.print_only:
        _echo_next(file, choice)


def _echo_next(file: str, choice: Choice) -> None:
    click.echo("\nnext:")
    at = "" if file == DEFAULT_FILE else f" --config {shlex.quote(file)}"
    model = "" if is_pattern(choice.model) else f" --model {shlex.quote(on_one_line(choice.model))}"
    claude, serve = f"llm-proxy run{at}{model} -- claude", f"llm-proxy serve{at}"
    click.echo(f"  {claude}   start Claude Code with this proxy")
    click.echo(f"  {pad(serve, text_width(claude))}   serve, and print how to use it")


def _choose(wishes: Wishes) -> Choice:
    """Find servers, and choose a model."""
    if wishes.embedded:
        return _embedded()
    servers = anyio.run(_find, wishes)
    candidates = [(server, model) for server in servers for model in server.models]
    if wishes.model is not None:
        candidates = [pair for pair in candidates if pair[1] == wishes.model]
        if not candidates:
            listing = ", ".join(on_one_line(m) for s in servers for m in s.models[:_MAX_LISTED])
            hint = f"\n  hint: these are there: {listing}" if listing else _START_ONE
            raise click.ClickException(f"no server has the model {wishes.model}{hint}")
    if not candidates:
        if named := next((address.name for address in wishes.addresses if address.name), ""):
            hint = "check its address, and that it runs and has a model"
            _fail(f"no model is found at the backend `{named}`", hint)
        return _offer_embedded(wishes.yes)
    number = 1
    if len(candidates) > 1 and not wishes.yes:
        number = _ask(candidates)
    server, model = candidates[number - 1]
    facts = anyio.run(discovery.facts, server, model, wishes.timeout)
    return Choice.of(server, model, facts)


async def _find(wishes: Wishes) -> list[ModelServer]:
    addresses = list(wishes.addresses)
    urls = {address: strip_credentials(address.base_url) for address in addresses}
    places = [(address.label, urls[address]) for address in addresses]
    widths = [max(map(len, texts)) for texts in zip(*places, strict=True)]

    def show(address: Address, result: ModelServer) -> None:
        count = len(result.models)
        summary = f"{result.profile}, {count} model{'s' * (count != 1)}" if count else result.error
        place = f"{address.label:<{widths[0]}}  {urls[address]:<{widths[1]}}"
        click.echo(f"  {place}  {summary}", err=True)

    click.echo("looking for model servers:", err=True)
    return await discovery.find(addresses, wishes.timeout, show)


def _ask(candidates: list[tuple[ModelServer, str]]) -> int:
    """Ask for the number of a model, from 1. Without a terminal, raise click.UsageError."""
    if not sys.stdin.isatty():
        names = ", ".join(on_one_line(model) for _, model in candidates[:_MAX_LISTED])
        raise click.UsageError(
            f"there are several models; choose one with --model, or the first with --yes: {names}"
        )
    for number, (server, model) in enumerate(candidates[:_MAX_LISTED], 1):
        click.echo(f"  {number:>2}  {on_one_line(model)}  ({server.name})", err=True)
    if len(candidates) > _MAX_LISTED:
        click.echo(f"  and {len(candidates) - _MAX_LISTED} more: use --model", err=True)
    numbers = click.IntRange(1, min(len(candidates), _MAX_LISTED))
    numbers.name = "whole number"  # in click's message
    answer: int = click.prompt(
        f"Which one serves {CLIENT_MODELS}?", type=numbers, default=1, err=True
    )
    return answer


_START_ONE = (
    "\n  hint: start a model server, such as `ollama serve`, and pull a model; or name a server "
    "with `--backend NAME=URL`; or use the small model inside the proxy with `--embedded`"
)


def _offer_embedded(yes: bool) -> Choice:
    """Use the embedded model with --yes, or if a person at the terminal agrees."""
    message = "no model server responds"
    if not yes:
        if not sys.stdin.isatty():
            raise click.ClickException(f"{message}{_START_ONE}")
        question = f"{message}. Use the small model inside the proxy (SmolLM2, only for tests)?"
        if not click.confirm(question, default=True, err=True):
            raise click.ClickException(f"{message}{_START_ONE}")
    return _embedded()


def _embedded() -> Choice:
    try:
        embedded.check(profile_named("embedded"))
    except UnavailableError as error:
        raise click.ClickException(f"{error}\n  hint: {error.hint}") from error
    return _EMBEDDED


def _write(file: str, choice: Choice, print_only: bool) -> None:
    with_schema = schema_file.may_write(file)
    text = new_config(choice, with_schema)
    if print_only:
        click.echo(text, nl=False)
        return
    try:
        create(file, text, _load)
    except OSError as error:
        hint = "choose another file with `--config PATH`"
        _fail(f"{file} cannot be written: {error.strerror}", hint)
    click.echo(
        f"wrote {file}: {CLIENT_MODELS} goes to {on_one_line(choice.model)} of {choice.name}"
    )
    if with_schema:
        schema_file.write(file)
    else:
        click.echo(
            f"unchanged: {schema_file.NAME} is no schema of a config, so {file} does not name it"
        )


def _extend(file: str, config: Config, choice: Choice, print_only: bool) -> None:
    choice = evolve(choice, name=_backend_name(choice, config.sections["backends"], config.source))
    text = Path(file).read_bytes().decode()
    try:
        addition = extend(text, choice)
        if print_only:
            click.echo(addition.text, nl=False)
            return
        if addition.added:
            rewrite(file, addition.text, lambda source: _load(file, source))
    except EditError as error:
        lines = "; ".join(f"`{name}: {value}`" for name, value in choice.entries().items())
        hint = f"add the backend and {lines} by hand"
        _fail(f"{file} is unchanged: {error}", hint)
    except FixError as error:
        raise click.ClickException(str(error)) from error
    for entry in addition.added:
        click.echo(f"added {entry}")
    for entry in addition.unchanged:
        click.echo(f"unchanged: {entry}")


def _backend_name(choice: Choice, backends: Mapping[str, object], source: str) -> str:
    """Give the name of the backend with this URL, or a name that no backend has."""
    wanted = choice.base_url or profile_named(choice.profile).base_url
    for name, backend in backends.items():
        profile = getattr(backend, "profile", None)
        embeds = choice.profile == "embedded" and getattr(profile, "embedded", False)
        if embeds or (choice.base_url and getattr(profile, "base_url", "").rstrip("/") == wanted):
            return name
    taken = {*backends, *(word.rstrip(":") for word in source.split())}
    numbered = (f"{choice.name}-{number}" for number in range(2, 1000))
    return (
        choice.name if choice.name not in backends else next(n for n in numbered if n not in taken)
    )


def _load(file: str, source: str | None = None) -> Config:
    config = read(file, source=source)
    check_open_access(config, config.sections["server"].host)
    return config


def _fail(message: str, hint: str) -> NoReturn:
    raise click.ClickException(f"{message}\n  hint: {hint}")
