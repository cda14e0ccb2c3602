"""HTTP/1.1 as uvicorn speaks it with httptools, which also tells when a client leaves.

Faults of it that are mended:

- A client that offers HTTP/2 (`Upgrade: h2c`: Java's HttpClient, `curl --http2`) lost its body:
  the parser stops behind the head and waits for the other protocol. The offer is taken out.
  It has to come whole in the packet that begins the request, as these clients send it.
- Bytes that are no HTTP were answered with plain text instead of the API's error, also in the
  middle of another answer.
- Of pipelined requests only the last one was told that the client had left.
- It stops reading while much of a body waits to be taken, and goes on only when the application
  asks for more. With the last of a body nobody does; then nobody would see the client leave.
- Headers behind a chunked body were added to those of the request.
- It took any number of requests in one packet, at a cost that grew with their square; so did a body
  in chunks of a byte. The chunks of a packet are one piece now.
- Of a client that waits for `100 Continue` and is refused it cannot know whether the body comes
  nevertheless; it took the next request for it. Now the refusal ends the connection.
- What it does wrong with the last answer of a connection: proxy/http/transport.py.
- When it waited no longer for requests at its end, it cancelled them: their clients were told
  nothing. They are told now, `SHUTDOWN_NOTICE` before that.
- It waited for ever, and took heads of any size. What is waited for now, as long as Limits say:

what the client owes                          what ends the wait     too late
-------------------------------------------   --------------------   ------------------------
a request's head                              its last byte          408; nothing, if none came
its body, while the application wants it      `min_bytes_per_window` bytes      408
the rest of a body that has its answer        its last byte          the connection is closed
to read what was written                      each byte              the connection is closed
to close, after a refusal                                            the connection is closed

Pinned to uvicorn's attributes `cycle`, `flow` and its cycles; tests on sockets tell if they change.
"""

from __future__ import annotations

import asyncio
import logging
import re
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from proxy.http.disconnect import REQUEST_SIGNALS, SHUTDOWN_NOTICE, RequestSignals
from proxy.http.limits import ConnectionLimits
from proxy.http.transport import ClosingTransport
from proxy.http.unacknowledged import unacknowledged_bytes
from stages.messages_api.errors import (
    ApiError,
    HeadTooLargeError,
    InvalidRequestError,
    RequestTimeoutError,
)
from stages.wire.ids import new_request_id
from stages.wire.json_codec import encode

log = logging.getLogger("llm_proxy")

_UPGRADE = re.compile(rb"\r\nupgrade(?=[ \t]*:)", re.IGNORECASE)

# Of one connection. Beyond, it is not read any further until one of them is answered.
_MAX_WAITING = 8
_NO_HTTP = "these bytes are no HTTP/1.1 request: send one, without TLS"
_ONE_LENGTH = "the request has both Transfer-Encoding and Content-Length: send only one of them"
#: By the parser's message.
_CONFLICTS = {
    "Transfer-Encoding can't be present with Content-Length": _ONE_LENGTH,
    "Content-Length can't be present with Transfer-Encoding": _ONE_LENGTH,
    "Duplicate Content-Length": "the request has more than one Content-Length: send only one",
}


class HttpProtocol(HttpToolsProtocol):
    """One connection of a client."""

    _cycles: tuple[RequestResponseCycle, ...] = ()
    """Requests that are not answered yet."""
    _heads = 0
    """How many requests have begun."""
    _in_body = False
    _unspent = 0
    """Bytes since a head was whole, or a piece of a body came."""
    _received = 0
    _resumed = 0
    """How often the client has read what was too much to write."""
    _refused = False
    """Whether the rest of what the client sends is of no interest."""
    _expected: object = None
    _owed_since = 0.0
    _looked = 0.0
    _check: asyncio.TimerHandle | None = None

    def __init__(self, *, limits: ConnectionLimits, **given: Any) -> None:
        super().__init__(**given)
        self._chunks: list[bytes] = []
        self.app = self.config.loaded_app.admission
        self.limits = limits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._refused:
            return
        if self.cycle is None or self.cycle.response_complete:  # a request begins
            head, end, rest = data.partition(b"\r\n\r\n")
            if _UPGRADE.search(head):  # of the same length: it may be the rest of a refused body
                data = _UPGRADE.sub(b"\r\nrefused", head) + end + rest
        self._received += len(data)
        self._unspent += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # nothing behind it is a request
            self._refused = True
            self.cycle.keep_alive = False
        except httptools.HttpParserCallbackError as error:
            cause = error.__cause__ or error.__context__
            self._refuse(cause if isinstance(cause, ApiError) else InvalidRequestError(_NO_HTTP))
        except httptools.HttpParserError as error:
            self._refuse(InvalidRequestError(_CONFLICTS.get(str(error), _NO_HTTP)))
        else:
            self._join_chunks()
            if self._unspent > self.limits.head:
                self._refuse(self._too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][REQUEST_SIGNALS] = RequestSignals()

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.limits.head or len(self.headers) > self.limits.headers:
            raise self._too_large()
        waiting = self._unanswered()
        if len(waiting) >= self.limits.requests:
            raise InvalidRequestError("too many requests at once: wait for their answers")
        super().on_headers_complete()
        if self.expect_100_continue or not self.cycle.keep_alive:
            self._ends_with(self.cycle)
        self.headers = []  # the request has its own; what comes now stands behind the body
        self._heads += 1
        self._unspent = 0
        self._in_body = True
        self._cycles = (*waiting, self.cycle)

    def on_body(self, body: bytes) -> None:
        self._unspent = 0
        self._chunks.append(body)

    def _join_chunks(self) -> None:
        """Give the application what came in this packet, as one piece."""
        if self._chunks:
            super().on_body(b"".join(self._chunks))
            self._chunks.clear()

    def on_message_complete(self) -> None:
        self._join_chunks()
        self._in_body = False
        self._unspent = 0
        super().on_message_complete()
        if len(self.pipeline) < _MAX_WAITING:
            self.flow.resume_reading()

    def resume_writing(self) -> None:
        self._resumed += 1
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # else, after a reset, its timer keeps all this
        if self._check is not None:
            self._check.cancel()
        for (
            cycle
        ) in self._cycles:  # or a ClosingTransport would hold all this, and it the ClosingTransport
            cycle.transport = self.transport
        waiting = self._unanswered()
        for cycle, _ in self.pipeline:  # they never begin, or they would let go of this themselves
            cycle.on_response = _nothing
        self.pipeline.clear()
        for cycle in waiting:
            cycle.disconnected = True
            cycle.message_event.set()
            cycle.scope["state"][REQUEST_SIGNALS].disconnect()

    def shutdown(self) -> None:
        self.config.loaded_app.draining = True
        super().shutdown()
        limit = (self.config.timeout_graceful_shutdown or SHUTDOWN_NOTICE) - SHUTDOWN_NOTICE
        self.loop.call_later(limit, self._stop_waiting)

    def _stop_waiting(self) -> None:
        for cycle in self._unanswered():
            cycle.scope["state"][REQUEST_SIGNALS].shut_down()

    def _ends_with(self, cycle: RequestResponseCycle) -> None:
        """Let the connection end when a request is answered."""

        def refuse_rest() -> bool:
            rest = self._in_body and cycle is self.cycle
            self._refused = self._refused or rest
            return rest

        cycle.keep_alive = False
        knows_chunks = cycle.scope["http_version"] != "1.0"
        if not knows_chunks:  # nor what is no answer yet (RFC 9110, 10.1.1)
            cycle.waiting_for_100_continue = False
        cycle.transport = ClosingTransport(self.transport, knows_chunks, refuse_rest)  # type: ignore[assignment]

    def _unanswered(self) -> list[RequestResponseCycle]:
        return [cycle for cycle in self._cycles if not cycle.response_complete]

    def _watch(self) -> None:
        """See that the client does what it has to, or give it up."""
        self._check = self.loop.call_later(self.limits.check_interval, self._watch)
        now, (owed, patience) = self.loop.time(), self._next_expectation()
        stood_still = (
            now - self._looked > 2 * self.limits.check_interval
        )  # then it was the proxy's fault
        self._looked = now
        if stood_still or owed is None or owed != self._expected:
            self._expected, self._owed_since = owed, now
        elif now - self._owed_since >= patience:
            self._time_out()

    def _next_expectation(self) -> tuple[object, float]:
        """What changes when the client does what it has to, and within how many seconds.

        None, if it is not its turn.
        """
        limits = self.limits
        if self.transport.get_write_buffer_size():
            return (
                "read",
                self._resumed,
                unacknowledged_bytes(self.transport),
            ), limits.send_timeout
        if not self._unanswered():
            return ("head", self._heads, self._refused), limits.client_timeout
        unwanted = self._refused or self.flow.read_paused or self.cycle.response_complete
        if self._in_body and not unwanted:
            return ("body", self._received // limits.min_bytes_per_window), limits.client_timeout
        return None, 0

    def _time_out(self) -> None:
        patience = self.limits.client_timeout
        late = f"within {patience:g} seconds; send it again"
        if self.transport.get_write_buffer_size():
            self._disconnect_reader()
        elif self._refused:
            self.transport.abort()
        elif self._unanswered():
            few = (
                f"less than {self.limits.min_bytes_per_window} bytes of the request's body arrived"
            )
            self._refuse(RequestTimeoutError(f"{few} {late}"))
        elif self._unspent and not self._in_body:
            self._refuse(RequestTimeoutError(f"the request's head did not arrive {late}"))
        else:
            self.transport.close()

    def _disconnect_reader(self) -> None:
        """Give up a client that does not read; for a request under way its own line says so."""
        waiting = self._unanswered()
        for cycle in waiting:
            cycle.scope["state"][REQUEST_SIGNALS].reason = "client_stalled"
        if not waiting and self.cycle is not None:  # its line is written
            told = self.cycle.scope["state"][REQUEST_SIGNALS].request_id
            log.info("%s client does not read: it has not got all of its answer", told)
        self.transport.abort()

    def _too_large(self) -> ApiError:
        return HeadTooLargeError(
            f"the request's head is larger than {self.limits.head} bytes or has more than "
            f"{self.limits.headers} headers: send less"
        )

    def _refuse(self, error: ApiError) -> None:
        """Answer `error` where that can be done, and let nothing more in."""
        self._refused = True
        waiting = self._unanswered()
        if not waiting:
            self._write_error(error)
        elif self._in_body and not (len(waiting) > 1 or self.cycle.response_started):
            self._ends_with(self.cycle)
            self.cycle.scope["state"][
                REQUEST_SIGNALS
            ].error = error  # whoever reads the body raises it
            self.cycle.message_event.set()
        else:  # it would stand in the middle of another answer
            self.transport.close()

    def _write_error(self, error: ApiError) -> None:
        """Write an answer to what is no request; then wait for the client to close.

        Closing at once, with bytes of the client unread, could take the answer from it.
        """
        request_id = new_request_id()
        body = encode(error.body(request_id))
        head = (
            f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
            "content-type: application/json\r\n"
            f"content-length: {len(body)}\r\nrequest-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.write_eof()
        log.info("%s - - %d %s", request_id, error.status, error.message)


def _nothing() -> None:
    """What follows an answer on a connection that is lost."""
