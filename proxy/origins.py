"""Allowed host names and origins of requests: their syntax in the config, and their matching.

`Host` is the name that the client looked up. A web page whose own name resolves to this machine
(DNS rebinding) can read responses as if they were its own: only its name gives it away. An IP
address needs no look-up, so it cannot be rebound.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from typing import Any

from pipeline.config.options import OptionError, text_pattern

#: The entry for all hosts, or for all origins.
ANY = "*"

# Names under these resolve to this machine or its own network, and nobody can register them.
# Source: allowedHostsMiddleware of Ollama, and RFC 6761, RFC 6762, and ICANN for `.internal`.
_LOCAL = (".localhost", ".local", ".internal")
_PORT = re.compile(r":\d*$")
_HOST = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]*://"
    r"(\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])"
    r"(:(\d+|\*))?"
)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@text_pattern(r"[^/\s]+")
def check_hosts(instance: Any, attribute: Any, value: Iterable[str]) -> None:
    """Validate `allowed_hosts`. Raises OptionError."""
    for entry in value:
        name = entry.lower()
        if name == ANY or _is_host(name):
            continue
        suggestion = host_name(name.rpartition("://")[2].partition("/")[0])
        hint = 'write a name, such as `llm.example` or `*.llm.example`, or "*" for all'
        if _is_host(suggestion):
            hint = f"write `{suggestion}`: the name without scheme, port and path"
        raise OptionError(attribute.name, f"`{entry}` is not a host name", hint)


@text_pattern(r"\*|[A-Za-z][A-Za-z0-9+.-]*://[^/\s]+")
def check_origins(instance: Any, attribute: Any, value: Iterable[str]) -> None:
    """Validate `allowed_origins`. Raises OptionError."""
    for entry in value:
        origin = entry.lower()
        scheme, _, authority = origin.rpartition("://")
        host = authority.partition("/")[0].removesuffix(_DEFAULT_PORTS.get(scheme, " "))
        suggestion = f"{scheme or 'https'}://{host}"
        valid = _ORIGIN.fullmatch(suggestion) and suggestion.count(ANY) <= 1
        if origin == ANY or (valid and origin == suggestion):
            continue
        if origin == "null":
            hint = 'serve the page from an http address and add that, or write "*" for all pages'
            raise OptionError(attribute.name, "any web page can send the origin `null`", hint)
        example = suggestion if valid else "https://app.example"
        hint = f'write it as browsers send it: `{example}`, with at most one `*`, or "*" for all'
        raise OptionError(attribute.name, f"`{entry}` is not an origin", hint)


def host_check(allowed: Iterable[str]) -> Callable[[bytes], bool]:
    """Return a function: whether a value of `Host` names this machine or one of `allowed`.

    It caches results. A client that sends no host is not a browser, so it is allowed.
    """
    names = {"", "localhost", socket.gethostname().lower()}
    names.update(name.lower() for name in allowed)
    suffixes = (*_LOCAL, *(name[1:] for name in names if name.startswith("*.")))

    @functools.lru_cache(maxsize=256)
    def check(value: bytes) -> bool:
        name = host_name(value.decode("latin-1").lower()).removesuffix(".")
        address = _address(name)
        if address is None:
            return name in names or name.endswith(suffixes)
        return name in names or not address.is_global

    return check


def origin_pattern(allowed: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern for the whole of an allowed `Origin`; it matches nothing without entries.

    A `*` in an entry matches a port, or any text without a slash. An entry has at most one, so that
    matching takes linear time.
    """
    return re.compile("|".join(map(_pattern, allowed)) or "(?!)", re.IGNORECASE)


def _pattern(entry: str) -> str:
    if entry == ANY:
        return ".*"
    return re.escape(entry).replace(r":\*", ":[0-9]+").replace(r"\*", "[^/]+")


def host_name(host: str) -> str:
    """Return a value of `Host` without port, and an IPv6 address without brackets."""
    return host if _address(host) else _PORT.sub("", host).strip("[]")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _is_host(name: str) -> bool:
    return bool(_HOST.fullmatch(name) or _address(name))
