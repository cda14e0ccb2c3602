"""Chat Completions over HTTP: the client LangChain's ChatOpenAI is given as `async_client`.

It yields the JSON of the wire as dicts. The OpenAI SDK in its place would build, and dump
again, an object per chunk, and would hide what matters here: a wrong content type, a missing
`[DONE]`, fields it does not know.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, suppress
from types import TracebackType
from typing import Any

import anyio
import httpx2
from attrs import Factory, define, field

from stages.backends.errors import error_from_exception, error_from_status
from stages.backends.profile import Profile
from stages.wire import json
from stages.wire.errors import ApiError, InternalError
from stages.wire.sse import SseDecoder

_MAX_ERROR_BYTES = 1024 * 1024
#: How long after `[DONE]` the body may take to end, in seconds.
_END_OF_BODY = 0.05


@define
class Call:
    """One call: what goes in, and what LangChain has no room for on the way out.

    `idle_timeout` is in seconds, between two pieces of the answer. `done` becomes True when
    the backend says that its answer is whole, `read` when all there is of a stream was read.
    """

    backend: str
    messages: list[dict[str, Any]]
    options: dict[str, Any]
    idle_timeout: float | None = None
    payload: dict[str, Any] = Factory(dict)
    done: bool = False
    read: bool = False


def make_client(profile: Profile) -> httpx2.AsyncClient:
    """The pool of connections of one backend. The caller closes it."""
    headers = {
        "content-type": "application/json",
        "accept-encoding": "identity",  # a compressed stream would arrive in lumps
        "user-agent": "llm-proxy",
        **profile.headers,
    }
    if profile.api_key:
        headers.setdefault("authorization", f"Bearer {profile.api_key}")
    return httpx2.AsyncClient(
        headers=headers,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100),
        trust_env=not profile.embedded,
    )


@define
class ChatCompletions:
    """Makes calls to one backend. LangChain knows it as `client.chat.completions`."""

    client: httpx2.AsyncClient
    base_url: str
    connect_timeout: float

    async def create(self, *, call: Call, stream: bool = False) -> Any:
        """A stream of chunks, as context manager and iterator, or a whole completion.

        Raises ApiError.
        """
        answer = Answer(self, call)
        if stream:
            return answer
        async with answer:
            return await answer.whole()

    async def post(self, path: str, body: Any, call: Call) -> httpx2.Response:
        """Send a request; the answer's body is not read yet. Raises httpx2.RequestError.

        A kept connection may have been closed by the backend in the meantime, which shows only
        when it is used: then the request is sent once more.
        """
        fresh: list[str] = []

        async def trace(event: str, _: Any) -> None:
            if event.startswith("connection.connect_") and event.endswith(".started"):
                fresh.append(event)

        for last in (False, True):
            request = self.client.build_request(
                "POST",
                self.base_url + path,
                content=json.encode(body),
                timeout=httpx2.Timeout(call.idle_timeout, connect=self.connect_timeout),
                extensions={"trace": trace},
            )
            try:
                return await self.client.send(request, stream=True)
            except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
                if last or fresh:
                    raise
        raise AssertionError("unreachable")


@define
class Answer:
    """The answer to one call, while its connection is held."""

    completions: ChatCompletions
    call: Call
    _exits: AsyncExitStack = field(factory=AsyncExitStack, init=False)
    _response: httpx2.Response = field(default=None, init=False)

    async def __aenter__(self) -> Answer:
        call = self.call
        try:
            self._response = await self.completions.post("/chat/completions", call.payload, call)
            self._exits.push_async_callback(self._response.aclose)
            if self._response.status_code != 200:
                raise await self._refusal()
        except httpx2.RequestError as error:
            raise error_from_exception(call.backend, error) from error
        except ApiError:
            await self._exits.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._exits.aclose()

    def __aiter__(self) -> AsyncIterator[Any]:
        chunks = self._chunks()
        self._exits.push_async_callback(chunks.aclose)  # whoever leaves early closes it with us
        return chunks

    async def _chunks(self) -> AsyncGenerator[Any, None]:
        if self._content_type() == "application/json":
            yield await self.whole()  # some servers answer a request for a stream at once
            return
        self._expect("text/event-stream")
        decoder = SseDecoder()
        async with aclosing(self._read()) as pieces:
            async for data in pieces:
                for event in self._feed(decoder, data):
                    if event.strip() == b"[DONE]":
                        self.call.done = True
                        await _finish(pieces)
                        return
                    yield self._decoded(event)
        for event in decoder.finish():
            if event.strip() == b"[DONE]":
                self.call.done = True
            else:
                yield self._decoded(event)

    async def whole(self) -> Any:
        """The body as one JSON document."""
        self._expect("application/json")
        body = b"".join([data async for data in self._read()])
        self.call.done = True
        return self._decoded(body)

    async def _read(self) -> AsyncGenerator[bytes, None]:
        try:
            async with aclosing(self._response.aiter_bytes()) as pieces:
                async for data in pieces:
                    yield data
        except httpx2.RequestError as error:
            raise error_from_exception(self.call.backend, error) from error

    def _feed(self, decoder: SseDecoder, data: bytes) -> list[bytes]:
        try:
            return decoder.feed(data)
        except ValueError as error:
            raise InternalError(f"backend `{self.call.backend}` sent {error}") from error

    def _decoded(self, data: bytes) -> Any:
        try:
            value = json.decode_answer(data)
        except ValueError as error:
            raise InternalError(
                f"backend `{self.call.backend}` sent broken JSON: {error}"
            ) from error
        if not isinstance(value, dict):  # LangChain would fail at it
            raise InternalError(f"backend `{self.call.backend}` sent JSON that is no object")
        return value

    def _content_type(self) -> str:
        given: str = self._response.headers.get("content-type", "")
        return given.partition(";")[0].strip().lower()

    def _expect(self, content_type: str) -> None:
        given = self._content_type()
        if given and given != content_type:
            raise InternalError(
                f"backend `{self.call.backend}` answered with {given[:80]} where "
                f"{content_type} was expected; is its base_url right?"
            )

    async def _refusal(self) -> ApiError:
        body = b""
        async with aclosing(self._read()) as pieces:
            async for data in pieces:
                body += data
                if len(body) > _MAX_ERROR_BYTES:
                    break
        response = self._response
        return error_from_status(self.call.backend, response.status_code, response.headers, body)


async def _finish(pieces: AsyncIterator[bytes]) -> None:
    """Read to the end of the body, or the connection could not be kept. It is there already."""
    with anyio.move_on_after(_END_OF_BODY), suppress(ApiError):
        async for _ in pieces:
            pass
