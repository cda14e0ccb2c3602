"""The floor: the least a proxy in Python can do with the same server and client.

uvicorn takes the request, aiohttp sends its bytes to the backend, and what comes back is passed
on untouched: no key, no check, no JSON, no translation.

    python -m tests.bench.floor PORT BACKEND
"""

from __future__ import annotations

import sys
from typing import Any

import aiohttp
import uvicorn


class PassThrough:
    """An ASGI app that asks `url` whatever it is asked."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._client is None:  # made where the loop runs
            self._client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        parts, more = [], True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        async with self._client.post(self._url, data=b"".join(parts)) as answer:
            headers = [(b"content-type", answer.headers["content-type"].encode())]
            start = {"type": "http.response.start", "status": answer.status, "headers": headers}
            await send(start)
            async for data in answer.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    uvicorn.run(
        PassThrough(f"{sys.argv[2]}/v1/chat/completions"),
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="warning",
        access_log=False,
        backlog=4096,
    )
