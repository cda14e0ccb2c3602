"""`llm-proxy probe`: finds the backend meant, asks it, prints what was found out."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import click
from attrs import frozen
from dotenv import dotenv_values
from ruamel.yaml import YAML

from pipeline.config.options import OptionError
from pipeline.config.problems import suggest
from pipeline.config.schema import Config
from proxy.config import locate, read
from proxy.probe.endpoints import MODELS, models
from proxy.probe.interview import Interview, ProbeClient
from proxy.probe.reply import Reply, log_safe
from proxy.probe.report import report
from stages.backends.backend import Backend
from stages.messages_api.errors import ApiError
from stages.profiles.profile import Profile

_SHOWN = 20
#: Shorter values of headers are no secrets, and would take letters out of what is said.
_SECRET_LENGTH = 8
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE = re.compile(r"(Bearer )?\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_HINTS = {
    200: "see that base_url is right (most end in /v1)",
    0: "see that the backend runs, and that its base_url is right",
    401: "see that `api_key` is right, and that its variable has the key meant",
    403: "see that `api_key` is right, and may use this model",
    404: "see that base_url is right (most end in /v1), and name another model with `--model`",
    429: "try again when its rate limit lets you",
}
_OTHER_HINT = "this was the smallest request there is: see that the model answers at all"


@frozen
class Subject:
    """A backend to ask. `written` are its connection's keys, for people: without secrets.

    `models` are the names that the declaration uses there.
    """

    name: str
    profile: Profile
    written: Mapping[str, Any]
    models: tuple[str, ...] = ()


def declared(name: str, config: str | None) -> Subject:
    """An entry of `backends`. Raises ConfigError, and ClickException if it is not usable."""
    declaration = read(config)
    raw = YAML(typ="safe", pure=True).load(declaration.source).get("backends") or {}
    if name not in raw:
        hint = suggest(name, raw) or "name an entry of `backends`, or give its `--url`"
        _fail(f"there is no backend `{name}` in {declaration.file}", hint)
    backend = declaration.sections["backends"].get(name)
    if backend is None:
        _fail(f"backend `{name}` cannot be used", _why(declaration, name))
    entries = declaration.sections["models"].values()
    leading = (model for entry in entries for model in entry.targets)
    names = tuple(m.model for m in leading if m.backend == name and m.model)
    return Subject(name, backend.profile, _written(name, raw[name], backend.profile), names)


def undeclared(name: str, url: str, api_key_env: str | None, config: str | None) -> Subject:
    """A backend that stands in no declaration. Raises ClickException."""
    raw, key = {"base_url": url}, ""
    if api_key_env:
        if not _NAME.fullmatch(api_key_env):  # it may be the key itself: do not show it
            hint = "put the key into the environment or into `.env`, as NAME=key"
            _fail("`--api-key-env` wants the name of a variable, not a key", hint)
        beside = dotenv_values(Path(locate(config)).with_name(".env"))
        key = os.environ.get(api_key_env) or beside.get(api_key_env) or ""
        raw["api_key"] = f"${{{api_key_env}}}"
        if not key:
            hint = f"set {api_key_env} in the environment or in `.env`"
            _fail(f"the environment variable {api_key_env} is not set or is empty", hint)
    try:
        profile = Profile(url, api_key=key)
    except OptionError as error:
        _fail(str(error), error.hint)
    return Subject(name, profile, _written(name, raw, profile))


async def probe(subject: Subject, model: str | None, whole: bool, seconds: float) -> None:
    """Ask it; progress goes to stderr, the entry to stdout. Raises ClickException.

    `seconds` is how long a request may take.
    """
    backend = Backend(subject.profile)
    try:
        completions = await backend.open()
        line = ProbeClient(subject.name, completions, seconds, _secrets(subject.profile))
        listed = await line.reply(MODELS)
        if listed.status == 0:
            _fail(f"backend `{subject.name}`: {listed.error}", _HINTS[0])
        chosen = _model(model, subject, listed)
        interview = Interview(line, subject.profile, chosen, _tell)
        await interview.run()
    except ApiError as error:
        _fail(error.message, "see that `model_path` is a GGUF file, and that it fits the memory")
    finally:
        await backend.aclose()
    if refusal := interview.refusal:
        hint = _HINTS.get(refusal.status, _OTHER_HINT)
        _fail(f"backend `{subject.name}`, model {log_safe(chosen)}: {refusal.error}", hint)
    _print(subject, interview, listed, whole)


def _print(subject: Subject, interview: Interview, listed: Reply, whole: bool) -> None:
    line, names = interview.line, models(listed)
    told = ", ".join(names[:_SHOWN]) + (f", and {len(names) - _SHOWN} more" * (len(names) > _SHOWN))
    click.echo(f"  # as `llm-proxy probe` found it, with the model {log_safe(interview.model)}")
    click.echo(f"  # models it lists: {log_safe(told or listed.error or 'none')}")
    found = interview.findings
    click.echo(report(subject.name, subject.written, subject.profile, found, whole), nl=False)
    click.echo(f"{line.requests} requests, {line.tokens} tokens of answers", err=True)
    if interview.broken:
        _fail(
            f"backend `{subject.name}` fell silent; what it was not asked is as declared",
            "see what it says above, and probe again",
        )


def _secrets(profile: Profile) -> tuple[str, ...]:
    headers = [value for value in profile.headers.values() if len(value) >= _SECRET_LENGTH]
    return (profile.api_key, *headers)


def _tell(text: str) -> None:
    click.echo(text, err=True, nl=False)


def _model(given: str | None, subject: Subject, listed: Reply) -> str:
    """The model to ask: the one named, else one the declaration uses, else the only one."""
    names = models(listed)
    if given or subject.models:
        return given or subject.models[0]
    if len(names) == 1:
        return names[0]
    if listed.status in (401, 403):
        _fail(f"backend `{subject.name}`: {listed.error}", _HINTS[listed.status])
    shown = ", ".join(map(log_safe, names[:_SHOWN])) or "it lists none"
    _fail(f"which model of backend `{subject.name}`?", f"name it with `--model`: {shown}")


def _written(name: str, raw: Mapping[str, Any], profile: Profile) -> dict[str, Any]:
    """The keys of the connection as they are declared; what may be secret, only as a variable."""
    if profile.embedded:
        return {"profile": "embedded"}
    written: dict[str, Any] = {}
    url = raw.get("base_url", profile.base_url)
    written["base_url"] = _variable(name, "base_url", "") if "@" in url else url
    if key := raw.get("api_key"):
        written["api_key"] = _variable(name, "api_key", key)
    if headers := raw.get("headers"):
        written["headers"] = {h: _variable(name, h, str(value)) for h, value in headers.items()}
    return written


def _variable(name: str, key: str, value: str) -> str:
    """`value` if it is nothing but a variable; else one to put it into."""
    if _VARIABLE.fullmatch(value):
        return value
    plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in f"{name}_{key}".upper())
    return f"${{{plain if plain[0].isalpha() else '_' + plain}}}"


def _why(declaration: Config, name: str) -> str:
    """What a declaration's notes say of an entry of `backends`."""
    notes = [note for note in declaration.notes if note.message.startswith(f"`{name}` ")]
    return "; ".join(note.message for note in notes)


def _fail(message: str, hint: str) -> NoReturn:
    raise click.ClickException(f"{message}\n  hint: {hint}" if hint else message)
