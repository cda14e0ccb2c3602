"""The ASGI application: the current routing table, earlier ones, and their backends.

A reload replaces the current `RoutingTable`. Requests in flight finish in the table they began
in. A table without requests is dropped, and the backends that only it referred to are closed.
A config keeps the backends that did not change (proxy/reload.py), so both tables share them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from attrs import define, field
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from pipeline.config.schema import Config
from pipeline.task_groups import task_group
from proxy import built_in
from proxy.admission import Admission
from proxy.api_keys import may_use
from proxy.backend_monitor import BackendMonitor
from proxy.config import KEPT_SECTIONS, check_open_access, model_names, read, referenced_backends
from proxy.coordinator.sharing import Sharing
from proxy.http.disconnect import with_signals
from proxy.reload import Reload
from proxy.request_body import BodyBudget
from proxy.routes import Methods, RoutingTable
from proxy.shared_metrics import folder_from, share_metrics
from proxy.store_sharing import StoreSharing
from proxy.tracing import Tracing, tracing_from
from stages.messages_api.part_cache import PARTS
from stages.queue import apply_concurrency_limit
from stages.routing.breaker import Breakers
from stages.translation.conversation_cache import CONVERSATIONS

#: Seconds between two searches for unused tables and backends.
_CLOSE_INTERVAL = 0.5


@define(eq=False)
class App:
    """An ASGI app that serves a config, and the later configs that `reload` reads.

    Its lifespan opens and closes the backends. `on_backend_open` is called each time that a
    backend of the first config has opened, `on_close` when all backends are closed.
    `metrics_folder` and `sharing` have what several workers share: metrics, and the other state.
    """

    _config: Config
    _reload: Reload | None = None
    _on_backend_open: Callable[[], None] = lambda: None
    _on_close: Callable[[], None] = lambda: None
    _metrics_folder: Path | None = None
    _tracing: Tracing | None = None
    _sharing: Sharing | None = None
    _store_sharing: StoreSharing | None = field(init=False)
    body_budget: BodyBudget = field(init=False)
    admission: Admission = field(init=False)
    """Starts requests that have RequestSignals; see proxy/admission.py."""
    current: RoutingTable = field(init=False)
    retired: list[RoutingTable] = field(factory=list, init=False)
    """Tables of earlier configs, with requests in flight."""
    monitors: list[BackendMonitor] = field(factory=list, init=False)
    _draining: bool = field(default=False, init=False)

    @body_budget.default
    def _make_body_budget(self) -> BodyBudget:
        return BodyBudget(self._config.sections["server"].max_buffered_body_bytes)

    @admission.default
    def _make_admission(self) -> Admission:
        sections = self._config.sections
        return Admission(
            self.route,
            urgent=lambda path: path in self.current.urgent,
            max_delay=sections["server"].max_loop_delay,
            counts=sections["metrics"],
            wrap_refusal=lambda app: self.current.cross_origin.wrap(app, refusing=False),
        )

    @_store_sharing.default
    def _make_store_sharing(self) -> StoreSharing | None:
        return StoreSharing.of(self._config)

    @current.default
    def _make_first_table(self) -> RoutingTable:
        return self._table(self._config)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or the lifespan, of any ASGI server.

        HttpProtocol calls `admission` instead, with requests that have RequestSignals.
        """
        if scope["type"] == "http":
            await with_signals(self.admission, _without_root_path(scope), receive, send)
        elif scope["type"] == "lifespan":
            await self.current.router(scope, receive, send)
        else:  # a WebSocket: closed before it is accepted, it gets a 403
            await send({"type": "websocket.close"})

    def route(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Route a request that has RequestSignals and was admitted.

        It is not a coroutine function, which would put a frame around each event.
        """
        table = self.current
        app = table.static_paths.get(scope["path"], table.router)
        return app(scope, receive, send)

    def drain(self) -> None:
        """Report "stopping" as readiness from now on. The server calls it when it shuts down."""
        self._draining = True

    def serve(self, group: TaskGroup, config: Config) -> None:
        """Route new requests by this config. `group` is the lifespan's."""
        self.retired.append(self.current)
        self.current = self._table(config)
        for backend in self.current.backends.values():
            apply_concurrency_limit(backend)
        self._update_monitors(group, first=False)

    def _table(self, config: Config) -> RoutingTable:
        if self._store_sharing:
            self._store_sharing.attach(config)
        if self._sharing:
            self._sharing.attach(config)
        counters = config.sections["metrics"]
        counters.model_names, counters.config_digest = model_names(config), config.public_digest
        cache_bytes = config.sections["server"].conversation_cache_bytes
        PARTS.resize(cache_bytes * 5 // 8)  # in the proportion that one conversation needs
        CONVERSATIONS.resize(cache_bytes * 3 // 8)
        config.sections["ui"].serve(config.pipelines, self._backend_errors)
        host = self._reload.host if self._reload else config.sections["server"].host
        return RoutingTable.of(
            config,
            self.body_budget,
            self._built_in(),
            lambda _: self.lifespan(),
            host,
            self._tracing,
        )

    def _built_in(self) -> dict[str, Methods]:
        """Return the apps of the paths that need no pipeline."""
        read_only = {
            "/": built_in.root,
            "/api/hello": built_in.hello,
            "/health": built_in.health,
            "/health/live": built_in.health,
            "/health/ready": self._ready,
        }
        apps: dict[str, Methods] = {
            path: {"GET": app, "HEAD": app} for path, app in read_only.items()
        }
        return {**apps, **{path: {"POST": built_in.telemetry} for path in built_in.TELEMETRY}}

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open the backends in the background, so that the server listens at once; close them."""
        async with task_group() as group:
            if self._sharing:
                await self._sharing.start(group)
            if connection := self.current.config.sections["store"].connection:
                await group.start(connection.run)
            self._update_monitors(group, first=True)
            group.start_soon(self._close_retired)
            if folder := self._metrics_folder:
                counters = self.current.config.sections["metrics"]
                group.start_soon(share_metrics, folder, counters, lambda: self.current.config)
            if self._reload is not None:
                group.start_soon(self._reload.run, functools.partial(self.serve, group))
            yield
            group.cancel_scope.cancel()
        if self._tracing:
            self._tracing.close()
        # In a thread: it waits for the disk.
        for name in KEPT_SECTIONS:
            await anyio.to_thread.run_sync(self.current.config.sections[name].close)
        self._on_close()

    def _update_monitors(self, group: TaskGroup, first: bool) -> None:
        """Start monitors for the referenced backends that have none."""
        monitored = {monitor.backend for monitor in self.monitors}
        for name, backend in referenced_backends(self.current.config).items():
            if backend not in monitored:
                on_open = self._on_backend_open if first else _nothing
                monitor = BackendMonitor(name, backend, on_open)
                if self._sharing:
                    self._sharing.add(monitor)
                self.monitors.append(monitor)
                group.start_soon(monitor.run)

    async def _close_retired(self) -> None:
        while True:
            await anyio.sleep(_CLOSE_INTERVAL)
            self.retired = [table for table in self.retired if table.in_flight]
            used = {b for t in (self.current, *self.retired) for b in t.backends.values()}
            for monitor in self.monitors:
                if monitor.backend not in used:
                    monitor.stop()
            self.monitors = [monitor for monitor in self.monitors if monitor.backend in used]

    def _backend_errors(self) -> dict[str, str]:
        """Return why each referenced backend is not ready; empty, if it is."""
        used = referenced_backends(self.current.config).values()
        return {m.name: m.error for m in self.monitors if m.backend in used}

    async def _ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Report readiness from the monitors' latest results, without waiting.

        The digest, and the names of backends and targets, are shown only to clients that may use
        the proxy.

        The circuit breakers of `targets` are reported, but do not make the proxy unready, not even
        if all are open. A breaker judges by requests: without traffic it could never close again.
        A load balancer would also drop all proxies at once, for all models, when the backends of
        one model fail; this proxy's error responses say more. To make a backend's failure count
        for readiness, set its `health`. A store that does not respond is reported in the same way.
        """
        used = referenced_backends(self.current.config)
        errors = self._backend_errors()
        breakers: Breakers = self.current.config.sections["circuit_breaker"]
        states = breakers.states(anyio.current_time())
        report: dict[str, Any] = {
            "status": "ready",
            "digest": self.current.config.public_digest,
            "backends": {name: {"state": error or "ready"} for name, error in errors.items()},
            "targets": {label: {"state": state} for label, state in states.items()},
        }
        if connection := self.current.config.sections["store"].connection:
            report["store"] = {"state": connection.error or "ready"}
        if any(errors.values()) or len(errors) < len(used):
            report["status"] = "not ready"
        if self._draining:
            report["status"] = "stopping"
        if not await may_use(self.current.config, scope):
            report = {"status": report["status"]}
        status = 200 if report["status"] == "ready" else 503
        await JSONResponse(report, status, headers=built_in.headers())(scope, receive, send)


def make_app(config: str | None = None) -> App:
    """Return the proxy as an ASGI app, for an ASGI server or a framework that mounts it.

    The server must run asyncio, on its own loop or on uvloop; backends do not run on trio.

    `config` is the path of the config; default: LLM_PROXY_CONFIG, or ./pipelines.yaml. Of its
    section `server` the app uses the limits and the allowed hosts and origins, and follows changes
    of the file if `reload` is true. Set `host` to the address that the ASGI server listens on: it
    decides whether a config without keys is accepted. The server's own options replace the others.

    The ASGI lifespan opens and closes the backends. A framework that does not pass the lifespan on
    to mounted apps (Starlette, FastAPI) needs `async with app.lifespan():` in its own. Without it a
    backend opens at its first request, and is never closed or checked.

    OpenTelemetry's variables switch traces on. With several processes, set
    PROMETHEUS_MULTIPROC_DIR to an empty folder for their metrics.

    Raises ConfigError with every problem of the config.
    """
    loaded = read(config)
    server = loaded.sections["server"]
    check_open_access(loaded, server.host)
    reload = Reload(loaded, server.host, server.reload)
    return App(
        loaded, reload, metrics_folder=folder_from(os.environ), tracing=tracing_from(os.environ)
    )


def _without_root_path(scope: Scope) -> Scope:
    """Make the path relative to where the app is mounted; not every server puts that into it."""
    path, root_path = scope["path"], scope.get("root_path", "")
    if root_path and f"{path}/".startswith(f"{root_path}/"):
        path = path[len(root_path) :] or "/"
    return {**scope, "path": path, "root_path": ""}


def _nothing() -> None: ...
