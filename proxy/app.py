"""The ASGI application: what is served now, what was before, and the backends of both.

A reload puts another `Served` in the place of the current one. Requests that are under way finish
in the one they began in; when it has none left it is forgotten, and the backends that only it had
are closed. Of backends, a declaration keeps those that did not change (proxy/reload.py), so the
same Backend is found in both.
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

from pipeline.config.schema import Declaration
from pipeline.task_groups import task_group
from proxy import __version__
from proxy.admission import Admission
from proxy.backend_monitor import Attended
from proxy.config import used_backends
from proxy.keys import may_use
from proxy.reload import Reload
from proxy.request_body import Room
from proxy.routes import Methods, Served
from stages.queue import go_by_slots
from stages.routing.breaker import Breakers
from stages.wire.ids import new_request_id

#: Where Claude Code reports; its versions differ in what comes after the first part.
TELEMETRY = ("/api/event_logging/{rest:path}", "/api/claude_code/metrics")
#: Seconds between two looks at what nobody needs any more.
_TIDY_INTERVAL = 0.5


@define(eq=False)
class App:
    """The whole as an ASGI app, for a declaration and those that `reload` finds later.

    Its lifespan opens and closes the backends; `opened` is called when one of the first is open,
    `ended` when all are closed.
    `draining` is set by the server when it is about to end.
    """

    _declaration: Declaration
    _reload: Reload | None = None
    _opened: Callable[[], None] = lambda: None
    _ended: Callable[[], None] = lambda: None
    draining: bool = False
    room: Room = field(init=False)
    admission: Admission = field(init=False)
    """What the server calls for a request, so that it begins in its turn."""
    current: Served = field(init=False)
    retired: list[Served] = field(factory=list, init=False)
    """Declarations of before that have requests under way."""
    attended: list[Attended] = field(factory=list, init=False)

    @room.default
    def _room_at_the_start(self) -> Room:
        return Room(self._declaration.sections["server"].max_bodies_bytes)

    @admission.default
    def _admission_by_the_first(self) -> Admission:
        sections = self._declaration.sections
        return Admission(
            self,
            urgent=lambda path: path in self.current.urgent,
            max_delay=sections["server"].max_loop_delay,
            counts=sections["metrics"],
            around=lambda app: self.current.rules.around(app, refusing=False),
        )

    @current.default
    def _first(self) -> Served:
        return self._served(self._declaration)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        served = self.current
        app = served.direct.get(scope.get("path", ""), served.router)
        return app(scope, receive, send)

    def serve(self, group: TaskGroup, declaration: Declaration) -> None:
        """From now on, answer requests by this declaration. `group` is the lifespan's."""
        self.retired.append(self.current)
        self.current = self._served(declaration)
        for backend in self.current.backends.values():
            go_by_slots(backend)
        self._attend(group, first=False)

    def _served(self, declaration: Declaration) -> Served:
        host = self._reload.host if self._reload else declaration.sections["server"].host
        return Served.of(declaration, self.room, self._own(), lambda _: self.lifespan(), host)

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
            self._attend(group, first=True)
            group.start_soon(self._tidy)
            if self._reload is not None:
                group.start_soon(self._reload.run, functools.partial(self.serve, group))
            yield
            group.cancel_scope.cancel()
        self._ended()

    def _attend(self, group: TaskGroup, first: bool) -> None:
        """Look after the backends that models lead to, those that are new."""
        known = {each.backend for each in self.attended}
        for name, backend in used_backends(self.current.declaration).items():
            if backend not in known:
                attended = Attended(name, backend, self._opened if first else _nothing)
                self.attended.append(attended)
                group.start_soon(attended.run)

    async def _tidy(self) -> None:
        while True:
            await anyio.sleep(_TIDY_INTERVAL)
            self.retired = [served for served in self.retired if served.under_way]
            needed = {b for s in (self.current, *self.retired) for b in s.backends.values()}
            for each in self.attended:
                if each.backend not in needed:
                    each.end()
            self.attended = [each for each in self.attended if each.backend in needed]

    async def _ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Whether requests can be answered now, by what is known: nothing is waited for.

        The names of backends and targets are only for clients that may use the proxy.

        The circuit breakers of `targets` are told, and are no reason not to be ready, not even if
        all are open. They judge by requests, which would then no longer come: nobody would notice
        that a target is well again. And what balances the load would see all its proxies go at
        once, for all models, because one model's backends fail; an error of this proxy says more
        than none there. To declare `health` is the way to have it otherwise.
        """
        used = used_backends(self.current.declaration).values()
        faults = {each.name: each.fault for each in self.attended if each.backend in used}
        breakers: Breakers = self.current.declaration.sections["circuit_breaker"]
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
        if not await may_use(self.current.declaration, scope):
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
