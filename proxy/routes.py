"""The routing table of one loaded config, and its requests in flight."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from attrs import define, field, frozen
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.chain import Observer
from pipeline.config.schema import Config, Pipeline
from proxy.cross_origin import CrossOrigin
from proxy.endpoint import PipelineEndpoint, send_error
from proxy.request_body import BodyBudget
from proxy.stage_times import RequestStages
from proxy.tracing import Tracing
from stages.backends.backend import Backend
from stages.exchange import Exchange
from stages.messages_api.errors import MethodNotAllowedError, NotFoundError
from stages.metrics import Metrics
from stages.page.recent import RecentExchanges
from stages.ui import page_path

Methods = Mapping[str, ASGIApp]

# Their responses are of no use to a foreign web page, and health checks may use any host name.
_LIVENESS = ("/health", "/health/live")


@frozen(eq=False)
class RoutingTable:
    """A loaded config, and the pipeline of each method and path.

    `static_paths` are paths without parameters. They need no search through the routes of
    `router`, which costs a twentieth of a short request, and four frames around each event.
    """

    config: Config
    endpoints: tuple[PipelineEndpoint, ...]
    router: ASGIApp
    static_paths: dict[str, ASGIApp]
    urgent: frozenset[str]
    """Paths whose requests begin at once even under overload: health checks and metrics."""
    cross_origin: CrossOrigin

    @classmethod
    def of(
        cls,
        config: Config,
        body_budget: BodyBudget,
        built_in: Mapping[str, Methods],
        lifespan: Any,
        host: str,
        tracing: Tracing | None = None,
    ) -> RoutingTable:
        """Build the table for a config, for a server that listens on `host`.

        `built_in` are the paths that need no pipeline.
        """
        by_path: dict[str, dict[str, ASGIApp]] = {path: {**apps} for path, apps in built_in.items()}
        endpoints = []
        urgent = {*built_in}
        for pipeline in config.pipelines:
            for route in pipeline.routes:
                method, path = route.split()
                endpoint = _endpoint(pipeline, method, path, config, body_budget, tracing)
                endpoints.append(endpoint)
                by_path.setdefault(path, {})[method] = endpoint
                if any(isinstance(stage, Metrics) for stage in pipeline.stages):
                    urgent.add(path)
        # Longer paths first, so that `/v1/models/{id}` does not hide `/v1/models/special`.
        paths = sorted(by_path, key=lambda path: ("{" in path, -len(path)))
        # A bare router: Starlette's own application would put two more frames around each event, to
        # handle exceptions, and none reaches it. Clients take a redirect for a failure.
        routes = [Route(path, _ByMethod(by_path[path])) for path in paths]
        router = Router(routes, redirect_slashes=False, default=_not_found, lifespan=lifespan)
        rules = CrossOrigin.of(config, host)
        static_paths = {
            path: rules.wrap(_ByMethod(by_path[path]), refusing=path not in _LIVENESS)
            for path in paths
            if "{" not in path
        }
        app = rules.wrap(router)
        return cls(config, tuple(endpoints), app, static_paths, frozenset(urgent), rules)

    @property
    def in_flight(self) -> int:
        """Number of requests in flight."""
        return sum(endpoint.in_flight for endpoint in self.endpoints)

    @property
    def backends(self) -> Mapping[str, Backend]:
        """All backends in the config, also those that no model refers to."""
        backends: Mapping[str, Backend] = self.config.sections["backends"]
        return backends


def _endpoint(
    pipeline: Pipeline,
    method: str,
    path: str,
    config: Config,
    body_budget: BodyBudget,
    tracing: Tracing | None,
) -> PipelineEndpoint:
    sections = config.sections
    # Requests of other methods call no backend, and come each second: metrics, and the page.
    recorded = method == "POST" and page_path(config.pipelines) != ""
    return PipelineEndpoint(
        pipeline.name,
        pipeline.chain,
        body_budget,
        sections["metrics"],
        start_trace=partial(tracing.start, path, sections["backends"]) if tracing else None,
        observe=_observe(pipeline, config, tracing, sections["ui"] if recorded else None),
        logs_success=not page_path((pipeline,)),
    )


def _observe(
    pipeline: Pipeline, config: Config, tracing: Tracing | None, recent: RecentExchanges | None
) -> Callable[[Exchange], Observer | None] | None:
    """Return what begins the record of an exchange, and makes the observer of its request.

    None if nothing reads either. Metrics and spans read the times of the stages of all requests,
    `recent` those of some.
    """
    observe = RequestStages.of(pipeline).observe
    stages = [stage for pipeline in config.pipelines for stage in pipeline.stages]
    in_metrics = any(isinstance(stage, Metrics) and stage.stage_times for stage in stages)
    all_measured = in_metrics or (tracing is not None and tracing.stage_spans)
    if recent is None:
        return observe if all_measured else None

    def begin(exchange: Exchange) -> Observer | None:
        measured = recent.begin(exchange)
        return observe(exchange) if measured or all_measured else None

    return begin


def _with_head(apps: Methods) -> Methods:
    """Serve HEAD as GET. The server sends the head of the response alone."""
    return {"HEAD": apps["GET"], **apps} if "GET" in apps else apps


@define(eq=False)
class _ByMethod:
    """An ASGI app that passes each method of one path to its own app.

    An object, because Starlette takes a function for a request-to-response endpoint.
    """

    apps: Methods = field(converter=_with_head)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if app := self.apps.get(scope["method"]):
            return app(scope, receive, send)
        allowed = {"allow": ", ".join(sorted(self.apps))}
        error = MethodNotAllowedError(
            f"this path does not allow {scope['method']}", headers=allowed
        )
        return send_error(error, scope, receive, send)


#: Of OpenAI's API, which many clients speak.
_OPENAI_PATHS = ("/chat/completions", "/completions", "/responses")


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["path"][:200]
    hint = ""
    if path.startswith("/v1/v1/"):
        hint = "; set the client's base URL without `/v1`"
    elif path.endswith(_OPENAI_PATHS):
        hint = "; clients use the Messages API here: send it to /v1/messages"
    await send_error(NotFoundError(f"no route for {path}{hint}"), scope, receive, send)
