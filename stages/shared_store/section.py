"""The section `store`: where several machines share limits, slots and circuit breakers."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any, Literal
from urllib.parse import urlsplit

from attrs import define, field, fields, validators
from cattrs import Converter

from pipeline import option
from pipeline.config.installer import install_command
from pipeline.config.options import OptionError, text_pattern
from pipeline.config.schema import JsonSchema
from stages.shared_store.connection import Connection

log = logging.getLogger("llm_proxy")

OnLoss = Literal["local", "allow", "refuse"]
Mode = Literal["exact", "approximate"]
_SCHEMES = ("valkey", "valkeys", "redis", "rediss")
_MODULE = "coredis"
_CONSEQUENCES = {
    "local": "each process counts alone, up to its share of limits and slots",
    "allow": "all requests are admitted",
    "refuse": "requests that have limits or slots get a 529",
}


def _is_usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    database = parts.path.removeprefix("/")
    return (
        parts.scheme in _SCHEMES
        and bool(parts.hostname)
        and port != 0
        and (not database or database.isdecimal())
        and not parts.query
        and not parts.fragment
    )


@text_pattern(r"(([Vv][Aa][Ll][Kk][Ee][Yy]|[Rr][Ee][Dd][Ii][Ss])[Ss]?://.+)?")
def _check_url(_: Any, attribute: Any, url: str) -> None:
    """Accept the URL of a store, if its client is installed. The message has no part of the URL."""
    if not url:
        return
    if not _is_usable(url):
        message = "`store` is not the URL of a Valkey or Redis server"
        raise OptionError("url", message, "write it as `valkey://127.0.0.1:6379/0`")
    if importlib.util.find_spec(_MODULE) is None:
        message = f"`store` needs the package `{_MODULE}`, which is not installed"
        raise OptionError("url", message, f"type `{install_command()} '{_MODULE}>=6'`")


def _check_mode(store: Store, attribute: Any, mode: str) -> None:
    if mode == "approximate" and not store.url:
        message = "`store.mode: approximate` has no effect without a store"
        raise OptionError("mode", message, "set `store.url`, or remove `mode`")


@define(eq=False)
class Store:
    """The section `store`. Without a `url` nothing is shared with other machines.

    A process renews a lease after each third of it. If that fails because the connection has ended,
    there is a new one after a second: a lease of at least 2 s is renewed in time, so the places of
    a live process are not given away. In a busy process a turn of the event loop takes up to 30 ms
    (see script_sender.py): with a `timeout` below 10 ms, each store would seem lost.
    """

    url: str = option(
        "",
        secret=True,
        repr=False,
        help="Valkey or Redis, as `valkey://127.0.0.1:6379/0`; `valkeys://` uses TLS; "
        "`store: valkey://…` is short for it",
        validator=_check_url,
    )
    on_loss: OnLoss = option(
        "local",
        help="while the store does not respond: `local` divides limits and slots among the "
        "processes seen last, and each counts alone; `allow` admits all requests; `refuse` "
        "responds with 529",
    )
    timeout: float = option(
        0.05,
        help="seconds that a call of the store may take",
        validator=[validators.ge(0.01), validators.le(5)],
    )
    lease: float = option(
        60.0,
        help="seconds after which what a process had reserved is free, if the process died; at "
        "least 2, so that a process can renew it after a loss of its connection",
        validator=validators.ge(2),
    )
    mode: Mode = option(
        "exact",
        help="`exact` asks the store twice for each request; with `approximate` each process takes "
        "shares of the limits of requests and tokens, and asks the store once for many requests",
        validator=_check_mode,
    )
    max_error: float = option(
        0.1,
        help="with `mode: approximate`: the part of a limit that all processes together may have "
        "as shares; a limit may be exceeded, or refuse early, by this part",
        validator=[validators.gt(0), validators.le(1)],
    )
    connection: Connection | None = field(default=None, init=False, repr=False)
    """None without a `url`."""

    def __attrs_post_init__(self) -> None:
        if self.url:
            consequence = _CONSEQUENCES[self.on_loss]
            self.connection = Connection(self.url, self.timeout, consequence)

    @property
    def is_up(self) -> bool | None:
        """Whether the store responds; None without a `url`."""
        return self.connection.is_up if self.connection else None

    def keep(self, reloaded: Store) -> Store:
        """Return this section in place of a reloaded one, and log the options that differ."""
        for each in fields(Store):
            if each.init and getattr(self, each.name) != getattr(reloaded, each.name):
                log.warning("`store.%s` has changed: restart the proxy to apply it", each.name)
        return self


def json_schema(schema: JsonSchema) -> JsonSchema:
    """Add the short form, a URL, to the JSON Schema of the section."""
    return {"anyOf": [schema, {**schema["properties"]["url"], "description": "the option `url`"}]}


def register_hooks(converter: Converter) -> None:
    """Register the section with `converter`: it may be a URL."""
    as_mapping = converter.get_structure_hook(Store)

    def structure(value: Any, kind: Any) -> Store:
        store: Store = as_mapping({"url": value} if isinstance(value, str) else value, kind)
        return store

    converter.register_structure_hook(Store, structure)
