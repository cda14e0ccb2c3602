"""The answer to one call, read from its connection: chunks, or a whole completion."""

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
    recover_chunks,
)
from stages.chat_completions.errors import error_from_status
from stages.messages_api.errors import ApiError, GatewayTimeoutError, InternalError, drop_traceback
from stages.wire.sse import SseDecoder

_MAX_ERROR_BYTES = 1024 * 1024
#: Of an answer that is held here until it is whole. What a client reads along has no limit.
_MAX_BUFFERED_BYTES = 64 * 1024 * 1024
#: How long after `[DONE]` the body may take to end, in seconds.
_DRAIN_TIMEOUT = 0.05


@define
class BackendResponse:
    """The answer to one call, which `ask` makes. Its connection is held from entering to leaving.

    Iterating gives lists of chunks, in each those that arrived together. An answer that is no
    stream is one chunk. Raises ApiError.
    """

    send: Callable[[BackendCall], Awaitable[aiohttp.ClientResponse]]
    call: BackendCall
    stream: bool
    _response: aiohttp.ClientResponse = field(default=None, init=False)
    _decoder: SseDecoder = field(factory=SseDecoder, init=False)
    _connection_closed: asyncio.Future[None] | None = field(default=None, init=False)
    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop, init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)
    _sent_at: float = field(default=0.0, init=False)
    _reading_since: float | None = field(default=None, init=False)
    _at_end: bool = field(default=False, init=False)
    _chunk_error: ApiError | None = field(default=None, init=False)
    _unread: bytes = field(default=b"", init=False)
    """Bytes that were read to see what the body is, and are to be read again."""

    async def __aenter__(self) -> BackendResponse:
        call = self.call
        self._sent_at = self._loop.time()
        try:
            self._response = await self.send(call)
        except CLIENT_EXCEPTIONS as error:
            raise self._api_error(error) from error
        begun = False
        try:
            self._watch_connection()
            await self._read_head()
            begun = True
        finally:
            if not begun:
                self._close()
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._close()

    def _watch_connection(self) -> None:
        """Note when the connection is lost.

        aiohttp 3.14 says so to whoever reads, except when a chunk of the body was malformed: then
        its C parser lets one wait for ever.
        """
        connection = self._response.connection  # none, if all of the answer is there already
        protocol = None if connection is None else connection.protocol
        if protocol is None or protocol.closed is None:
            return
        self._connection_closed = protocol.closed
        self._connection_closed.remove_done_callback(
            _retrieve_exception
        )  # of the answer before, on a kept connection
        self._connection_closed.add_done_callback(_retrieve_exception)
        self._connection_closed.add_done_callback(self._on_connection_closed)
        protocol.read_timeout = None  # from here on `_check` serves
        self._check_timeout()

    def _on_connection_closed(self, _: object) -> None:
        self._fail_read(aiohttp.ClientPayloadError("malformed"))

    def _check_timeout(self) -> None:
        """Give up where the answer was waited for too long; look again when that could be.

        aiohttp sets its timer anew for each packet, which is a tenth of what a token costs.
        """
        now, limit = self._loop.time(), self.call.idle_timeout
        since = now if self._reading_since is None else self._reading_since
        look = limit  # the silence that counts can begin at any time
        if self.call.first_byte_timeout and not self._body_started():
            since, limit = self._sent_at, self.call.first_byte_timeout
        if now - since >= limit:
            self._fail_read(aiohttp.SocketTimeoutError())
        else:
            self._timer = self._loop.call_later(min(look, since + limit - now), self._check_timeout)

    def _body_started(self) -> bool:
        """Whether anything of the body has come."""
        return self._response is not None and self._response.content.total_bytes > 0

    def _api_error(self, error: Exception) -> ApiError:
        limit = self.call.first_byte_timeout
        if limit and isinstance(error, aiohttp.SocketTimeoutError) and not self._body_started():
            return GatewayTimeoutError(
                f"backend `{self.call.backend}` has not begun to answer within {limit:g} s: "
                "try again later"
            )
        return error_from_exception(self.call.backend, error)

    def _fail_read(self, error: Exception) -> None:
        content = self._response.content
        if not (content.is_eof() or content.exception()):
            content.set_exception(error)

    def _close(self) -> None:
        """A connection whose answer is read to the end is kept for others."""
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
            return await self._all_chunks()
        while not (self._at_end or self.call.completed or self._chunk_error):
            data = await self._read()
            self._at_end = not data
            if chunks := self._chunks(self._feed(data) if data else self._decoder.finish()):
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
        """The body where no stream was wanted: one document, or a stream that was sent anyway."""
        parts = []
        while data := await self._read():
            parts.append(data)
        body = b"".join(parts)
        try:
            chunks = [decode_chunk(self.call.backend, body)]
        except InternalError as error:
            if is_stream(body):
                drop_traceback(error)
                return self._chunks([*self._feed(body), *self._decoder.finish()])
            chunks = [decode_completion(self.call.backend, body)]
        self.call.completed = True
        return chunks

    async def _peek(self) -> bytes:
        """The body from its first visible byte on, enough of it to tell what it is."""
        begin = b""
        while is_undecided(begin) and (data := await self._read()):
            begin = (begin + data).lstrip()
        self._unread = begin  # is read again
        return begin

    async def _read(self) -> bytes:
        """The bytes that have arrived; waits for the first. Empty: the body is over."""
        content = self._response.content
        if content.total_bytes > _MAX_BUFFERED_BYTES and (self.call.buffered or not self.stream):
            raise InternalError(
                f"backend `{self.call.backend}` sent an answer of more than {_MAX_BUFFERED_BYTES} "
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
        except RuntimeError as error:  # lost, and nothing has told the stream; see `_watch`
            raise self._api_error(aiohttp.ClientPayloadError("malformed")) from error
        finally:
            self._reading_since = None

    def _feed(self, data: bytes) -> list[bytes]:
        try:
            return self._decoder.feed(data)
        except ValueError as error:
            raise InternalError(f"backend `{self.call.backend}` sent {error}") from error

    def _chunks(self, events: list[bytes]) -> list[Any]:
        """The chunks up to `[DONE]`, or up to one that cannot be read."""
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
                    drop_traceback(error)  # or it and this would hold each other
                    self._chunk_error = error  # raised when those before it are dealt with
                    break
        return chunks

    async def _read_head(self) -> None:
        """Raise what the head of the response comes to, unless the body is a stream or JSON.

        Some gateways name the wrong content type, and some send a stream in place of a whole
        answer, or the reverse. So the first bytes of the body decide.
        """
        if self._response.status != 200:
            raise await self._error_response()
        given = self._content_type()
        expected = "text/event-stream" if self.stream else "application/json"
        if given == expected:
            return
        stream = is_stream(await self._peek())
        if stream is not None:
            self.stream = stream
        elif given == "application/json":
            self.stream = False  # not JSON either, which is reported when the rest was read
        elif given:
            raise InternalError(
                f"backend `{self.call.backend}` answered with {given[:80]} where "
                f"{expected} was expected; is its base_url right?",
                quoted=[given[:80]],
            )

    def _content_type(self) -> str:
        given: str = self._response.headers.get("content-type", "")
        given = given.encode("utf-8", "replace").decode()  # it may hold halves of characters
        return given.partition(";")[0].strip().lower()

    async def _error_response(self) -> ApiError:
        body = b""
        while len(body) <= _MAX_ERROR_BYTES and (data := await self._read()):
            body += data
        response = self._response
        return error_from_status(self.call.backend, response.status, response.headers, body)

    async def _drain(self) -> None:
        """Read to the end of the body, or the connection could not be kept. It is there already."""
        content = self._response.content
        if not content.at_eof():
            with anyio.move_on_after(_DRAIN_TIMEOUT), suppress(*CLIENT_EXCEPTIONS):
                while await content.readany():
                    pass


def _retrieve_exception(lost: Any) -> None:
    """Take note of an exception, or the log would be told that nobody did."""
    if not lost.cancelled():
        lost.exception()
