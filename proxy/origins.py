"""Host names and origins that requests may come with: how they are written, and how they match.

The name in `Host` is the one that the client looked up. A web page whose own name is made to lead
to this machine (DNS rebinding) reads answers as if they were its own: only its name betrays it.
An IP address needs no look-up, so it cannot be made to lead elsewhere.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from typing import Any

from pipeline.config.options import OptionError

#: Stands for all hosts, or for all origins.
ANY = "*"

# Names under these lead to this machine or its own network, and nobody can register them.
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


def check_hosts(instance: Any, attribute: Any, value: Iterable[str]) -> None:
    """The validator of `allowed_hosts`. Raises OptionError."""
    for each in value:
        name = each.lower()
        if name == ANY or _is_host(name):
            continue
        better = host_name(name.rpartition("://")[2].partition("/")[0])
        hint = 'write a name, as `llm.example`, or `*.llm.example`, or "*" for all'
        if _is_host(better):
            hint = f"write `{better}`: the name without scheme, port and path"
        raise OptionError(attribute.name, f"`{each}` is not a host name", hint)


def check_origins(instance: Any, attribute: Any, value: Iterable[str]) -> None:
    """The validator of `allowed_origins`. Raises OptionError."""
    for each in value:
        origin = each.lower()
        scheme, _, rest = origin.rpartition("://")
        host = rest.partition("/")[0].removesuffix(_DEFAULT_PORTS.get(scheme, " "))
        better = f"{scheme or 'https'}://{host}"
        known = _ORIGIN.fullmatch(better) and better.count(ANY) <= 1
        if origin == ANY or (known and origin == better):
            continue
        if origin == "null":
            hint = 'serve the page from an http address and write that, or write "*" for all pages'
            raise OptionError(attribute.name, "any web page can send the origin `null`", hint)
        example = better if known else "https://app.example"
        hint = f'write it as browsers send it: `{example}`, with at most one `*`, or "*" for all'
        raise OptionError(attribute.name, f"`{each}` is not an origin", hint)


def host_check(allowed: Iterable[str]) -> Callable[[bytes], bool]:
    """Whether a value of `Host` names this machine or one of `allowed`.

    It remembers some answers. A client that names no host is no browser, so it may.
    """
    names = {"", "localhost", socket.gethostname().lower()}
    names.update(name.lower() for name in allowed)
    below = (*_LOCAL, *(name[1:] for name in names if name.startswith("*.")))

    @functools.lru_cache(maxsize=256)
    def check(value: bytes) -> bool:
        name = host_name(value.decode("latin-1").lower()).removesuffix(".")
        address = _address(name)
        if address is None:
            return name in names or name.endswith(below)
        return name in names or not address.is_global

    return check


def origin_pattern(allowed: Iterable[str]) -> re.Pattern[str]:
    """What matches the whole of an allowed `Origin`; nothing where `allowed` is empty.

    A `*` in an entry stands for a port, or for what has no slash. An entry has at most one, so that
    no origin takes more than linear work.
    """
    return re.compile("|".join(map(_pattern, allowed)) or "(?!)", re.IGNORECASE)


def _pattern(entry: str) -> str:
    if entry == ANY:
        return ".*"
    return re.escape(entry).replace(r":\*", ":[0-9]+").replace(r"\*", "[^/]+")


def host_name(host: str) -> str:
    """A value of `Host` without its port, and an IPv6 address without brackets."""
    return host if _address(host) else _PORT.sub("", host).strip("[]")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _is_host(name: str) -> bool:
    return bool(_HOST.fullmatch(name) or _address(name))
