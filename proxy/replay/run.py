"""Sends one recorded request through a chain."""

from __future__ import annotations

import json
import time
from typing import Any

from attrs import frozen

from proxy.explain.request import Saved, make_request
from proxy.replay.target import Against
from stages.events import HttpResponse, ResponseBody
from stages.exchange import Exchange
from stages.messages_api.errors import ApiError
from stages.recording.lines import Recorded, ResponseCollector
from stages.wire.ids import new_request_id


@frozen
class Result:
    """How an exchange ended: the recorded one, or the new one."""

    response: dict[str, Any] | None
    error: str = ""
    """The type of the error that the client gets; empty without one."""
    message: str = ""
    seconds: float = 0.0
    target: str = ""
    """The backend and the model that responded."""


async def replay(against: Against, recorded: Recorded) -> Result:
    """Send the request of a recorded exchange. It is neither recorded nor counted."""
    body = dict(recorded.request)
    if against.model is not None:
        body["model"] = against.model
    exchange = Exchange(id=new_request_id(), pipeline=against.pipeline.name)
    collector = ResponseCollector()
    exchange.on_stream_event.append(collector.add)
    saved = Saved(json.dumps(body).encode(), dict(recorded.headers))
    request = make_request(against.pipeline, exchange, saved)
    error = message = ""
    complete = False

    async def sink(event: HttpResponse) -> None:
        nonlocal complete
        complete = isinstance(event, ResponseBody) and not event.more

    began = time.monotonic()
    try:
        await against.pipeline.chain.run(request, sink)
    except ApiError as raised:
        error, message = raised.type, raised.message
    if not complete and not error:
        error, message = "api_error", "the pipeline ended without a response"
    seconds = time.monotonic() - began
    target = f"{exchange.target.backend}/{exchange.target.model}" if exchange.target else ""
    return Result(collector.message(), error, message, seconds, target)


def recorded_result(recorded: Recorded) -> Result | None:
    """The recorded result; None, if the exchange was not ended by its response or an error."""
    exchange = recorded.exchange
    outcome = exchange.get("outcome")
    if outcome not in ("complete", "error"):
        return None
    began, ended = exchange.get("received"), exchange.get("ended")
    seconds = ended - began if isinstance(began, float) and isinstance(ended, float) else 0.0
    attempts = exchange.get("attempts")
    last = attempts[-1] if isinstance(attempts, list) and attempts else {}
    target = last.get("target") if isinstance(last, dict) else None
    return Result(
        recorded.response,
        str(exchange.get("error") or ""),
        str(exchange.get("message") or ""),
        seconds,
        f"{target.get('backend')}/{target.get('model')}" if isinstance(target, dict) else "",
    )
