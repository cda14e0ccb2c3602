"""The HTTP client for Chat Completions, passed to LangChain's ChatOpenAI as `async_client`.

It yields the JSON of the wire as dicts. The OpenAI SDK would build and dump an object per chunk. It
would also hide a wrong content type, a missing `[DONE]` and unknown fields.

2026-11: on aiohttp. With httpx2 a request took 1.8 ms of CPU here, and a stream of 200 chunks
10.8 ms; on the same day they took 0.65 and 2.5 on aiohttp. aiohttp needs asyncio, as uvicorn does;
stages do not.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from attrs import define

from stages.backends.call import BackendCall
from stages.backends.response import BackendResponse
from stages.backends.session import REUSED
from stages.off_loop import LARGE_BODY, off_loop
from stages.wire.encoded_parts import encode_body

# A response head may take this many idle timeouts. aiohttp has no timeout while it writes a request
# that the backend does not read, and after a 1xx response.
_HEAD_TIMEOUTS = 2


class _Body(aiohttp.BytesPayload):
    """Bytes that are written at once, without copies.

    aiohttp warns of more than a megabyte. uvloop and asyncio write what the system takes.
    """

    def __init__(self, data: bytes) -> None:
        aiohttp.Payload.__init__(self, data)
        self._size = len(data)


@define
class ChatCompletionsClient:
    """Makes calls to one backend. For LangChain it is `client.chat.completions`."""

    session: aiohttp.ClientSession
    base_url: str
    connect_timeout: float
    start_again: Callable[[], Awaitable[Any]] | None = None
    """Starts the server again if its process has died. Raises ApiError. None: it cannot."""

    async def create(self, *, call: BackendCall, stream: bool = False) -> BackendResponse:
        """The response to `call`. The request is sent when the response is entered."""
        return BackendResponse(self._send, call, stream)

    async def _send(self, call: BackendCall) -> aiohttp.ClientResponse:
        return await self.post(self.url("/chat/completions"), call.payload, call)

    def url(self, path: str, at_root: bool = False) -> str:
        """The URL of an endpoint. `at_root`: the path is next to `/v1`, not below it."""
        return (self.base_url.removesuffix("/v1") if at_root else self.base_url) + path

    async def post(self, url: str, body: Any, call: BackendCall) -> aiohttp.ClientResponse:
        """Send a request and return at the response's head.

        The request is sent once more if the backend has closed a kept-alive connection, which is
        noticed only when the connection is used. If nobody accepts the connection, `start_again` is
        called before. Raises one of CLIENT_EXCEPTIONS, and the errors of `start_again`.
        """
        if call.body_size < LARGE_BODY:
            data = encode_body(body, call.encoded)
        else:
            data = await off_loop(encode_body, body, call.encoded)
        head_timeout = call.first_byte_timeout or call.idle_timeout
        for last_attempt in (False, True):
            call.sent_at = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(self.connect_timeout + _HEAD_TIMEOUTS * head_timeout):
                    return await self.session.post(
                        url,
                        data=_Body(data),
                        headers=call.headers,
                        timeout=_client_timeout(self.connect_timeout, head_timeout),
                        allow_redirects=False,
                    )
            except aiohttp.ClientConnectorError:
                if last_attempt or self.start_again is None:
                    raise
                await self.start_again()
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if last_attempt or not REUSED.get():
                    raise
        raise AssertionError("unreachable")


@functools.lru_cache
def _client_timeout(connect: float, head: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect, sock_read=head)
