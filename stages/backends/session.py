"""The HTTP session of one backend: its connection pool, headers and proxy."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import aiohttp
from attrs import frozen
from yarl import URL

from stages.profiles.profile import Profile

#: Seconds that an idle connection is kept: fewer than most servers keep it.
_KEEPALIVE = 60.0


def make_session(profile: Profile, socket: str | None = None) -> aiohttp.ClientSession:
    """Make the session of one backend, in the running event loop. The caller closes it.

    `socket` is the path of the backend's Unix socket, if it has one.
    """
    headers = {
        "content-type": "application/json",
        "accept-encoding": "identity",  # a compressed stream would arrive in lumps
        "user-agent": "llm-proxy",
        **profile.headers,
    }
    if "authorization" not in map(str.lower, headers):
        if profile.api_key:
            headers["authorization"] = f"Bearer {profile.api_key}"
        elif user := (url := URL(profile.base_url)).user:
            headers["authorization"] = aiohttp.encode_basic_auth(user, url.password or "")
    proxy = _proxy_from_environment(profile.base_url)
    return aiohttp.ClientSession(
        headers=None if proxy else headers,
        middlewares=[_AddHeaders(headers)] if proxy else (),
        connector=_connector(socket),
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=proxy,
    )


#: Whether the last request of the current context used a kept-alive connection.
REUSED: ContextVar[bool] = ContextVar("REUSED", default=False)


def _connector(socket: str | None) -> aiohttp.BaseConnector:
    if socket:
        return _UnixConnector(path=socket, limit=0, keepalive_timeout=_KEEPALIVE)
    return _TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE)


class _Connector(aiohttp.BaseConnector):
    """Set REUSED. aiohttp's tracing has the same fact, for a tenth of the cost of a request."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._used: WeakSet[Any] = WeakSet()

    async def connect(self, *request: Any, **more: Any) -> Any:
        connection = await super().connect(*request, **more)
        REUSED.set(connection.protocol in self._used)
        self._used.add(connection.protocol)
        return connection


class _TCPConnector(_Connector, aiohttp.TCPConnector): ...


class _UnixConnector(_Connector, aiohttp.UnixConnector): ...


def strip_credentials(base_url: str) -> str:
    """`base_url` without credentials and final slash. `make_session` sends the credentials."""
    url = str(URL(base_url).with_user(None)) if "@" in base_url else base_url
    return url.rstrip("/")


def _proxy_from_environment(url: str) -> str | None:
    """The proxy for `url` in the environment. Call it once: it is slow.

    The embedded model has no `url`, and needs no proxy. Servers on loopback need none either, as in
    Go's net/http: a proxy on another machine cannot reach them.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if not parts.hostname or _is_loopback(parts.hostname):
        return None
    if proxy_bypass(parts.hostname) or proxy_bypass(host):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@frozen
class _AddHeaders:
    """Add headers for the backend only. A session's headers and keys also go to the proxy."""

    headers: Mapping[str, str]

    async def __call__(
        self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.headers.update(self.headers)
        return await send(request)
