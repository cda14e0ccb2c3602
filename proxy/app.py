"""The ASGI application: routes to pipelines, and the few answers that need none."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from attrs import define
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.declaration import Declaration
from pipeline.tasks import task_group
from proxy import __version__
from proxy.declaration import used_backends
from proxy.edge import Edge, refuse
from stages.backends.backend import Backend
from stages.wire.errors import ApiError, MethodNotAllowedError, NotFoundError
from stages.wire.ids import new_request_id

log = logging.getLogger("llm_proxy")


def make_app(declaration: Declaration, ready: Callable[[], None] = lambda: None) -> App:
    """The application that serves a declaration. Its lifespan opens and closes the backends.

    `ready` is called when one of them is open.
    """
    by_path: dict[str, dict[str, ASGIApp]] = {
        "/": {"GET": _root, "HEAD": _root},
        "/health": {"GET": _health, "HEAD": _health},
        "/api/event_logging/batch": {"POST": _telemetry},
    }
    counts = declaration.sections["metrics"]
    for pipeline in declaration.pipelines:
        for route in pipeline.routes:
            method, _, path = route.partition(" ")
            edge = Edge(pipeline.name, pipeline.chain, counts)
            by_path.setdefault(path.strip(), {})[method] = edge
    # Longer paths first, so that `/v1/models/{id}` does not hide `/v1/models/special`.
    paths = sorted(by_path, key=lambda path: ("{" in path, -len(path)))

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with _open(used_backends(declaration), ready):
            yield

    # A bare router: Starlette's own application would put two more layers around each event, to
    # answer exceptions, of which none gets so far. Clients take a redirect for a failure.
    routes = [Route(path, _ByMethod(by_path[path])) for path in paths]
    router = Router(routes, redirect_slashes=False, default=_nothing_here, lifespan=lifespan)
    return App(router, {path: _ByMethod(by_path[path]) for path in paths if "{" not in path})


@define(eq=False)
class App:
    """The whole as an ASGI app. Paths without parameters need no search through the routes.

    It would be a twentieth of what a short request costs, and four layers around each event.
    """

    router: Router
    direct: dict[str, ASGIApp]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.direct.get(scope.get("path", ""), self.router)
        await app(scope, receive, send)


@define(eq=False)
class _ByMethod:
    """An ASGI app that leads each method of one path to its own app.

    An object, because Starlette takes a function for a request-to-response endpoint.
    """

    apps: dict[str, ASGIApp]

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if app := self.apps.get(scope["method"]):
            return app(scope, receive, send)
        allowed = {"allow": ", ".join(sorted(self.apps))}
        error = MethodNotAllowedError(f"{scope['method']} is not allowed here", headers=allowed)
        return refuse(error, scope, receive, send)


@asynccontextmanager
async def _open(backends: dict[str, Backend], ready: Callable[[], None]) -> AsyncIterator[None]:
    """Open the backends in the background, so that the server listens at once."""
    async with AsyncExitStack() as exits:
        for backend in backends.values():
            exits.push_async_callback(backend.aclose)
        async with task_group() as group:
            for name, backend in backends.items():
                group.start_soon(_open_one, name, backend, ready)
            yield
            group.cancel_scope.cancel()


async def _open_one(name: str, backend: Backend, ready: Callable[[], None]) -> None:
    started = time.monotonic()
    try:
        await backend.open()
    except ApiError as error:
        log.error("backend `%s` cannot be opened: %s", name, error)
    else:
        log.info("backend `%s` is ready after %.1f s", name, time.monotonic() - started)
        ready()


async def _health(scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse({"status": "ok"}, headers=_headers())(scope, receive, send)


async def _root(scope: Scope, receive: Receive, send: Send) -> None:
    told = {"name": "llm-proxy", "version": __version__, "messages": "/v1/messages"}
    await JSONResponse(told, headers=_headers())(scope, receive, send)


async def _telemetry(scope: Scope, receive: Receive, send: Send) -> None:
    """Claude Code reports here; it is thanked, and nothing is kept."""
    await Response(status_code=204, headers=_headers())(scope, receive, send)


def _headers() -> dict[str, str]:
    return {"request-id": new_request_id()}


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["path"][:200]
    twice = "; the base URL of a client ends before `/v1`" if path.startswith("/v1/v1/") else ""
    await refuse(NotFoundError(f"there is nothing at {path}{twice}"), scope, receive, send)
