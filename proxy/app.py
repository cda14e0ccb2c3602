"""The ASGI application: what is served now, what was before, and the backends of both.

A reload replaces the current `RoutingTable`. Requests in flight finish in the table they began
in. A table without requests is forgotten, and the backends that only it referred to are closed.
A config keeps the backends that did not change (proxy/reload.py), so both tables share them.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup
from attrs import define, field
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from pipeline.config.schema import Config
from pipeline.task_groups import task_group
from proxy import __version__
from proxy.admission import Admission
from proxy.backend_monitor import BackendMonitor
from proxy.config import referenced_backends
from proxy.keys import may_use
from proxy.reload import Reload
from proxy.request_body import BodyBudget
from proxy.routes import Methods, RoutingTable
from stages.queue import apply_concurrency_limit
from stages.routing.breaker import Breakers
from stages.wire.ids import new_request_id

#: Where Claude Code reports; its versions differ in what comes after the first part.
TELEMETRY = ("/api/event_logging/{rest:path}", "/api/claude_code/metrics")
#: Seconds between two looks at what nobody needs any more.
_CLOSE_INTERVAL = 0.5


@define(eq=False)
class App:
    """The whole as an ASGI app, for a declaration and those that `reload` finds later.

    Its lifespan opens and closes the backends; `opened` is called when one of the first is open,
    `ended` when all are closed.
    `draining` is set by the server when it is about to end.
    """

    _config: Config
    _reload: Reload | None = None
    _opened: Callable[[], None] = lambda: None
    _ended: Callable[[], None] = lambda: None
    draining: bool = False
    body_budget: BodyBudget = field(init=False)
    admission: Admission = field(init=False)
    """What the server calls for a request, so that it begins in its turn."""
    current: RoutingTable = field(init=False)
    retired: list[RoutingTable] = field(factory=list, init=False)
    """Declarations of before that have requests under way."""
    monitors: list[BackendMonitor] = field(factory=list, init=False)

    @body_budget.default
    def _room_at_the_start(self) -> BodyBudget:
        return BodyBudget(self._config.sections["server"].max_buffered_body_bytes)

    @admission.default
    def _admission_by_the_first(self) -> Admission:
        sections = self._config.sections
        return Admission(
            self,
            urgent=lambda path: path in self.current.urgent,
            max_delay=sections["server"].max_loop_delay,
            counts=sections["metrics"],
            around=lambda app: self.current.rules.around(app, refusing=False),
        )

    @current.default
    def _first(self) -> RoutingTable:
        return self._served(self._config)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        served = self.current
        app = served.static_paths.get(scope.get("path", ""), served.router)
        return app(scope, receive, send)

    def serve(self, group: TaskGroup, declaration: Config) -> None:
        """From now on, answer requests by this declaration. `group` is the lifespan's."""
        self.retired.append(self.current)
        self.current = self._served(declaration)
        for backend in self.current.backends.values():
            apply_concurrency_limit(backend)
        self._update_monitors(group, first=False)

    def _served(self, declaration: Config) -> RoutingTable:
        host = self._reload.host if self._reload else declaration.sections["server"].host
        return RoutingTable.of(
            declaration, self.body_budget, self._own(), lambda _: self.lifespan(), host
        )

    def _own(self) -> dict[str, Methods]:
        """The paths that need no pipeline."""
        reading = {
            "/": _root,
            "/api/hello": _hello,
            "/health": _health,
            "/health/live": _health,
            "/health/ready": self._ready,
        }
        own: dict[str, Methods] = {p: {"GET": app, "HEAD": app} for p, app in reading.items()}
        return {**own, **{path: {"POST": _telemetry} for path in TELEMETRY}}

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Have the backends open; in the background, so that the server listens at once."""
        async with task_group() as group:
            self._update_monitors(group, first=True)
            group.start_soon(self._close_retired)
            if self._reload is not None:
                group.start_soon(self._reload.run, functools.partial(self.serve, group))
            yield
            group.cancel_scope.cancel()
        self._ended()

    def _update_monitors(self, group: TaskGroup, first: bool) -> None:
        """Look after the backends that models lead to, those that are new."""
        known = {each.backend for each in self.monitors}
        for name, backend in referenced_backends(self.current.config).items():
            if backend not in known:
                attended = BackendMonitor(name, backend, self._opened if first else _nothing)
                self.monitors.append(attended)
                group.start_soon(attended.run)

    async def _close_retired(self) -> None:
        while True:
            await anyio.sleep(_CLOSE_INTERVAL)
            self.retired = [served for served in self.retired if served.in_flight]
            needed = {b for s in (self.current, *self.retired) for b in s.backends.values()}
            for each in self.monitors:
                if each.backend not in needed:
                    each.end()
            self.monitors = [each for each in self.monitors if each.backend in needed]

    async def _ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Whether requests can be answered now, by what is known: nothing is waited for.

        The names of backends and targets are only for clients that may use the proxy.

        The circuit breakers of `targets` are told, and are no reason not to be ready, not even if
        all are open. They judge by requests, which would then no longer come: nobody would notice
        that a target is well again. And what balances the load would see all its proxies go at
        once, for all models, because one model's backends fail; an error of this proxy says more
        than none there. To declare `health` is the way to have it otherwise.
        """
        used = referenced_backends(self.current.config).values()
        faults = {each.name: each.error for each in self.monitors if each.backend in used}
        breakers: Breakers = self.current.config.sections["circuit_breaker"]
        states = breakers.states(anyio.current_time())
        told: dict[str, Any] = {
            "status": "ready",
            "backends": {n: {"state": fault or "ready"} for n, fault in faults.items()},
            "targets": {label: {"state": state} for label, state in states.items()},
        }
        if any(faults.values()) or len(faults) < len(used):
            told["status"] = "not ready"
        if self.draining:
            told["status"] = "stopping"
        if not await may_use(self.current.config, scope):
            told = {"status": told["status"]}
        status = 200 if told["status"] == "ready" else 503
        await JSONResponse(told, status, headers=_headers())(scope, receive, send)


def _nothing() -> None: ...


async def _health(scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse({"status": "ok"}, headers=_headers())(scope, receive, send)


async def _root(scope: Scope, receive: Receive, send: Send) -> None:
    told = {"name": "llm-proxy", "version": __version__, "messages": "/v1/messages"}
    await JSONResponse(told, headers=_headers())(scope, receive, send)


async def _hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Claude Code opens its connection with this."""
    await JSONResponse({"message": "hello"}, headers=_headers())(scope, receive, send)


async def _telemetry(scope: Scope, receive: Receive, send: Send) -> None:
    """Claude Code reports here; it is thanked, and nothing is kept."""
    await Response(status_code=204, headers=_headers())(scope, receive, send)


def _headers() -> dict[str, str]:
    return {"request-id": new_request_id()}
