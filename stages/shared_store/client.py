"""The client library of the store: how to make a client, call a script, and read an error.

coredis is imported late: the import takes 0.4 s.
"""

from __future__ import annotations

import hashlib
import logging
import ssl
from collections.abc import Iterable, Sequence
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
    """A client that has not connected."""
    from coredis import Redis
    from coredis.retry import NoRetryPolicy

    logging.getLogger("coredis").setLevel(logging.CRITICAL)  # it logs a traceback for each attempt
    url = library_url(url)
    tls = ssl.create_default_context() if url.startswith("rediss") else None
    return Redis.from_url(
        url,
        decode_components=True,
        connect_timeout=CONNECT_TIMEOUT,
        retry_policy=NoRetryPolicy(),
        ssl_context=tls,
    )


def library_url(url: str) -> str:
    """The URL with a scheme that the library knows: `redis`, or `rediss` for TLS."""
    scheme, separator, location = url.partition("://")
    return scheme.lower().replace("valkey", "redis") + separator + location


def client_errors() -> tuple[type[Exception], ...]:
    """What the library raises if the store cannot be used."""
    from coredis.exceptions import RedisError

    return (RedisError, OSError, RuntimeError, anyio.ClosedResourceError, anyio.BrokenResourceError)


def reason_of(error: Exception) -> str:
    """The error and its cause, for people."""
    cause = f" ({error.__cause__})" if error.__cause__ else ""
    return f"{type(error).__name__}: {error}{cause}"


@frozen
class ScriptCall:
    """A script with the keys and the arguments of one call."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[Any]


async def evaluate(client: Redis[bytes], calls: Sequence[ScriptCall]) -> list[Any]:
    """Call scripts together, at least one. The result of a call may be one of `client_errors`.

    Raises one of `client_errors` if there is no connection.
    """
    async with client.connection_pool.acquire() as connection:
        batch = connection.create_request_batch(
            [client.evalsha(call.script.digest, call.keys, call.arguments) for call in calls]
        )
        batch.disconnect_on_cancellation = False
    # Other calls share the connection meanwhile, because it was released.
    return list(await batch)


def lacks_script(error: Exception) -> bool:
    """Whether the store does not have the script of a call: it is new, or has restarted."""
    from coredis.exceptions import NoScriptError

    return isinstance(error, NoScriptError)


async def load(client: Redis[bytes], scripts: Iterable[Script]) -> None:
    """Give the store these scripts. Raises one of `client_errors`."""
    for script in scripts:
        await client.script_load(script.text)
