"""The client library of the store: how to make a client, call a script, and read an error.

coredis is imported late: the import takes 0.4 s.
"""

from __future__ import annotations

import hashlib
import logging
import ssl
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import anyio
from attrs import field, frozen

if TYPE_CHECKING:
    from coredis import Redis

#: Seconds that a connection may take.
CONNECT_TIMEOUT = 1.0


@frozen
class Script:
    """A Lua script. The store keeps it by its digest."""

    text: str
    digest: str = field(init=False)

    @digest.default
    def _make_digest(self) -> str:
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


def load_script(package: str, *names: str) -> Script:
    """The script that the files `scripts/NAME.lua` of a package are, one after the other."""
    folder = resources.files(package) / "scripts"
    return Script("".join([(folder / f"{name}.lua").read_text("utf-8") for name in names]))


def make_client(url: str) -> Redis[bytes]:
    """A client that has not connected. The library does not know the names of Valkey."""
    from coredis import Redis
    from coredis.retry import NoRetryPolicy

    logging.getLogger("coredis").setLevel(logging.CRITICAL)  # it logs a traceback for each attempt
    url = url.replace("valkey", "redis", 1)
    tls = ssl.create_default_context() if url.startswith("rediss") else None
    return Redis.from_url(
        url,
        decode_components=True,
        connect_timeout=CONNECT_TIMEOUT,
        retry_policy=NoRetryPolicy(),
        ssl_context=tls,
    )


def client_errors() -> tuple[type[Exception], ...]:
    """What the library raises if the store cannot be used."""
    from coredis.exceptions import RedisError

    return (RedisError, OSError, RuntimeError, anyio.ClosedResourceError, anyio.BrokenResourceError)


def reason_of(error: Exception) -> str:
    """The error and its cause, for people."""
    cause = f" ({error.__cause__})" if error.__cause__ else ""
    return f"{type(error).__name__}: {error}{cause}"


async def evaluate(
    client: Redis[bytes], script: Script, keys: Sequence[str], arguments: Sequence[Any]
) -> Any:
    """Call a script. Raises one of `client_errors`."""
    from coredis.exceptions import NoScriptError

    try:
        return await client.evalsha(script.digest, keys, arguments)
    except NoScriptError:  # the store is new, or has restarted
        await client.script_load(script.text)
        return await client.evalsha(script.digest, keys, arguments)
