"""One HTTP request through one pipeline: the ASGI side of it.

what happens                          what the client sees
-----------------------------------   -----------------------------------------------
a stage raises ApiError, no byte out  its status, a JSON error
the same, with a stream under way     an SSE `error` event, then the end; no message_stop
the same, with half a body of JSON    the connection is closed
anything else is raised: a bug        500 api_error without details; traceback in the log, without
                                      the texts of exceptions: they may quote the prompt
the client leaves, or does not read   nothing; the chain is cancelled at once
the proxy stops, and waits no longer  as if a stage had raised OverloadedError
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from urllib.parse import parse_qsl

import anyio
from attrs import define, field
from starlette.types import Message, Receive, Scope, Send

from pipeline.chain import Chain
from proxy.http.disconnect import REQUEST_SIGNALS, SHUTDOWN_NOTICE, RequestSignals
from proxy.logs import traceback_without_messages
from proxy.request_body import BodyBudget, ClientDisconnectedError, RequestBody
from stages.counters import Counters
from stages.events import GZIP, HttpRequest, HttpResponse, ResponseBody, ResponseStart
from stages.messages_api.errors import ApiError, InternalError, OverloadedError, drop_traceback
from stages.wire.ids import new_request_id
from stages.wire.json_codec import encode
from stages.wire.sse import encode_event

log = logging.getLogger("llm_proxy")


@define
class ResponseWriter:
    """Sends the parts of one answer, and knows how far it is."""

    send: Send
    request_id: str
    status: int = 0
    stream: bool = False
    complete: bool = False

    async def sink(self, event: HttpResponse) -> None:
        """Send one part."""
        # What is noted has been sent: a client that reads slowly may keep `send` waiting, and then
        # the request may end without it.
        if isinstance(event, ResponseBody):
            message = {"type": "http.response.body", "body": event.data, "more_body": event.more}
            await self.send(message)
            self.complete = not event.more
        elif isinstance(event, ResponseStart):
            start = _start(event.status, {**event.headers, "request-id": self.request_id})
            await self.send(start)
            self.status = event.status
            self.stream = event.headers.get("content-type", "").startswith("text/event-stream")

    async def fail(self, error: ApiError) -> None:
        """Tell the client of an error, in the way that is still open."""
        body = error.body(self.request_id)
        if not self.status:
            data = encode(body)
            headers = {"content-type": "application/json", "content-length": str(len(data))}
            await self.sink(ResponseStart(error.status, {**headers, **error.headers}))
            await self.sink(ResponseBody(data))
        elif self.stream and not self.complete:
            await self.sink(ResponseBody(encode_event("error", encode(body))))


# What cannot stand in a header. Names out of requests end there, and a new line in one would
# break the answer off.
_UNFIT = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


def _start(status: int, headers: dict[str, str]) -> Message:
    raw = [
        (name.encode("latin-1"), _UNFIT.sub("?", value).encode("latin-1"))
        for name, value in headers.items()
    ]
    return {"type": "http.response.start", "status": status, "headers": raw}


@define(eq=False)
class PipelineEndpoint:
    """An ASGI app that answers with a pipeline."""

    name: str
    chain: Chain
    body_budget: BodyBudget
    counts: Counters = field(factory=Counters)
    in_flight: int = field(default=0, init=False)
    """How many requests are not finished."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.monotonic()
        departure: RequestSignals = scope["state"][REQUEST_SIGNALS]
        body = RequestBody(receive, departure, self.body_budget)
        request = _request(scope, body)
        departure.request_id = request.request_id
        responder = ResponseWriter(send, request.request_id)
        self.in_flight += 1
        try:
            if not (departure.disconnected or departure.shutting_down):
                with anyio.CancelScope() as until_then:
                    departure.on_signal = until_then.cancel
                    await self._answer(request, responder)
            if departure.shutting_down and not (departure.disconnected or responder.complete):
                with anyio.move_on_after(SHUTDOWN_NOTICE / 2):  # it may read nothing any more
                    await _fail(request, responder, _STOPPING)
        finally:
            self.in_flight -= 1
            body.release()
        self.counts.responses[self.name, str(responder.status or "none")] += 1
        self._log(request, responder, departure, time.monotonic() - started)

    async def _answer(self, request: HttpRequest, responder: ResponseWriter) -> None:
        try:
            await self.chain.run(request, responder.sink)
            if not responder.complete:
                raise InternalError("the pipeline ended without an answer")
        except ApiError as error:
            drop_traceback(error)
            await _fail(request, responder, error)
        except ClientDisconnectedError:
            log.debug("%s: the client left before its request was whole", request.request_id)
        except Exception as error:  # the one place where bugs end
            trace = traceback_without_messages(error)
            log.error("%s: pipeline `%s` failed\n%s", request.request_id, self.name, trace)
            log.debug("%s: all of it:", request.request_id, exc_info=True)
            drop_traceback(error)
            # Unless the server had begun already, with a head that is none.
            with contextlib.suppress(RuntimeError):
                await responder.fail(InternalError("internal error; the proxy's log has more"))

    def _log(
        self,
        request: HttpRequest,
        answer: ResponseWriter,
        departure: RequestSignals,
        seconds: float,
    ) -> None:
        how = departure.reason if departure.disconnected else "broken off"
        log.info(
            "%s %s %s %d %.3fs%s%s",
            request.request_id,
            request.method,
            log_safe(request.path),
            answer.status,
            seconds,
            " ".join(["", *request.remarks]),
            "" if answer.complete else f" {how}",
        )


_STOPPING = OverloadedError("the proxy is stopping; try again in a moment")


async def _fail(request: HttpRequest, responder: ResponseWriter, error: ApiError) -> None:
    log.info("%s %s: %s", request.request_id, error.type, log_safe(error.log_message))
    log.debug("%s: all of it: %s", request.request_id, log_safe(error.message))
    await responder.fail(error)


def _request(scope: Scope, body: RequestBody) -> HttpRequest:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    length = headers.get("content-length", "")
    body.declared = int(length) if length.isdecimal() else 0
    body.gzip = headers.get("content-encoding", "").lower() in GZIP
    query = scope["query_string"].decode("latin-1")
    return HttpRequest(
        method=scope["method"],
        path=scope["path"],
        headers=headers,
        query=dict(parse_qsl(query)) if query else {},
        path_params=scope.get("path_params", {}),
        request_id=new_request_id(),
        read_body=body.read,
    )


def log_safe(text: str) -> str:
    """`text` as it can stand in a log: what clients send must not look like a line of ours."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


async def send_error(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request that no pipeline is there for."""
    responder = ResponseWriter(send, new_request_id())
    log.info("%s %s: %s", responder.request_id, error.type, log_safe(error.log_message))
    await responder.fail(error)
    path = log_safe(scope["path"])
    log.info("%s %s %s %d", responder.request_id, scope["method"], path, error.status)
