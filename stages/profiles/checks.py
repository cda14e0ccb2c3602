"""Validators for the keys of a profile. Each raises OptionError."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from pipeline.config.options import OptionError, text_pattern
from pipeline.config.problems import suggest
from stages.profiles.policies import SUPPORTED, Policy, policy_error


def url_secrets(url: str) -> list[tuple[int, int]]:
    """The spans of what may be secret in a URL: user and password, and the query."""
    scheme, last_at, query = url.find("://"), url.rfind("@"), url.find("?")
    start = scheme + 3 if 0 <= scheme < last_at else 0
    if 0 <= query < last_at:  # either may be a part of the other
        return [(start, len(url))]
    spans = [(start, last_at)] if last_at > start else []
    return [*spans, (query + 1, len(url))] if query >= 0 else spans


def header_secrets(value: str) -> list[tuple[int, int]]:
    """The span of the value of a header: all of it. The header's name is not secret."""
    return [(0, len(value))]


@text_pattern(r"(?!.*/chat/completions/*$)[Hh][Tt][Tt][Pp][Ss]?://[^ ?#]+")
def check_url(profile: Any, _: Any, url: str) -> None:
    """An http or https URL, without query and fragment, and without the path of the calls."""
    if not url and profile.embedded:
        return
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and url.isprintable() and " " not in url
    except ValueError:
        usable = False
    hint = "write it as `http://localhost:11434/v1`"
    if not usable:
        raise OptionError("base_url", "`base_url` must be an http or https URL", hint)
    if "?" in url or "#" in url:
        raise OptionError("base_url", "`base_url` must have no query and no fragment", hint)
    if url.rstrip("/").endswith("/chat/completions"):
        hint = "remove this end: the proxy adds it"
        raise OptionError("base_url", "`base_url` must not end with `/chat/completions`", hint)


def check_fields(profile: Any, _: Any, fields: dict[str, Policy]) -> None:
    """Policies that the profile's other keys support."""
    for name, policy in fields.items():
        if wrong := policy_error(name, policy):
            hint = suggest(name, SUPPORTED) if name not in SUPPORTED else "use drop, warn or reject"
            raise OptionError("fields", wrong, hint)
    if fields["output_config.effort"] == "map" and not _has_effort(profile):
        message = "`output_config.effort` cannot be `map`: `reasoning_request` has no levels here"
        raise OptionError("fields", message, "use drop, warn or reject, or set `reasoning_request`")
    for name, way in (("thinking", "reasoning_request"), ("thinking_block", "reasoning_history")):
        if fields[name] == "map" and getattr(profile, way) == "none":
            message = f"`{name}` cannot be `map` while `{way}` is none: it would be lost"
            raise OptionError("fields", message, f"set `{way}`, or use drop, warn or reject")


def _has_effort(profile: Any) -> bool:
    """Whether `reasoning_request` has levels of effort."""
    way = profile.reasoning_request
    return way in ("effort", "reasoning") or (way == "thinking" and profile.effort_with_thinking)


HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"([\x21-\x7e]+([ \t]+[\x21-\x7e]+)*)?")


@text_pattern(_HEADER_VALUE.pattern)
def check_key(_: Any, attribute: Any, key: str) -> None:
    """A key that is valid in a header."""
    if not _HEADER_VALUE.fullmatch(key):
        message = "`api_key` cannot be sent: it has an odd character, or white space at an end"
        raise OptionError("api_key", message, "look for a line break at the end of it")


@text_pattern(_HEADER_VALUE.pattern)
def check_headers(_: Any, attribute: Any, headers: dict[str, str]) -> None:
    """Valid headers."""
    for name, value in headers.items():
        if not (HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            message = f"the header {name!r} cannot be sent: it has an odd character"
            raise OptionError("headers", message, "names and values of headers are plain ASCII")


#: The key must not go to another server.
_PATH = re.compile(r"(/?[A-Za-z0-9_.~-])*/?")


@text_pattern(_PATH.pattern)
def check_health(_: Any, attribute: Any, path: str) -> None:
    """A path."""
    if not _PATH.fullmatch(path):
        message = "`health` must be a path on the same server"
        raise OptionError("health", message, "write it as `/health`, or `true`")


#: Members of a call that the translation sets, or on which it depends.
SET_BY_TRANSLATION = (
    *("max_tokens", "max_completion_tokens"),
    *("model", "messages", "stream", "stream_options", "n", "stop", "response_format"),
    *("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"),
)


def check_body(_: Any, __: Any, body: dict[str, Any]) -> None:
    """Members that the translation does not set."""
    for name in body:
        if name in SET_BY_TRANSLATION:
            hint = f"remove `{name}`: each request sets it, or a key of the profile"
            raise OptionError("body", f"`body` cannot set `{name}`: the translation sets it", hint)


def _check_names(attribute: Any, names: Iterable[str], reserved: tuple[str, ...]) -> None:
    for name in names:
        if name in reserved:
            message = f"`{attribute.name}` cannot have `{name}`: the translation sets it"
            raise OptionError(attribute.name, message, f"remove `{name}`")


_CALL_MEMBERS = ("index", "id", "type", "function")
_MESSAGE_MEMBERS = ("role", "content", "refusal", "tool_calls", "function_call")


@text_pattern(rf"(?!(?:{'|'.join(_CALL_MEMBERS)})$).*")
def check_call_members(_: Any, attribute: Any, names: Iterable[str]) -> None:
    """Members of a call that the translation does not set."""
    _check_names(attribute, names, _CALL_MEMBERS)


@text_pattern(rf"(?!(?:{'|'.join(_MESSAGE_MEMBERS)})$).*")
def check_message_members(_: Any, attribute: Any, names: Iterable[str]) -> None:
    """Members of an assistant message that the translation does not set."""
    _check_names(attribute, names, _MESSAGE_MEMBERS)
