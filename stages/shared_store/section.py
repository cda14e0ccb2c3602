"""The section `store`: where several machines share their limits."""

from __future__ import annotations

import importlib.util
from typing import Any, Literal
from urllib.parse import urlsplit

from attrs import define, field, validators

from pipeline import option
from pipeline.config.options import OptionError
from stages.shared_store.connection import Connection

OnLoss = Literal["local", "allow", "refuse"]
_SCHEMES = ("valkey", "valkeys", "redis", "rediss")
_MODULE = "coredis"


def _check_url(_: Any, attribute: Any, url: str) -> None:
    """Accept the URL of a store, if its client is installed. The message has no part of the URL."""
    if not url:
        return
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
        usable = usable and parts.path.strip("/").isdecimal() if parts.path.strip("/") else usable
    except ValueError:
        usable = False
    if not usable:
        message = "`store` is not the URL of a Valkey or Redis server"
        raise OptionError("url", message, "write it as `valkey://127.0.0.1:6379/0`")
    if importlib.util.find_spec(_MODULE) is None:
        message = "`store` needs a package that is not installed"
        raise OptionError("url", message, "install it with `pip install 'llm-proxy[shared]'`")


@define(eq=False)
class Store:
    """The section `store`. Without a `url` each process has its own limits."""

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
        help="while the store does not respond: `local` divides the limits among the processes "
        "seen last, and each counts alone; `allow` admits all requests; `refuse` responds with 529",
    )
    timeout: float = option(
        0.05,
        help="seconds that a call of the store may take",
        validator=[validators.gt(0), validators.le(5)],
    )
    connection: Connection | None = field(default=None, init=False, repr=False)
    """None without a `url`."""

    def __attrs_post_init__(self) -> None:
        if self.url:
            self.connection = Connection(self.url, self.timeout)

    @property
    def error(self) -> str:
        """Why the store does not respond; empty if it does, or if there is none."""
        return self.connection.error if self.connection else ""
