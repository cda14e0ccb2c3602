"""A hardened version of uvicorn's httptools protocol. It also signals disconnects and shutdown.

It repairs these faults of uvicorn. A packet is the bytes of one call of `data_received`.

- Some clients offer HTTP/2 with `Upgrade: h2c` (Java's HttpClient, `curl --http2`). uvicorn loses
  the body of such a request, because its parser expects the other protocol after the head.
  HttpProtocol hides the offer from the parser. It misses an offer if the header name is split
  between two packets, or if an earlier request on the connection has no complete response yet.
  Java's client and curl send no such offers.
- uvicorn responds in plain text to bytes that are not HTTP, even within another response.
- uvicorn reports a disconnect to the last of several pipelined requests only.
- uvicorn stops reading while much of a body is buffered, and resumes when the application asks for
  more. After the last part of a body the application does not ask. So reading stays paused, and a
  disconnect is not noticed. HttpProtocol resumes reading at the end of a body.
- uvicorn adds the trailers of a chunked body to the headers of the request.
- uvicorn processes each chunk of a body separately, which is slow for small chunks. HttpProtocol
  joins the chunks of a packet.
- uvicorn accepts any number of pipelined requests. HttpProtocol refuses a request if
  `ConnectionLimits.requests` earlier ones have no complete response yet.
- A client that sends the header `Expect: 100-continue` may omit the body after a refusal. uvicorn
  then reads the next request as that body. HttpProtocol closes the connection after each request
  that has this header.
- uvicorn may destroy the last response on a connection: see proxy/http/transport.py.
- At shutdown, uvicorn cancels requests that take too long, and their clients get no error.
  HttpProtocol signals these requests `SHUTDOWN_NOTICE` seconds earlier.
- uvicorn has no read timeouts and no limit on headers: see proxy/http/limits.py.

HttpProtocol uses undocumented members of uvicorn's class, such as `cycle` (one request and its
response), `flow` and `pipeline`. Tests over sockets fail if these change.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from proxy.http.disconnect import REQUEST_SIGNALS, SHUTDOWN_NOTICE, RequestSignals, ServedApp
from proxy.http.limits import ConnectionLimits
from proxy.http.parse_errors import invalid_request
from proxy.http.response_cycle import ResponseCycle
from proxy.http.transport import ClosingTransport, error_response, unacknowledged_bytes
from stages.messages_api.errors import ApiError, InvalidRequestError, RequestTimeoutError
from stages.wire.ids import new_request_id

log = logging.getLogger("llm_proxy")

_UPGRADE = re.compile(rb"\r\nupgrade(?=[ \t]*:)", re.IGNORECASE)

#: uvicorn stops reading at a pipelined request. HttpProtocol resumes at the end of that request's
#: body if fewer than this many requests wait. uvicorn also resumes when a response ends or the
#: application reads, so more may wait. `ConnectionLimits.requests` is a strict limit.
_MAX_PIPELINED = 8


class HttpProtocol(HttpToolsProtocol):
    """One client connection."""

    _requests: tuple[RequestResponseCycle, ...] = ()
    """Requests, oldest first. Some may have a complete response by now: see `_unanswered`."""
    _heads = 0
    """Number of requests whose head is complete."""
    _in_body = False
    _bytes_outside_body = 0
    """Bytes of the packets since the last one that had a part of a body, or the end of a head or a
    body. `limits.head` limits them.
    """
    _received = 0
    _times_drained = 0
    """How often a full write buffer has drained, because the client read."""
    _ignores_input = False
    """Whether further bytes of the client are ignored."""
    _progress: object = None
    _progress_since = 0.0
    _last_check = 0.0
    _next_check: asyncio.TimerHandle | None = None

    def __init__(self, *, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(**options)
        self._chunks: list[bytes] = []
        self.served: ServedApp = self.config.loaded_app
        self.app = self.served.admission
        self.limits = limits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._ignores_input:
            return
        if self.cycle is None or self.cycle.response_complete:  # a request may begin
            end = data.find(b"\r\n\r\n")
            head = data if end < 0 else data[:end]
            if _UPGRADE.search(head):
                # This packet may belong to the body of a request that already has its response.
                # That body must keep its length, so `refused` is as long as `upgrade`.
                data = _UPGRADE.sub(b"\r\nrefused", head) + data[len(head) :]
        self._received += len(data)
        self._bytes_outside_body += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # what follows is not HTTP
            self._ignores_input = True
            self.cycle.keep_alive = False
        except httptools.HttpParserCallbackError as error:
            cause = error.__cause__ or error.__context__
            self._refuse(cause if isinstance(cause, ApiError) else invalid_request(error))
        except httptools.HttpParserError as error:
            self._refuse(invalid_request(error))
        else:
            self._join_chunks()
            if self._bytes_outside_body > self.limits.head:
                self._refuse(self.limits.head_too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][REQUEST_SIGNALS] = RequestSignals()

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.limits.head or len(self.headers) > self.limits.headers:
            raise self.limits.head_too_large()
        unanswered = self._unanswered()
        if len(unanswered) >= self.limits.requests:
            raise InvalidRequestError("too many pipelined requests: wait for their responses")
        super().on_headers_complete()
        # uvicorn has no option for the class. The change is safe: the cycle's task has not begun.
        self.cycle.__class__ = ResponseCycle
        if self.expect_100_continue or not self.cycle.keep_alive:
            self._close_after(self.cycle)
        self.headers = []  # trailers go into this list; the scope keeps the old one
        self._heads += 1
        self._bytes_outside_body = 0
        self._in_body = True
        self._requests = (*unanswered, self.cycle)

    def on_body(self, body: bytes) -> None:
        self._bytes_outside_body = 0
        self._chunks.append(body)

    def _join_chunks(self) -> None:
        """Pass the chunks of this packet to the application as one part."""
        if self._chunks:
            super().on_body(b"".join(self._chunks))
            self._chunks.clear()

    def on_message_complete(self) -> None:
        self._join_chunks()
        self._in_body = False
        self._bytes_outside_body = 0
        super().on_message_complete()
        if len(self.pipeline) < _MAX_PIPELINED:
            self.flow.resume_reading()

    def resume_writing(self) -> None:
        self._times_drained += 1
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # Remove the references to this object, so that it is freed at once.
        self._unset_keepalive_if_required()
        if self._next_check is not None:
            self._next_check.cancel()
        for cycle in self._requests:
            cycle.transport = self.transport
        unanswered = self._unanswered()
        for cycle, _ in self.pipeline:  # these requests never begin
            cycle.on_response = _do_nothing
        self.pipeline.clear()
        for cycle in unanswered:
            cycle.disconnected = True
            cycle.message_event.set()
            _signals(cycle).disconnect()

    def shutdown(self) -> None:
        self.served.drain()
        super().shutdown()
        delay = (self.config.timeout_graceful_shutdown or SHUTDOWN_NOTICE) - SHUTDOWN_NOTICE
        self.loop.call_later(delay, self._shut_down_requests)

    def _shut_down_requests(self) -> None:
        for cycle in self._unanswered():
            _signals(cycle).shut_down()

    def _close_after(self, cycle: RequestResponseCycle) -> None:
        """Close the connection when the response to a request is complete."""

        def discard_unread_body() -> bool:
            unread = self._in_body and cycle is self.cycle
            self._ignores_input = self._ignores_input or unread
            return unread

        cycle.keep_alive = False
        accepts_chunked = cycle.scope["http_version"] != "1.0"
        if not accepts_chunked:  # HTTP/1.0 has no chunks and no status 100 (RFC 9110, 10.1.1)
            cycle.waiting_for_100_continue = False
        cycle.transport = ClosingTransport(  # type: ignore[assignment]
            self.transport, accepts_chunked, discard_unread_body
        )

    def _unanswered(self) -> list[RequestResponseCycle]:
        return [cycle for cycle in self._requests if not cycle.response_complete]

    def _watch(self) -> None:
        """Check regularly whether the client makes progress. If it does not, time out."""
        self._next_check = self.loop.call_later(self.limits.check_interval, self._watch)
        now, (progress, timeout) = self.loop.time(), self._progress_and_timeout()
        # A late check means that the proxy was busy. Then the timeout restarts.
        delayed = now - self._last_check > 2 * self.limits.check_interval
        self._last_check = now
        if delayed or progress is None or progress != self._progress:
            self._progress, self._progress_since = progress, now
        elif now - self._progress_since >= timeout:
            self._time_out()

    def _progress_and_timeout(self) -> tuple[object, float]:
        """Return a value that changes when the client makes progress, and the timeout in seconds.

        The value is None while the proxy expects nothing of the client.
        """
        limits = self.limits
        if self.transport.get_write_buffer_size():
            unread = unacknowledged_bytes(self.transport)
            return ("read", self._times_drained, unread), limits.send_timeout
        if not self._unanswered():
            return ("head", self._heads, self._ignores_input), limits.client_timeout
        not_reading = self._ignores_input or self.flow.read_paused or self.cycle.response_complete
        if self._in_body and not not_reading:
            return ("body", self._received // limits.min_bytes_per_window), limits.client_timeout
        return None, 0

    def _time_out(self) -> None:
        deadline = f"within {self.limits.client_timeout:g} seconds; send the request again"
        if self.transport.get_write_buffer_size():
            self._abort_stalled_client()
        elif self._ignores_input:
            self.transport.abort()
        elif self._unanswered():
            minimum = self.limits.min_bytes_per_window
            message = f"fewer than {minimum} bytes of the request's body arrived {deadline}"
            self._refuse(RequestTimeoutError(message))
        elif self._bytes_outside_body and not self._in_body:
            self._refuse(RequestTimeoutError(f"the request's head did not arrive {deadline}"))
        else:
            self.transport.close()

    def _abort_stalled_client(self) -> None:
        """Abort the connection of a client that does not read, and log the reason."""
        unanswered = self._unanswered()
        for cycle in unanswered:
            _signals(cycle).disconnect_outcome = "client_stalled"
        if not unanswered and self.cycle is not None:  # the request's log line is already written
            request_id = _signals(self.cycle).request_id
            log.info("%s client does not read: its response is incomplete", request_id)
        self.transport.abort()

    def _refuse(self, error: ApiError) -> None:
        """Respond with `error`.

        Just close the connection if the error would come within another response, or before the
        response to an earlier request.
        """
        self._ignores_input = True
        unanswered = self._unanswered()
        if not unanswered:
            self._write_error(error)
        elif self._in_body and not (len(unanswered) > 1 or self.cycle.response_started):
            self._close_after(self.cycle)
            _signals(self.cycle).body_error = error  # RequestBody.read raises it
            self.cycle.message_event.set()
        else:
            self.transport.close()

    def _write_error(self, error: ApiError) -> None:
        """Write an error when no request is in flight. Then wait for the client to close.

        If the proxy closed before it had read all bytes of the client, the system would reset the
        connection. The reset could destroy the response.
        """
        request_id = new_request_id()
        self.transport.write(error_response(error, request_id))
        self.transport.write_eof()
        log.info("%s - - %d %s", request_id, error.status, error.message)


def _signals(cycle: RequestResponseCycle) -> RequestSignals:
    signals: RequestSignals = cycle.scope["state"][REQUEST_SIGNALS]
    return signals


def _do_nothing() -> None:
    """Replaces `on_response` of pipelined requests that never begin: the connection is lost."""
