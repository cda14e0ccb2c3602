"""One end of a connection between a worker and the coordinator.

`send` never waits, so callers need no task and cannot be cancelled in the middle of a message.

    event                                     effect
    ---------------------------------------   -----------------------------------------
    the peer reads slowly                     messages wait, at most MAX_UNSENT bytes
    more than _MAX_OFFERED bytes wait         an offered message is dropped
    more than MAX_UNSENT bytes wait           closed
    a line is longer than MAX_LINE bytes, or  ProtocolError; the owner closes
    is not a message
    the peer closes, in the middle of a line  the line is dropped; closed
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import anyio
import msgspec
from attrs import Factory, define, field

from pipeline.task_groups import task_group

MAX_UNSENT = 5 << 20
MAX_LINE = 1 << 20
#: Unsent bytes beyond which an offered message is dropped. The parts of 15 workers, for several
#: tabs of the page, come at the same time.
_MAX_OFFERED = 4 << 20
_READ = 1 << 16
_BACKLOG = 128
_ENCODER = msgspec.json.Encoder()

M = TypeVar("M")


class ProtocolError(Exception):
    """The peer sent something that is not a message."""


def listen(path: Path) -> socket.socket:
    """Listen on a Unix socket. Raises OSError, also if `path` is too long for one."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(os.fspath(path))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


@define(eq=False)
class Connection(Generic[M]):
    """`sock` is connected. `decoder` reads the peer's messages. The owner enters `open`."""

    sock: socket.socket
    decoder: msgspec.json.Decoder[M]
    closed: bool = field(default=False, init=False)
    _unsent: bytearray = field(factory=bytearray, init=False)
    _has_unsent: anyio.Event = field(default=Factory(anyio.Event), init=False)
    _partial: bytes = field(default=b"", init=False)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Send in the background; close at the end."""
        self.sock.setblocking(False)
        try:
            async with task_group() as group:
                group.start_soon(self._flush)
                yield
                group.cancel_scope.cancel()
        finally:
            self.close()
            self.sock.close()

    def send(self, message: Any) -> None:
        """Send a message, now or later. After `close` it does nothing."""
        if self.closed:
            return
        data = _ENCODER.encode(message) + b"\n"
        sent = 0 if self._unsent else self._send_now(data)
        if sent < len(data):
            self._unsent += data[sent:]
            self._has_unsent.set()
            if len(self._unsent) > MAX_UNSENT:
                self.close()

    def offer(self, message: Any) -> None:
        """Send a message, unless many bytes wait: large messages must not close the connection."""
        if len(self._unsent) <= _MAX_OFFERED:
            self.send(message)

    def close(self) -> None:
        """End the connection. `wait` returns."""
        self.closed = True
        self._unsent.clear()
        with contextlib.suppress(OSError):  # the peer has closed
            self.sock.shutdown(socket.SHUT_RDWR)

    async def wait(self) -> None:
        """Wait until something can be received, or one end closes."""
        await anyio.wait_readable(self.sock)

    def received(self) -> Iterator[M]:
        """Yield the messages that are here, at most `_READ` bytes. Raises ProtocolError."""
        if self.closed:
            return
        try:
            data = self.sock.recv(_READ)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > MAX_LINE:
            raise ProtocolError("a line is too long")
        for line in lines:
            yield self._decode(line)
        if not data:
            self.close()

    def _decode(self, line: bytes) -> M:
        try:
            return self.decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise ProtocolError(str(error)) from error

    def _send_now(self, data: bytes | bytearray) -> int:
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.close()
            return len(data)

    async def _flush(self) -> None:
        while True:
            await self._has_unsent.wait()
            while self._unsent:
                await anyio.wait_writable(self.sock)
                sent = self._send_now(self._unsent)
                del self._unsent[:sent]
            self._has_unsent = anyio.Event()
