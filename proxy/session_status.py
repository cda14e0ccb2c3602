"""The numbers of a client's sessions, for `llm-proxy statusline`. `llm-proxy run` adds them.

They are at an endpoint, and in no file: a file would have to be written several times a second, and
would outlive the proxy. The endpoint needs the same key as the other ones.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable
from typing import Any

from attrs import define, evolve, field, frozen

from pipeline import Send, Stage
from pipeline.chain import Chain
from pipeline.config.problems import Location
from pipeline.config.schema import Config, Pipeline
from stages.authenticate import Authenticate
from stages.events import Authenticated, HttpRequest, HttpResponse, json_response
from stages.exchange import Exchange
from stages.usage.report import Prices, configured_prices, cost_of
from stages.wire.json_codec import encode

#: The path of the endpoint, before the id of the session.
PATH = "/api/session-status/"
_MAX_SESSIONS = 1000


@define(eq=False)
class Session:
    """One session: its requests in flight, and the last one that ended with usage."""

    in_flight: dict[str, Exchange] = field(factory=dict)
    last: Exchange | None = None
    requests: int = 0
    cost: float | None = None
    """Of the requests that have ended; None if none of them has a price."""


@define(eq=False)
class Sessions:
    """The latest sessions, by id; at most `_MAX_SESSIONS`. `prices` are those of the config."""

    prices: Prices = lambda backend, model: ()
    _by_id: OrderedDict[str, Session] = field(factory=OrderedDict)

    def begin(self, exchange: Exchange) -> None:
        """Record an exchange from now on."""
        session = self._by_id.setdefault(exchange.session, Session())
        self._by_id.move_to_end(exchange.session)
        if len(self._by_id) > _MAX_SESSIONS:
            self._by_id.popitem(last=False)
        session.in_flight[exchange.id] = exchange

        def end(exchange: Exchange) -> None:
            del session.in_flight[exchange.id]
            session.requests += 1
            if (cost := cost_of(exchange, self.prices)) is not None:
                session.cost = (session.cost or 0) + cost
            if exchange.usage and exchange.target:
                session.last = exchange

        exchange.on_end.append(end)

    def status(self, session_id: str) -> dict[str, Any]:
        """Give the numbers of a session, as JSON; without those that are not known."""
        session = self._by_id.get(session_id, Session())
        waiting = [e.received for e in session.in_flight.values() if e.first_token is None]
        status: dict[str, Any] = {"requests": session.requests}
        if waiting:
            status["waiting_seconds"] = round(time.monotonic() - min(waiting), 1)
        if session.last:
            status |= _numbers(session.last)
        if session.cost is not None:
            status["cost"] = round(session.cost, 6)
        return status


def _numbers(exchange: Exchange) -> dict[str, Any]:
    usage, target = exchange.usage, exchange.target
    if usage is None or target is None:
        return {}
    numbers: dict[str, Any] = {
        "backend": target.backend,
        "model": target.model,
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cache_read_input_tokens,
        "output_tokens": usage.output_tokens,
    }
    if exchange.first_token and exchange.ended and exchange.ended - exchange.first_token > 0.1:
        seconds = exchange.ended - exchange.first_token
        numbers["tokens_per_second"] = round(usage.output_tokens / seconds, 1)
    return numbers


@frozen
class TrackSession(Stage[Authenticated, Authenticated]):
    """Record the exchanges that have a session."""

    sessions: Sessions

    def handle(self, event: Authenticated, forward: Send[Authenticated]) -> Awaitable[None]:
        if event.exchange.session:
            self.sessions.begin(event.exchange)
        return forward(event)


@frozen
class SessionStatus(Stage[Authenticated, HttpResponse]):
    """Report the numbers of one session as JSON."""

    sessions: Sessions

    async def handle(self, event: Authenticated, forward: Send[HttpResponse]) -> None:
        status = self.sessions.status(event.http.path_params.get("id", ""))
        for part in json_response(encode(status)):
            await forward(part)


def with_session_status(config: Config, sessions: Sessions, key: str) -> Config:
    """Give the config with a TrackSession in each messages pipeline, and with the endpoint.

    The costs of `sessions` are from now on by the prices of this config.
    """
    sessions.prices = configured_prices(config.sections["backends"], config.sections["models"])
    route = f"GET {PATH}{{id:path}}"
    stages = (Authenticate((key,)), SessionStatus(sessions))
    status = Pipeline(
        "session-status",
        (route,),
        stages,
        Chain.of(stages, HttpRequest),
        locations=(Location(), Location()),
        stage_names=("authenticate", "session-status"),
    )
    pipelines = (_tracked(pipeline, sessions) for pipeline in config.pipelines)
    return evolve(config, pipelines=(*pipelines, status))


def _tracked(pipeline: Pipeline, sessions: Sessions) -> Pipeline:
    kinds = [type(stage) for stage in pipeline.stages]
    if "POST /v1/messages" not in pipeline.routes or Authenticate not in kinds:
        return pipeline
    at = kinds.index(Authenticate) + 1
    stages = (*pipeline.stages[:at], TrackSession(sessions), *pipeline.stages[at:])
    locations = (*pipeline.locations[:at], pipeline.locations[at - 1], *pipeline.locations[at:])
    names = (*pipeline.stage_names[:at], "track-session", *pipeline.stage_names[at:])
    chain = Chain.of(stages, HttpRequest)
    return evolve(pipeline, stages=stages, locations=locations, chain=chain, stage_names=names)
