"""Read the response to one call from its connection: chunks, or a whole completion."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp
import anyio
from attrs import define, field

from stages.backends.call import CLIENT_EXCEPTIONS, BackendCall
from stages.backends.errors import error_from_exception
from stages.chat_completions.chunk_decoding import (
    decode_chunk,
    decode_completion,
    is_stream,
    is_undecided,
    media_type,
    recover_chunks,
)
from stages.chat_completions.errors import error_from_status
from stages.messages_api.errors import ApiError, GatewayTimeoutError, InternalError, drop_traceback
from stages.wire.sse import SseDecoder

_MAX_ERROR_BYTES = 1024 * 1024
#: Limit of a response that is buffered until it is complete. A forwarded stream has no limit.
_MAX_BUFFERED_BYTES = 64 * 1024 * 1024
#: Seconds that the body may take to end after `[DONE]`.
_DRAIN_TIMEOUT = 0.05


@define
class BackendResponse:
    """The response to one call. `send` sends the request and returns at the response's head.

    Entering sends the request. Leaving returns the connection to the pool, or closes it if the body
    was not read to its end. Iterating yields lists of the chunks that arrived together, at least
    one. A completion that is not a stream is one chunk. Entering and reading raise ApiError.

        state      fields                    next state
        --------   -----------------------   ---------------------------------------------------
        new        _response is None         head, when `send` returns
        head       _response is set          body, with the first bytes in _unread if they had to
                                             be read to see what the body is; or ApiError
        body       none of those below       itself, after a list of chunks
        done       call.completed            end, after at most _DRAIN_TIMEOUT seconds
        at end     _at_end                   end; without call.completed the stream was cut
        broken     _chunk_error              raises it, after the chunks before it

    From the head on, `_timer` enforces the timeouts, and the callback at `_connection_closed` fails
    a read that aiohttp would never wake.
    """

    send: Callable[[BackendCall], Awaitable[aiohttp.ClientResponse]]
    call: BackendCall
    stream: bool
    _response: aiohttp.ClientResponse = field(default=None, init=False)
    _decoder: SseDecoder = field(factory=SseDecoder, init=False)
    _connection_closed: asyncio.Future[None] | None = field(default=None, init=False)
    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop, init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)
    _reading_since: float | None = field(default=None, init=False)
    """Time of the event loop; None while nothing waits for the backend."""
    _at_end: bool = field(default=False, init=False)
    """Whether the body has ended."""
    _chunk_error: ApiError | None = field(default=None, init=False)
    """The error in a chunk after those that were yielded last."""
    _unread: bytes = field(default=b"", init=False)
    """Bytes that `_peek` has read; the next read returns them."""

    async def __aenter__(self) -> BackendResponse:
        call = self.call
        try:
            self._response = await self.send(call)
        except CLIENT_EXCEPTIONS as error:
            raise self._api_error(error) from error
        entered = False
        try:
            self._watch_connection()
            await self._read_head()
            entered = True
        finally:
            if not entered:
                self._close()
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._close()

    def _watch_connection(self) -> None:
        """Fail the pending read when the connection closes, and start the timer.

        aiohttp 3.14 fails it too, except after a malformed chunk of the body: then its C parser
        lets the reader wait forever.
        """
        connection = self._response.connection  # None if the whole body has arrived
        protocol = None if connection is None else connection.protocol
        if protocol is None or protocol.closed is None:
            return
        closed = self._connection_closed = protocol.closed
        closed.remove_done_callback(_retrieve_exception)  # of the previous response on it
        closed.add_done_callback(_retrieve_exception)
        closed.add_done_callback(self._on_connection_closed)
        protocol.read_timeout = None  # `_check_timeout` does this
        self._check_timeout()

    def _on_connection_closed(self, _: object) -> None:
        self._fail_read(aiohttp.ClientPayloadError("malformed"))

    def _check_timeout(self) -> None:
        """Fail a read that has waited too long; otherwise check again when it could have.

        aiohttp resets its timer for each packet, which is a tenth of the cost of a token.
        """
        now, limit = self._loop.time(), self.call.idle_timeout
        since = now if self._reading_since is None else self._reading_since
        check_in = limit  # a new wait can begin at any time
        if self.call.first_byte_timeout and not self._body_started():
            since, limit = self.call.sent_at, self.call.first_byte_timeout
        if now - since >= limit:
            self._fail_read(aiohttp.SocketTimeoutError())
        else:
            check_in = min(check_in, since + limit - now)
            self._timer = self._loop.call_later(check_in, self._check_timeout)

    def _body_started(self) -> bool:
        """Whether any byte of the body has arrived."""
        return self._response is not None and self._response.content.total_bytes > 0

    def _api_error(self, error: Exception) -> ApiError:
        limit = self.call.first_byte_timeout
        if limit and isinstance(error, aiohttp.SocketTimeoutError) and not self._body_started():
            return GatewayTimeoutError(
                f"backend `{self.call.backend}` did not begin to answer within {limit:g} s: "
                "try again later"
            )
        return error_from_exception(self.call.backend, error)

    def _fail_read(self, error: Exception) -> None:
        content = self._response.content
        if not (content.is_eof() or content.exception()):
            content.set_exception(error)

    def _close(self) -> None:
        """Release the connection. It is kept alive if the body was read to its end."""
        if self._connection_closed is not None:
            self._connection_closed.remove_done_callback(self._on_connection_closed)
        if self._timer is not None:
            self._timer.cancel()
        self._response.close()

    def __aiter__(self) -> BackendResponse:
        return self

    async def __anext__(self) -> list[Any]:
        if not (self.stream or self._at_end):
            self._at_end = True
            if chunks := await self._all_chunks():
                return chunks
        while not (self._at_end or self.call.completed or self._chunk_error):
            data = await self._read()
            self._at_end = not data
            if chunks := self._chunks(self._feed(data)):
                return chunks
        if self._chunk_error:
            raise self._chunk_error
        if self.stream and self.call.completed:
            await self._drain()
        raise StopAsyncIteration

    async def whole(self) -> Any:
        """The body as one JSON document."""
        parts = []
        while data := await self._read():
            parts.append(data)
        self.call.completed = True
        return decode_completion(self.call.backend, b"".join(parts))

    async def _all_chunks(self) -> list[Any]:
        """The chunks of a body that is not requested as a stream, but may be one."""
        parts = []
        while data := await self._read():
            parts.append(data)
        body = b"".join(parts)
        try:
            chunks = [decode_chunk(self.call.backend, body)]
        except InternalError as error:
            if is_stream(body):
                drop_traceback(error)
                return self._chunks([*self._feed(body), *self._feed(b"")])
            chunks = [decode_completion(self.call.backend, body)]
        self.call.completed = True
        return chunks

    async def _peek(self) -> bytes:
        """Read enough of the body, without leading white space, to see what it is."""
        begin = b""
        while is_undecided(begin) and (data := await self._read()):
            begin = (begin + data).lstrip()
        self._unread = begin
        return begin

    async def _read(self) -> bytes:
        """The bytes that have arrived; wait for at least one. Empty: the body has ended."""
        content = self._response.content
        if content.total_bytes > _MAX_BUFFERED_BYTES and (self.call.buffered or not self.stream):
            raise InternalError(
                f"backend `{self.call.backend}` sent a response of more than {_MAX_BUFFERED_BYTES} "
                "bytes: ask for a shorter one"
            )
        if self._unread:
            data, self._unread = self._unread, b""
            return data
        self._reading_since = self._loop.time()
        try:
            return await content.readany()
        except CLIENT_EXCEPTIONS as error:
            raise self._api_error(error) from error
        except RuntimeError as error:  # closed, and aiohttp failed no read; see `_watch_connection`
            raise self._api_error(aiohttp.ClientPayloadError("malformed")) from error
        finally:
            self._reading_since = None

    def _feed(self, data: bytes) -> list[bytes]:
        """Decode events. Empty data is the end of the body."""
        try:
            return self._decoder.feed(data) if data else self._decoder.finish()
        except ValueError as error:
            raise InternalError(f"backend `{self.call.backend}` sent {error}") from error

    def _chunks(self, events: list[bytes]) -> list[Any]:
        """Decode the chunks up to `[DONE]`, or up to one that is not valid."""
        chunks = []
        for event in events:
            if event.strip() == b"[DONE]":
                self.call.completed = True
                break
            try:
                chunks.append(decode_chunk(self.call.backend, event))
            except ApiError as error:
                try:
                    chunks += recover_chunks(self.call.backend, event, error)
                except ApiError:
                    drop_traceback(error)  # which refers to this object
                    self._chunk_error = error  # raised after the chunks before it
                    break
        return chunks

    async def _read_head(self) -> None:
        """Raise ApiError unless the status is 200 and the body is a stream or JSON.

        Some gateways send a wrong content type, and some a stream instead of a completion or the
        reverse. So the first bytes of the body decide.
        """
        if self._response.status != 200:
            raise await self._error_response()
        content_type = media_type(self._response.headers.get("content-type", ""))
        expected = "text/event-stream" if self.stream else "application/json"
        if content_type == expected:
            return
        stream = is_stream(await self._peek())
        if stream is not None:
            self.stream = stream
        elif content_type == "application/json":
            self.stream = False  # not JSON either, which is reported after the whole body
        elif content_type:
            raise InternalError(
                f"backend `{self.call.backend}` answered with {content_type[:80]} where "
                f"{expected} was expected: check its `base_url`",
                quoted=[content_type[:80]],
            )

    async def _error_response(self) -> ApiError:
        body = b""
        while len(body) <= _MAX_ERROR_BYTES and (data := await self._read()):
            body += data
        response = self._response
        return error_from_status(self.call.backend, response.status, response.headers, body)

    async def _drain(self) -> None:
        """Read the end of the body, so that the connection is kept alive. It is usually there."""
        content = self._response.content
        if not content.at_eof():
            with anyio.move_on_after(_DRAIN_TIMEOUT), suppress(*CLIENT_EXCEPTIONS):
                while await content.readany():
                    pass


def _retrieve_exception(closed: Any) -> None:
    """Retrieve the exception, so that asyncio does not log it as never retrieved."""
    if not closed.cancelled():
        closed.exception()
