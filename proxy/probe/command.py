"""`llm-proxy probe`: find the backend, ask it, print the findings."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import click
from attrs import frozen
from dotenv import dotenv_values

from pipeline.config.edit import load
from pipeline.config.options import OptionError
from pipeline.config.parsing import VARIABLE_NAME
from pipeline.config.problems import suggest
from pipeline.config.schema import Config
from proxy.config import locate, read
from proxy.probe.endpoints import MODELS, models
from proxy.probe.interview import Interview, ProbeClient
from proxy.probe.reply import Reply, on_one_line
from proxy.probe.report import findings_by_key, report
from stages.backends.backend import Backend
from stages.messages_api.errors import ApiError
from stages.profiles.profile import Profile
from stages.wire.json_codec import encode

_MAX_LISTED_MODELS = 20
#: Shorter values, such as the key `ollama`, are not secrets; stars would mutilate messages.
_SECRET_LENGTH = 8
_VARIABLE = re.compile(r"(Bearer )?\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_HINTS = {
    200: "check base_url (most end in /v1)",
    0: "check that the backend runs, and its base_url",
    401: "check `api_key`, and that its variable has the right key",
    403: "check `api_key`, and that it may use this model",
    404: "check base_url (most end in /v1), or name another model with `--model`",
    429: "try again when its rate limit allows",
}
_OTHER_HINT = "this was the smallest possible request: check that the model responds at all"


@frozen
class Subject:
    """A backend to ask. `written` are the keys of its connection, without secrets, for the output.

    `models` are the names that the config uses for this backend.
    """

    name: str
    profile: Profile
    written: Mapping[str, Any]
    models: tuple[str, ...] = ()


def from_config(name: str, config: str | None) -> Subject:
    """Return an entry of `backends`. Raises ConfigError, or ClickException if it is not usable."""
    loaded = read(config)
    raw = load(loaded.source).get("backends") or {}
    if name not in raw:
        hint = suggest(name, raw) or "name an entry of `backends`, or add `--url`"
        _fail(f"there is no backend `{name}` in {loaded.file}", hint)
    backend = loaded.sections["backends"].get(name)
    if backend is None:
        _fail(f"backend `{name}` cannot be used", _notes_on(loaded, name))
    entries = loaded.sections["models"].values()
    targets = (target for entry in entries for target in entry.targets)
    names = tuple(m.model for m in targets if m.backend == name and m.model)
    return Subject(name, backend.profile, _written(name, raw[name], backend.profile), names)


def from_url(name: str, url: str, api_key_env: str | None, config: str | None) -> Subject:
    """Return a backend that is not in the config. Raises ClickException."""
    raw, key = {"base_url": url}, ""
    if api_key_env:
        if not VARIABLE_NAME.fullmatch(api_key_env):  # it may be the key itself: do not print it
            hint = "put the key into the environment or into `.env`, as NAME=key"
            _fail("`--api-key-env` takes the name of a variable, not a key", hint)
        dotenv = dotenv_values(Path(locate(config)).with_name(".env"))
        key = os.environ.get(api_key_env) or dotenv.get(api_key_env) or ""
        raw["api_key"] = f"${{{api_key_env}}}"
        if not key:
            hint = f"set {api_key_env} in the environment or in `.env`"
            _fail(f"the environment variable {api_key_env} is not set or is empty", hint)
    try:
        profile = Profile(url, api_key=key)
    except OptionError as error:
        _fail(str(error), error.hint)
    return Subject(name, profile, _written(name, raw, profile))


async def probe(
    subject: Subject, model: str | None, seconds: float, whole: bool, as_json: bool
) -> None:
    """Ask the backend; print progress to stderr, the entry to stdout. Raises ClickException.

    `seconds` is the timeout of each request.
    """
    backend = Backend(subject.profile)
    try:
        completions = await backend.open()
        client = ProbeClient(subject.name, completions, seconds, _secrets(subject.profile))
        listed = await client.reply(MODELS)
        if listed.status == 0:
            _fail(f"backend `{subject.name}`: {listed.error}", _hint(listed))
        chosen = _model(model, subject, listed)
        interview = Interview(client, subject.profile, chosen, _show_progress)
        await interview.run()
    except ApiError as error:
        _fail(error.message, "check that `model_path` is a GGUF file, and that it fits into memory")
    finally:
        await backend.aclose()
    if refusal := interview.refusal:
        message = f"backend `{subject.name}`, model {on_one_line(chosen)}: {refusal.error}"
        _fail(message, _hint(refusal))
    if as_json:
        _print_json(subject, interview, listed, whole)
    else:
        _print(subject, interview, listed, whole)
    if interview.broken:
        _fail(
            f"backend `{subject.name}` stopped responding; keys without a finding are unchanged",
            "read its last error above, and probe again",
        )


def _print(subject: Subject, interview: Interview, listed: Reply, whole: bool) -> None:
    client, names = interview.client, models(listed)
    more = len(names) - _MAX_LISTED_MODELS
    listing = ", ".join(names[:_MAX_LISTED_MODELS]) + (f", and {more} more" if more > 0 else "")
    click.echo(f"  # measured by `llm-proxy probe` with the model {on_one_line(interview.model)}")
    click.echo(f"  # models it lists: {on_one_line(listing or listed.error or 'none')}")
    findings = interview.findings
    click.echo(report(subject.name, subject.written, subject.profile, findings, whole), nl=False)
    click.echo(f"{client.requests} requests, {client.tokens} output tokens", err=True)


def _print_json(subject: Subject, interview: Interview, listed: Reply, whole: bool) -> None:
    result = {
        "backend": subject.name,
        "connection": subject.written,
        "model": interview.model,
        "models": models(listed),
        "requests": interview.client.requests,
        "output_tokens": interview.client.tokens,
        "findings": findings_by_key(subject.profile, interview.findings, whole),
    }
    click.echo(encode(result))


def _hint(reply: Reply) -> str:
    """The next action, unless the error has it: that of a connection does."""
    known = reply.status == 0 and ": check that" in reply.error
    return "" if known else _HINTS.get(reply.status, _OTHER_HINT)


def _secrets(profile: Profile) -> tuple[str, ...]:
    values = (profile.api_key, *profile.headers.values())
    return tuple(value for value in values if len(value) >= _SECRET_LENGTH)


def _show_progress(text: str) -> None:
    click.echo(text, err=True, nl=False)


def _model(requested: str | None, subject: Subject, listed: Reply) -> str:
    """Return the model to ask: the named one, one that the config uses, or the only one."""
    names = models(listed)
    if requested or subject.models:
        return requested or subject.models[0]
    if len(names) == 1:
        return names[0]
    if listed.status in (401, 403):
        _fail(f"backend `{subject.name}`: {listed.error}", _HINTS[listed.status])
    listing = ", ".join(map(on_one_line, names[:_MAX_LISTED_MODELS])) or "it lists none"
    _fail(f"which model of backend `{subject.name}`?", f"name one with `--model`: {listing}")


def _written(name: str, raw: Mapping[str, Any], profile: Profile) -> dict[str, Any]:
    """Return the configured keys of the connection; those that may be secret, as variables."""
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
    """Return `value` if it is only a variable; otherwise the name of a variable for it."""
    return value if _VARIABLE.fullmatch(value) else f"${{{variable_for(name, key)}}}"


def variable_for(name: str, key: str) -> str:
    """Return the name of a variable for a secret of the backend `name`."""
    plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in f"{name}_{key}".upper())
    return plain if plain[0].isalpha() else f"_{plain}"


def _notes_on(config: Config, name: str) -> str:
    """Join the notes of a config on an entry of `backends`."""
    notes = [note for note in config.notes if note.message.startswith(f"`{name}` ")]
    return "; ".join(note.message for note in notes)


def _fail(message: str, hint: str) -> NoReturn:
    raise click.ClickException(f"{message}\n  hint: {hint}" if hint else message)
