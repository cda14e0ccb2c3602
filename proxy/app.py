"""The ASGI application: routes to pipelines, and the few answers that need none."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from attrs import define
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.declaration import Declaration
from pipeline.tasks import task_group
from proxy import __version__
from proxy.declaration import used_backends
from proxy.edge import Edge, one_line, refuse
from stages.backends.backend import Backend
from stages.wire.errors import ApiError, MethodNotAllowedError, NotFoundError
from stages.wire.ids import new_request_id

log = logging.getLogger("llm_proxy")


def make_app(declaration: Declaration) -> ASGIApp:
    """The application that serves a declaration. Its lifespan opens and closes the backends."""
    routes = [
        Route("/health", _health, methods=["GET"]),
        Route("/", _root, methods=["GET"]),
        Route("/api/event_logging/batch", _telemetry, methods=["POST"]),
    ]
    counts = declaration.sections["metrics"]
    by_path: dict[str, dict[str, Edge]] = {}
    for pipeline in declaration.pipelines:
        for route in pipeline.routes:
            method, _, path = route.partition(" ")
            edge = Edge(pipeline.name, pipeline.chain, counts)
            by_path.setdefault(path.strip(), {})[method] = edge
    # Longer paths first, so that `/v1/models/{id}` does not hide `/v1/models/special`.
    for path, edges in sorted(by_path.items(), key=lambda item: ("{" in item[0], -len(item[0]))):
        routes.append(Route(path, _ByMethod(edges)))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with _open(used_backends(declaration)):
            yield

    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _refused})
    app.router.redirect_slashes = False  # clients take a redirect for a failure
    return app


@define(eq=False)
class _ByMethod:
    """An ASGI app that leads each method of one path to its edge.

    An object, because Starlette takes a function for a request-to-response endpoint.
    """

    edges: dict[str, Edge]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        edge = self.edges.get(scope["method"])
        if edge is None:
            allowed = {"allow": ", ".join(sorted(self.edges))}
            error = MethodNotAllowedError(f"{scope['method']} is not allowed here", headers=allowed)
            await refuse(error, scope, receive, send)
        else:
            await edge(scope, receive, send)


@asynccontextmanager
async def _open(backends: dict[str, Backend]) -> AsyncIterator[None]:
    """Open the backends in the background, so that the server listens at once."""
    async with AsyncExitStack() as exits:
        for backend in backends.values():
            exits.push_async_callback(backend.aclose)
        async with task_group() as group:
            for name, backend in backends.items():
                group.start_soon(_open_one, name, backend)
            yield
            group.cancel_scope.cancel()


async def _open_one(name: str, backend: Backend) -> None:
    started = time.monotonic()
    try:
        await backend.open()
    except ApiError as error:
        log.error("backend `%s` cannot be opened: %s", name, error)
    else:
        log.info("backend `%s` is ready after %.1f s", name, time.monotonic() - started)


def _headers() -> dict[str, str]:
    return {"request-id": new_request_id()}


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"}, headers=_headers())


async def _root(_: Request) -> Response:
    return JSONResponse(
        {"name": "llm-proxy", "version": __version__, "messages": "/v1/messages"},
        headers=_headers(),
    )


async def _telemetry(_: Request) -> Response:
    """Claude Code reports here; it is thanked, and nothing is kept."""
    return Response(status_code=204, headers=_headers())


async def _refused(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    path = request.url.path[:200]
    twice = "; the base URL of a client ends before `/v1`" if path.startswith("/v1/v1/") else ""
    refusal: ApiError = NotFoundError(f"there is nothing at {path}{twice}")
    if status == 405:
        refusal = MethodNotAllowedError(f"{request.method} is not allowed at {path}")
    headers = _headers()
    log.info("%s %s %s %d", headers["request-id"], request.method, one_line(path), refusal.status)
    return JSONResponse(
        refusal.body(headers["request-id"]),
        status_code=refusal.status,
        headers={**headers, **(getattr(error, "headers", None) or {})},
    )
