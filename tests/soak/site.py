"""Proxies that share limits, as a person starts them, and a backend and clients in this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from attrs import Factory, define, field, frozen

from tests.redis_server import RedisServer
from tests.wire.command import Command, command
from tests.wire.test_deploy_nginx import nginx

#: Seconds until a client gives up. None has to.
TIMEOUT = 60.0
CONFIG = """
server: {{max_loop_delay: null}}
{store}
backends:
  backend: {{base_url: "http://127.0.0.1:{port}/v1", max_concurrent_calls: {slots}}}
models:
  "*": {{backend: backend}}
keys:
{keys}
limits:
  {limits}
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      [authenticate, validate, resolve, limit, translate-in, queue: {{max_queued: 100000}},
       invoke: {{first_byte_timeout: 600}}, translate-out, stream-encode]
"""
#: SHA-256 of `alice` and of `bob`.
KEYS = """\
  alice: {sha256: "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"}
  bob: {sha256: "81b637d8fcd2c6da6359e6963113a1170de795e4b725b84d1e0b4cfd9ec58ce9"}
"""
#: Tokens of a response, and of a prompt of PROMPT_BYTES, so that each estimate is right.
OUTPUT, PROMPT = 1000, 1000
PROMPT_BYTES = 4 * PROMPT
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def request(key: str, stream: bool = False) -> bytes:
    """A request whose body has PROMPT_BYTES."""
    message = {"model": "m", "max_tokens": OUTPUT, "stream": stream}
    message["messages"] = [{"role": "user", "content": ""}]
    missing = PROMPT_BYTES - len(json.dumps(message))
    message["messages"] = [{"role": "user", "content": "x" * missing}]
    head = f"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {PROMPT_BYTES}\r\n\r\n"
    return (head + json.dumps(message)).encode()


@define(eq=False)
class Backend(asyncio.Protocol):
    """One connection to the backend. It responds after `seconds`, or never to a stream."""

    calls: list[float]
    """When each call came."""
    seconds: float = 0.0
    data: bytes = b""
    transport: asyncio.Transport = field(init=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, end, body = self.data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or not length or len(body) < int(length[1]):
            return
        self.data = b""
        self.calls.append(time.monotonic())
        if json.loads(body).get("stream"):
            self.transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                b"transfer-encoding: chunked\r\n\r\n"
            )
            text = b'data: {"choices":[{"index":0,"delta":{"content":"word"}}]}\n\n'
            self.transport.write(b"%x\r\n%b\r\n" % (len(text), text))
            return
        usage = {"prompt_tokens": PROMPT, "completion_tokens": OUTPUT}
        message = {"role": "assistant", "content": "word"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        text = json.dumps({"choices": [choice], "usage": usage}).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        head += b"content-length: %d\r\n\r\n" % len(text)
        asyncio.get_running_loop().call_later(self.seconds, self.transport.write, head + text)


@frozen
class Result:
    """A response, or the status 0 for none. Times are in seconds."""

    at: float
    seconds: float
    status: int


@define
class Clients:
    """`number` clients that send requests, each with a pause between two of its own."""

    url: str
    number: int
    pause: float = 0.0
    key: str = "alice"
    results: list[Result] = Factory(list)
    stopped: bool = False

    async def run(self) -> None:
        """Send until `stop`."""
        await asyncio.gather(*(self._client() for _ in range(self.number)))

    async def _client(self) -> None:
        data = request(self.key)
        reader, writer = await connect(self.url)
        while not self.stopped:
            at = time.monotonic()
            writer.write(data)
            status = await asyncio.wait_for(read_response(reader), TIMEOUT)
            self.results.append(Result(at, time.monotonic() - at, status))
            await asyncio.sleep(self.pause)
        writer.close()

    def between(self, start: float, end: float) -> list[Result]:
        """The requests that were in flight then."""
        return [each for each in self.results if each.at < end and each.at + each.seconds > start]


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(url)
    return await asyncio.open_connection(address.hostname, address.port)


async def read_response(reader: asyncio.StreamReader) -> int:
    """Read a response with a length. Return its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    assert length, head
    await reader.readexactly(int(length[1]))
    return int(head.split(b" ", 2)[1])


@define
class Site:
    """Proxies, and the URL that leads to all of them."""

    url: str
    proxies: list[Command]

    def lines(self, words: str) -> list[int]:
        """For each proxy the number of lines of its log with these words."""
        return [sum(words in line for line in proxy.log) for proxy in self.proxies]


@contextlib.contextmanager
def site_of(
    folder: Path,
    port: int,
    limits: str,
    replicas: int = 1,
    workers: int = 1,
    store: str = "",
    slots: str = "null",
) -> Iterator[Site]:
    """Start proxies with a backend at `port`; several are after nginx."""
    text = CONFIG.format(port=port, limits=limits, store=store, keys=KEYS, slots=slots)
    with contextlib.ExitStack() as running:
        proxies = []
        for number in range(replicas):
            (folder / str(number)).mkdir()
            file = folder / str(number) / "pipelines.yaml"
            file.write_text(text)
            arguments = ("--workers", str(workers)) if workers > 1 else ()
            proxy = running.enter_context(command(file, *arguments, at_most=300))
            for _ in range(workers - 1):
                proxy.says("is open after", within=120)
            proxies.append(proxy)
        url = proxies[0].url
        if replicas > 1:
            addresses = [proxy.url.removeprefix("http://") for proxy in proxies]
            url = running.enter_context(nginx(folder, addresses))
        yield Site(url, proxies)


def store_option(server: RedisServer | None, more: str = "") -> str:
    """The section `store` for this server."""
    return f"store: {{url: '{server.url}'{more}}}" if server else ""
