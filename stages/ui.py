"""The stage `ui`."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import anyio
from attrs import Factory, frozen

from pipeline import Send, Stage, section
from pipeline.config.schema import Pipeline
from stages.backends.backend import Backend
from stages.backends.config import ModelEntry
from stages.events import Authenticated, HttpRequest, HttpResponse, ResponseBody, ResponseStart
from stages.messages_api.errors import NotFoundError
from stages.page.details import gaps, stalls, time_line
from stages.page.overview import backend_views, pipeline_views
from stages.page.packing import unpack
from stages.page.parts import LISTED, exchange_part, in_flight, list_part, merged, part_of
from stages.page.recent import RecentExchanges
from stages.page.rendering import (
    JSON_HEADERS,
    PAGE_HEADERS,
    ended_row,
    load_templates,
    render,
    static_files,
)
from stages.page.usage import usage_view
from stages.routing.breaker import Breakers
from stages.usage.record import UsageRecord
from stages.usage.report import line_fields
from stages.wire.json_codec import encode


@frozen
class Ui(Stage[Authenticated, HttpResponse]):
    """Show a page for people: pipelines, backends, recent exchanges and usage.

    Its route needs the path itself and the paths below it: `[GET /ui, "GET /ui/{path:path}"]`. The
    section `ui` has the limit of its memory. The page shows prompts and responses only with
    `ui: {bodies: true}`.
    """

    recent: RecentExchanges = section("ui", Factory(RecentExchanges))
    backends: Mapping[str, Backend] = section("backends", Factory(dict))
    models: Mapping[str, ModelEntry] = section("models", Factory(dict))
    breakers: Breakers = section("circuit_breaker", Factory(Breakers))
    usage: UsageRecord = section("usage", Factory(UsageRecord))

    async def handle(self, event: Authenticated, forward: Send[HttpResponse]) -> None:
        path = _Path.of(event.http)
        name, _, argument = path.below.partition("/")
        status, headers = 200, PAGE_HEADERS
        await load_templates()
        if path.below == "":
            body = await self._overview(path, event.http.query)
        elif name == "exchanges":
            status, body = await self._exchange(path, argument)
        elif path.below == "usage":
            body = await self._usage(path, event.http.query)
        elif path.below == "usage.json":
            body, headers = await self._usage_json(event.http.query), JSON_HEADERS
        elif name == "static" and argument in static_files():
            body, headers = static_files()[argument]
        else:
            raise NotFoundError("the page has no such part")
        await forward(ResponseStart(status, {**headers, "content-length": str(len(body))}))
        await forward(ResponseBody(body))

    async def _overview(self, path: _Path, query: Mapping[str, str]) -> bytes:
        recent, before = self.recent, _time(query.get("before", ""))
        responses, parts = (await recent.ask(None, before)).decoded(list_part)
        shown = merged([part_of(recent, self.backends, before), *parts])
        running = chain(
            in_flight(recent, before), (unpack(bytes(data)) for _, data in shown.running)
        )
        states = self.breakers.states(anyio.current_time())
        errors = recent.backend_errors()
        return path.render(
            "overview",
            now=time.monotonic(),
            pipelines=pipeline_views(
                recent.pipelines, recent.drawings, shown.pipelines, shown.stages
            ),
            backends=backend_views(self.backends, self.models, errors, states, shown.backends),
            running=sorted(running, key=lambda each: each.received, reverse=True)[:LISTED],
            rows=[ended_row(bytes(data), path.base) for _, data in shown.ended],
            before=before,
            last=shown.ended[-1][0] if shown.older else None,
            shown=shown,
            max_bytes=recent.max_bytes * responses.responded,
            others=responses,
        )

    async def _exchange(self, path: _Path, id: str) -> tuple[int, bytes]:
        exchange, texts = self.recent.find(id), self.recent.texts(id)
        if exchange is None:
            responses, found = (await self.recent.ask(id, None)).decoded(exchange_part)
            if not found:
                return 404, path.render("missing", id=id, others=responses)
            exchange, texts = found[0]
        now = time.monotonic()
        line = time_line(exchange, now)
        values: dict[str, Any] = {"line": line, "gaps": gaps(exchange)}
        values["stalls"] = stalls(exchange, line.seconds)
        values |= {"bodies": self.recent.bodies, "texts": texts if self.recent.bodies else None}
        return 200, path.render("exchange", e=exchange, now=now, **values)

    async def _usage(self, path: _Path, query: Mapping[str, str]) -> bytes:
        view = await usage_view(self.usage, self.backends, self.models, query)
        return path.render("usage", view=view)

    async def _usage_json(self, query: Mapping[str, str]) -> bytes:
        view = await usage_view(self.usage, self.backends, self.models, query, "page" not in query)
        if view.problem:
            raise NotFoundError(view.problem)
        return encode([line_fields((view.by,), line) for line in view.lines])


def page_path(pipelines: Iterable[Pipeline]) -> str:
    """Return the path of the page; empty if none of these pipelines has the stage `ui`."""
    for pipeline in pipelines:
        if any(isinstance(stage, Ui) for stage in pipeline.stages):
            return min((route.split()[1] for route in pipeline.routes), key=len)
    return ""


def _time(text: str) -> float | None:
    """Return the time in a query, or None. JSON has no other numbers than finite ones."""
    try:
        before = float(text)
    except ValueError:
        return None
    return before if math.isfinite(before) else None


@frozen
class _Path:
    """Where a request is on the page. `below` is the path below that of the page.

    `base` leads from the path of the request to the page. It is relative: another proxy may add a
    prefix. `partial`: a page that is open asks for its contents only.
    """

    below: str
    base: str
    partial: bool

    @classmethod
    def of(cls, request: HttpRequest) -> _Path:
        below = next(iter(request.path_params.values()), "")
        root = request.path.removesuffix(below)
        levels = request.path.count("/") - root.rstrip("/").count("/")
        name = root.rstrip("/").rpartition("/")[2]
        return cls(below, "../" * levels + name, request.headers.get("hx-request") == "true")

    def render(self, template: str, **values: Any) -> bytes:
        """Render a template with links from this path."""
        common = {"base": self.base, "partial": self.partial, "process": os.getpid()}
        return render(template, part=template, **common, **values)
