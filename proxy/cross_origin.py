"""Access of web pages: the checks of `Host` and `Origin`, and CORS.

A browser lets every page send requests to this machine. A foreign page does not know a key. If the
proxy requires no key, it refuses these requests on every path but plain liveness:

the page                                         the request                         status
----------------------------------------------   ---------------------------------   ------
its name resolves to this machine (DNS           `Host` is not a name of this        403
  rebinding)                                       machine
its origin is another one, or `null`             `Origin` is not the one in `Host`   403
the same, in a request without `Origin`          `Sec-Fetch-Site`                    403
the same, in an old browser that sends neither   a POST that is not JSON             415

`allowed_hosts` and `allowed_origins` of the section `server` allow more. Clients other than
browsers send neither Origin nor Sec-Fetch-Site. On an address other than loopback the server
cannot know its own names, so `Host` is checked there only if `allowed_hosts` is set; and an
Origin that equals an unchecked Host proves nothing.
Sources: CrossOriginProtection of Go's net/http; allowedHostsMiddleware of Ollama.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable

from attrs import define, frozen
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.config.schema import Config
from proxy.api_keys import is_open
from proxy.config import Server, is_loopback
from proxy.endpoint import send_error
from proxy.origins import ANY, host_check, origin_pattern
from stages.messages_api.errors import ApiError, PermissionDeniedError, UnsupportedMediaTypeError

_SECTION = "the section `server` of pipelines.yaml"


@frozen(eq=False)
class CrossOrigin:
    """The rules for requests of web pages. `check_host` is None if every host is allowed."""

    check_host: Callable[[bytes], bool] | None
    refuse_pages: bool
    allowed: re.Pattern[str]
    cors: bool

    @classmethod
    def of(cls, config: Config, host: str) -> CrossOrigin:
        """Return the rules for a server that listens on `host`."""
        server: Server = config.sections["server"]
        hosts, origins = server.allowed_hosts, server.allowed_origins
        without_key = is_open(config)
        checked = ANY not in hosts and (hosts or (without_key and is_loopback(host)))
        return cls(
            check_host=host_check(hosts) if checked else None,
            refuse_pages=without_key and ANY not in origins,
            allowed=origin_pattern(origins),
            cors=bool(origins),
        )

    def wrap(self, app: ASGIApp, *, refusing: bool = True) -> ASGIApp:
        """Wrap `app` in the layers that these rules need; in CORS alone if not `refusing`."""
        if refusing and (self.check_host or self.refuse_pages):
            app = _Checked(app, self)
        if self.cors:
            # With the pattern alone it echoes the origin, even if all are allowed. It allows the
            # methods and headers that a page asks for; nothing here depends on cookies.
            cors = CORSMiddleware(
                app,
                allow_origin_regex=f"(?i:{self.allowed.pattern})",
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=["*"],
                allow_private_network=True,
            )
            app = _Cors(app, cors, self)
        return app

    def allows(self, origin: bytes | None) -> bool:
        """Whether `allowed_origins` has this origin."""
        return origin is not None and bool(self.allowed.fullmatch(origin.decode("latin-1")))

    def refusal(self, scope: Scope) -> ApiError | None:
        """Return the error for a refused request, or None."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"")
        if self.check_host and not self.check_host(host):
            return PermissionDeniedError(
                f"host {_quoted(host)} is not allowed: if clients may use this name, add it "
                f"(without a port) to `allowed_hosts` in {_SECTION}"
            )
        if not self.refuse_pages:
            return None
        if (origin := headers.get(b"origin")) is not None:
            if self.allows(origin):
                return None
            if not (self.check_host and origin.partition(b"://")[2] == host):
                entry = "the http address that serves them" if origin == b"null" else "it"
                return PermissionDeniedError(
                    f"web pages of the origin {_quoted(origin)} may not use this server: to allow "
                    f"them, add {entry} to `allowed_origins` in {_SECTION}"
                )
        elif headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
            return PermissionDeniedError(
                "a web page of another origin sent this request: to allow it, use `fetch` in the "
                f"page, and add its origin to `allowed_origins` in {_SECTION}"
            )
        if scope["method"] == "POST" and not _is_json(headers.get(b"content-type", b"")):
            return UnsupportedMediaTypeError(
                "send the header `content-type: application/json`: without it any web page could "
                "send this request, because this server requires no key"
            )
        return None


@define(eq=False)
class _Checked:
    app: ASGIApp
    rules: CrossOrigin

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and (error := self.rules.refusal(scope)):
            return send_error(error, scope, receive, send)
        return self.app(scope, receive, send)


@define(eq=False)
class _Cors:
    """Passes requests of allowed origins to `cors`, which costs a frame around each event."""

    app: ASGIApp
    cors: ASGIApp
    rules: CrossOrigin

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and self.rules.allows(dict(scope["headers"]).get(b"origin")):
            return self.cors(scope, receive, send)
        return self.app(scope, receive, send)


def _is_json(content_type: bytes) -> bool:
    media_type = content_type.partition(b";")[0].strip().lower()
    return media_type == b"application/json" or media_type.endswith(b"+json")


def _quoted(value: bytes) -> str:
    return json.dumps(value[:200].decode("latin-1"))
