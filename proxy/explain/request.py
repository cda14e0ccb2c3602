"""The request that `explain` and `replay` send through a chain, from a file."""

from __future__ import annotations

import json
import re

from attrs import evolve, frozen

from pipeline.chain import AnyStage, Chain
from pipeline.config.schema import Pipeline
from stages.authenticate import Authenticate
from stages.events import HttpRequest
from stages.exchange import Exchange
from stages.limit import Limit
from stages.limits.section import LimitsSection
from stages.messages_api.errors import RequestTooLargeError
from stages.recording.lines import LineError, parse

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


@frozen
class Saved:
    """A request: the bytes of its body, and headers."""

    body: bytes
    headers: dict[str, str]


def saved(data: bytes) -> tuple[Saved, int]:
    """Read a file: the body of a request, or saved exchanges, one JSON object a line.

    An exchange has `request` and perhaps `headers`; see stages/recording/lines.py. Return the first
    exchange, and the number of the others.
    """
    lines = [line for line in data.splitlines() if line.strip()]
    for text, others in ((data, 0), (lines[0] if lines else b"", len(lines) - 1)):
        try:
            exchange = parse(text)
        except LineError:
            continue
        return Saved(json.dumps(exchange.request).encode(), dict(exchange.headers)), others
    return Saved(data, {}), 0  # `validate` says why it is not valid


def standalone(pipeline: Pipeline) -> Pipeline:
    """Give `pipeline` for a command, which has neither a client nor the counts of the proxy.

    If it has only named keys, it gets a key of its own: a config does not have those. Limits do not
    apply.
    """
    stages = tuple(map(_standalone, pipeline.stages))
    if stages == pipeline.stages:
        return pipeline
    return evolve(pipeline, stages=stages, chain=Chain.of(stages, HttpRequest))


def _standalone(stage: AnyStage) -> AnyStage:
    if isinstance(stage, Authenticate) and not stage.keys and not stage.is_open:
        return evolve(stage, keys=("explain",), named=None)
    if isinstance(stage, Limit):
        return evolve(stage, limits=LimitsSection())
    return stage


def make_request(pipeline: Pipeline, exchange: Exchange, source: Saved) -> HttpRequest:
    """Make the request as an endpoint does. Its key is the first one that the pipeline accepts."""
    route = next((r for r in pipeline.routes if r.startswith("POST ")), pipeline.routes[0])
    method, _, path = route.partition(" ")
    keys = [k for stage in pipeline.stages if isinstance(stage, Authenticate) for k in stage.keys]
    headers = {"content-type": "application/json", **source.headers}
    if keys:
        headers["x-api-key"] = keys[0]
    exchange.method, exchange.path = method, _PARAMETER.sub("x", path.strip())
    exchange.session = headers.get("x-claude-code-session-id", "")

    async def read(limit: int) -> bytes:
        if len(source.body) > limit:
            raise RequestTooLargeError(f"the body is larger than {limit} bytes")
        return source.body

    return HttpRequest(
        method,
        exchange.path,
        headers,
        path_params=dict.fromkeys(_PARAMETER.findall(path), "x"),
        exchange=exchange,
        read_body=read,
    )
