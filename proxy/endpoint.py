"""The ASGI endpoint that runs one HTTP request through one pipeline.

event                                 what the client gets
-----------------------------------   -----------------------------------------------
a stage raises ApiError, before the   its status, a JSON error
  response has started
the same, after a stream has begun    an SSE `error` event, then the end; no message_stop
the same, after a JSON body has       the connection is closed
  begun
any other exception: a bug            500 api_error without details; traceback in the log, without
                                      the messages of exceptions: they may quote the prompt
the client disconnects, or does not   nothing; the chain is cancelled at once
  read
the proxy shuts down, and this        the same as if a stage raised OverloadedError
  request took too long
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from urllib.parse import parse_qsl

import anyio
from attrs import define, field
from starlette.types import Message, Receive, Scope, Send

from pipeline.chain import Chain, Observer
from proxy.access_log import log_exchange
from proxy.http.disconnect import HEADER_LINES, REQUEST_SIGNALS, SHUTDOWN_NOTICE, RequestSignals
from proxy.logging_setup import traceback_without_messages
from proxy.request_body import BodyBudget, ClientDisconnectedError, RequestBody
from stages.counters import Counters
from stages.events import GZIP_ENCODINGS, HttpRequest, HttpResponse, ResponseBody, ResponseStart
from stages.exchange import Exchange, Outcome
from stages.messages_api.errors import ApiError, InternalError, OverloadedError, drop_traceback
from stages.wire.ids import new_request_id
from stages.wire.json_codec import encode
from stages.wire.printable import printable
from stages.wire.sse import encode_event

log = logging.getLogger("llm_proxy")


@define
class ResponseWriter:
    """Sends the parts of one response, and records its progress. `exchange` gets the status."""

    send: Send
    exchange: Exchange
    stream: bool = False
    complete: bool = False

    async def write(self, event: HttpResponse) -> None:
        """Send one part."""
        # Record the progress after `send`: if the client is slow, `send` waits, and the request may
        # be cancelled during the wait.
        if isinstance(event, ResponseBody):
            message = {"type": "http.response.body", "body": event.data, "more_body": event.more}
            await self.send(message)
            self.complete = not event.more
        elif isinstance(event, ResponseStart):
            start = _start(event.status, {**event.headers, "request-id": self.exchange.id})
            if self.exchange.header_lines:
                start[HEADER_LINES] = self.exchange.header_lines
            await self.send(start)
            self.exchange.status = event.status
            self.stream = event.headers.get("content-type", "").startswith("text/event-stream")

    async def fail(self, error: ApiError) -> None:
        """Send an error: as a response, or as an event if a stream has begun, or not at all."""
        self.exchange.error, self.exchange.message = error.type, error.log_message
        self.exchange.full_message = error.message
        body = error.body(self.exchange.id)
        if not self.exchange.status:
            data = encode(body)
            headers = {"content-type": "application/json", "content-length": str(len(data))}
            await self.write(ResponseStart(error.status, {**headers, **error.headers}))
            await self.write(ResponseBody(data))
        elif self.stream and not self.complete:
            await self.write(ResponseBody(encode_event("error", encode(body))))


# Characters that are not valid in a header. Header values contain names from requests. A newline
# in such a name would break the response.
_INVALID_IN_HEADER = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


def _start(status: int, headers: dict[str, str]) -> Message:
    raw = [
        (name.encode("latin-1"), _INVALID_IN_HEADER.sub("?", value).encode("latin-1"))
        for name, value in headers.items()
    ]
    return {"type": "http.response.start", "status": status, "headers": raw}


@define(eq=False)
class PipelineEndpoint:
    """An ASGI app that runs a pipeline. It needs RequestSignals in `scope["state"]`."""

    name: str
    chain: Chain
    body_budget: BodyBudget
    counts: Counters = field(factory=Counters)
    start_trace: Callable[[HttpRequest], None] | None = None
    """Called with each request, if the proxy makes traces."""
    observe: Callable[[Exchange], Observer | None] | None = None
    """Called with each exchange, if the config has a reader of its stages' times or the stage `ui`.

    Returns the observer of the request's way through the chain, or None.
    """
    logs_success: bool = True
    """Whether responses without an error are logged. An open page sends a request each second."""
    in_flight: int = field(default=0, init=False)
    """Number of requests in flight."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        signals: RequestSignals = scope["state"][REQUEST_SIGNALS]
        body = RequestBody(receive, signals, self.body_budget)
        request = _request(scope, body, self.name)
        exchange = request.exchange
        signals.request_id = exchange.id
        writer = ResponseWriter(send, exchange)
        self.in_flight += 1
        try:
            if not (signals.disconnected or signals.shutting_down):
                with anyio.CancelScope() as cancel_scope:
                    signals.cancel_on_signal(cancel_scope)
                    if await _catch_bug(exchange, self._run(request, writer)):
                        await _fail_after_bug(writer)
            if signals.shutting_down and not (signals.disconnected or writer.complete):
                with anyio.move_on_after(SHUTDOWN_NOTICE / 2):  # the client may not read
                    await writer.fail(_SHUTTING_DOWN)
        finally:
            self.in_flight -= 1
            body.release()
        exchange.ended = time.monotonic()
        exchange.outcome = _outcome(writer, signals)
        self.counts.count(exchange)
        if self.logs_success or exchange.outcome != "complete":
            log_exchange(exchange)
        functions = iter(exchange.on_end)
        while await _catch_bug(exchange, _call_each(functions, exchange)):
            pass  # the bug of one function does not stop the others

    async def _run(self, request: HttpRequest, writer: ResponseWriter) -> None:
        try:
            if self.start_trace is not None:
                self.start_trace(request)
            observer = self.observe(request.exchange) if self.observe is not None else None
            await self.chain.run(request, writer.write, observer)
            if not writer.complete:
                raise InternalError("the pipeline ended without a response")
        except ApiError as error:
            drop_traceback(error)
            log.debug("%s error in full: %s", request.exchange.id, printable(error.message))
            await writer.fail(error)
        except ClientDisconnectedError:
            log.debug("%s client disconnected while sending its body", request.exchange.id)


async def _catch_bug(exchange: Exchange, work: Coroutine[Any, Any, None]) -> bool:
    """Await `work`. Log an exception that it raises, and return whether it raised one."""
    try:
        await work
    except Exception as error:  # the only broad `except`: a bug ends here
        trace = traceback_without_messages(error)
        log.error("%s: pipeline `%s` failed\n%s", exchange.id, exchange.pipeline, trace)
        log.debug("%s error in full:", exchange.id, exc_info=True)
        drop_traceback(error)
        return True
    return False


async def _fail_after_bug(writer: ResponseWriter) -> None:
    # After an invalid head, the server has begun a response and raises RuntimeError.
    with contextlib.suppress(RuntimeError):
        await writer.fail(InternalError("internal error; the proxy's log has more"))


async def _call_each(functions: Iterator[Callable[[Exchange], None]], exchange: Exchange) -> None:
    for function in functions:
        function(exchange)


def _outcome(writer: ResponseWriter, signals: RequestSignals) -> Outcome:
    if signals.disconnected and not writer.complete:
        return signals.disconnect_outcome
    if not writer.complete:
        return "aborted"
    return "error" if writer.exchange.error else "complete"


_SHUTTING_DOWN = OverloadedError("the proxy is shutting down; try again in a moment")


def _request(scope: Scope, body: RequestBody, pipeline: str) -> HttpRequest:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    length = headers.get("content-length", "")
    body.content_length = int(length) if length.isdecimal() else 0
    body.gzip = headers.get("content-encoding", "").lower() in GZIP_ENCODINGS
    query = scope["query_string"].decode("latin-1")
    exchange = Exchange(
        id=new_request_id(),
        pipeline=pipeline,
        method=scope["method"],
        path=scope["path"],
        session=headers.get("x-claude-code-session-id", ""),
        agent=headers.get("x-claude-code-agent-id", ""),
        parent_agent=headers.get("x-claude-code-parent-agent-id", ""),
    )
    return HttpRequest(
        method=scope["method"],
        path=scope["path"],
        headers=headers,
        query=dict(parse_qsl(query)) if query else {},
        path_params=scope.get("path_params", {}),
        exchange=exchange,
        read_body=body.read,
    )


async def send_error(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    """Respond to a request that no pipeline handles."""
    exchange = Exchange(id=new_request_id(), method=scope["method"], path=scope["path"])
    await ResponseWriter(send, exchange).fail(error)
    exchange.ended, exchange.outcome = time.monotonic(), "error"
    log_exchange(exchange)
