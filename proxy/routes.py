"""One declaration as it is served: the table of paths, and the requests under way in it."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from attrs import define, frozen
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.config.schema import Config
from proxy.cross_origin import CrossOrigin
from proxy.endpoint import PipelineEndpoint, send_error
from proxy.request_body import BodyBudget
from stages.backends.backend import Backend
from stages.messages_api.errors import MethodNotAllowedError, NotFoundError
from stages.metrics import Metrics

Methods = Mapping[str, ASGIApp]

# They say nothing that a foreign web page could use, and what calls them may use any name.
_LIVENESS = ("/health", "/health/live")


@frozen(eq=False)
class RoutingTable:
    """A declaration, and how its requests find their pipelines.

    Paths without parameters, `direct`, need no search through the routes of `router`: it would be
    a twentieth of what a short request costs, and four layers around each event.
    """

    config: Config
    endpoints: tuple[PipelineEndpoint, ...]
    router: ASGIApp
    static_paths: dict[str, ASGIApp]
    urgent: frozenset[str]
    """Paths whose requests begin at once, under overload too: health checks and metrics."""
    rules: CrossOrigin

    @classmethod
    def of(
        cls,
        declaration: Config,
        room: BodyBudget,
        own: Mapping[str, Methods],
        lifespan: Any,
        host: str,
    ) -> RoutingTable:
        """The table for a declaration, of a server that listens on `host`.

        `own` are the paths that need no pipeline.
        """
        by_path: dict[str, dict[str, ASGIApp]] = {path: {**apps} for path, apps in own.items()}
        counts = declaration.sections["metrics"]
        edges = []
        urgent = {*own}
        for pipeline in declaration.pipelines:
            for route in pipeline.routes:
                method, _, path = route.partition(" ")
                edge = PipelineEndpoint(pipeline.name, pipeline.chain, room, counts)
                edges.append(edge)
                by_path.setdefault(path.strip(), {})[method] = edge
                if any(isinstance(stage, Metrics) for stage in pipeline.stages):
                    urgent.add(path.strip())
        for apps in by_path.values():
            if "GET" in apps:  # the server sends the head of the response alone
                apps.setdefault("HEAD", apps["GET"])
        # Longer paths first, so that `/v1/models/{id}` does not hide `/v1/models/special`.
        paths = sorted(by_path, key=lambda path: ("{" in path, -len(path)))
        # A bare router: Starlette's own application would put two more layers around each event, to
        # answer exceptions, of which none gets so far. Clients take a redirect for a failure.
        routes = [Route(path, _ByMethod(by_path[path])) for path in paths]
        router = Router(routes, redirect_slashes=False, default=_nothing_here, lifespan=lifespan)
        rules = CrossOrigin.of(declaration, host)
        direct = {
            path: rules.around(_ByMethod(by_path[path]), refusing=path not in _LIVENESS)
            for path in paths
            if "{" not in path
        }
        return cls(
            declaration, tuple(edges), rules.around(router), direct, frozenset(urgent), rules
        )

    @property
    def in_flight(self) -> int:
        """How many requests are not finished."""
        return sum(edge.in_flight for edge in self.endpoints)

    @property
    def backends(self) -> Mapping[str, Backend]:
        """All that are declared."""
        declared: Mapping[str, Backend] = self.config.sections["backends"]
        return declared


@define(eq=False)
class _ByMethod:
    """An ASGI app that leads each method of one path to its own app.

    An object, because Starlette takes a function for a request-to-response endpoint.
    """

    apps: Methods

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if app := self.apps.get(scope["method"]):
            return app(scope, receive, send)
        allowed = {"allow": ", ".join(sorted(self.apps))}
        error = MethodNotAllowedError(f"{scope['method']} is not allowed here", headers=allowed)
        return send_error(error, scope, receive, send)


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["path"][:200]
    twice = "; the base URL of a client ends before `/v1`" if path.startswith("/v1/v1/") else ""
    await send_error(NotFoundError(f"there is nothing at {path}{twice}"), scope, receive, send)
