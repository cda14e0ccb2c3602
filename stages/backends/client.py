"""Chat Completions over HTTP: the client LangChain's ChatOpenAI is given as `async_client`.

It yields the JSON of the wire as dicts. The OpenAI SDK in its place would build, and dump
again, an object per chunk, and would hide what matters here: a wrong content type, a missing
`[DONE]`, fields it does not know.

2026-11: on aiohttp. With httpx2 a request cost 1.8 ms of CPU here, and a stream of 200 chunks
10.8 ms; the same day they cost 0.65 and 2.5 on aiohttp. It needs asyncio, as uvicorn does; stages
do not.
"""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import Any

import aiohttp
from attrs import define

from stages.backends.call import BackendCall
from stages.backends.response import BackendResponse
from stages.backends.session import REUSED
from stages.off_loop import LARGE_BODY, off_loop
from stages.wire import json_codec

# A head takes so many idle timeouts at most. aiohttp has none while it writes a request that is
# not read, and behind a 1xx response.
_HEAD_TIMEOUTS = 2
# aiohttp warns of larger bodies given as bytes, and takes a file for what it is.
_LARGE_BODY = 1024 * 1024


@define
class ChatCompletionsClient:
    """Makes calls to one backend. LangChain knows it as `client.chat.completions`."""

    session: aiohttp.ClientSession
    base_url: str
    connect_timeout: float

    async def create(self, *, call: BackendCall, stream: bool = False) -> BackendResponse:
        """The answer to `call`, which is asked for when it is entered."""
        return BackendResponse(self._send, call, stream)

    async def _send(self, call: BackendCall) -> aiohttp.ClientResponse:
        return await self.post(self.url("/chat/completions"), call.payload, call)

    def url(self, path: str, beside: bool = False) -> str:
        """The address of an endpoint; `beside`: it stands beside `/v1`, not below."""
        return (self.base_url.removesuffix("/v1") if beside else self.base_url) + path

    async def post(self, url: str, body: Any, call: BackendCall) -> aiohttp.ClientResponse:
        """Send a request; the answer's body is not read yet. Raises one of FAILURES.

        A kept connection may have been closed by the backend in the meantime, which shows only
        when it is used: then the request is sent once more.
        """
        small = call.body_size < LARGE_BODY
        data = json_codec.encode(body) if small else await off_loop(json_codec.encode, body)
        first = call.first_byte_timeout or call.idle_timeout
        timeout = aiohttp.ClientTimeout(total=None, connect=self.connect_timeout, sock_read=first)
        for last in (False, True):
            try:
                async with asyncio.timeout(self.connect_timeout + _HEAD_TIMEOUTS * first):
                    return await self.session.post(
                        url,
                        data=data if len(data) < _LARGE_BODY else BytesIO(data),
                        timeout=timeout,
                        allow_redirects=False,
                    )
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if last or not REUSED.get():
                    raise
        raise AssertionError("unreachable")
