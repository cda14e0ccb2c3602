"""A backend that counts the calls that run in it at the same time."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.from_thread import start_blocking_portal
from anyio.streams.buffered import BufferedByteReceiveStream
from attrs import Factory, define

from tests.wire.chat import completion

_MAX_HEAD = 65536
_DISCONNECTED = (anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError)


@define(eq=False)
class CountingBackend:
    """Each call takes `seconds`, or until its client disconnects. `most`: calls at one time."""

    url: str = ""
    seconds: float = 0.001
    running: int = 0
    most: int = 0
    _peers: set[socket.socket] = Factory(set)
    """Of the calls that run."""

    async def serve(self, stream: SocketStream) -> None:
        """Respond to each request of one connection."""
        source = BufferedByteReceiveStream(stream)
        async with stream:
            with contextlib.suppress(*_DISCONNECTED):
                while True:
                    await self._respond(stream, source)

    async def _respond(self, stream: SocketStream, source: BufferedByteReceiveStream) -> None:
        head = (await source.receive_until(b"\r\n\r\n", _MAX_HEAD)).lower()
        (length,) = (line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        await source.receive_exactly(int(length.split(b":")[1]))
        peer: socket.socket = stream.extra(SocketAttribute.raw_socket)
        self._peers.add(peer)
        self.running += 1
        self.most = max(self.most, sum(not _is_closed(each) for each in self._peers))
        try:
            with anyio.move_on_after(self.seconds):
                await source.receive(1)
        finally:
            self.running -= 1
            self._peers.discard(peer)
        data = json.dumps(completion()).encode()
        fields = f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        await stream.send(b"HTTP/1.1 200 OK\r\n" + fields.encode() + data)


def _is_closed(peer: socket.socket) -> bool:
    """Whether the peer has closed, which the event loop may not have seen yet."""
    with contextlib.suppress(BlockingIOError), socket.socket(fileno=os.dup(peer.fileno())) as copy:
        return copy.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    return False


@contextlib.contextmanager
def counting_backend() -> Iterator[CountingBackend]:
    """Serve one on a free port."""
    backend = CountingBackend()

    async def listen() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", backlog=1024)
        port = listener.listeners[0].extra(SocketAttribute.local_port)
        backend.url = f"http://127.0.0.1:{port}"
        async with listener:
            await listener.serve(backend.serve)

    with start_blocking_portal() as portal:
        served = portal.start_task_soon(listen)
        while not backend.url:
            portal.call(anyio.sleep, 0)
        yield backend
        served.cancel()
