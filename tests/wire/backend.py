"""A backend on a real socket that follows the script of a test.

A script is a list of steps. The backend sends bytes unchanged, waits for an Event, and does what an
Act says. A number is a pause, in seconds. All waits have a limit. chat.py has responses to send.
"""

from __future__ import annotations

import contextlib
import enum
import http.client
import itertools
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Sequence
from typing import Any

import anyio.to_thread
from attrs import define, field, frozen

#: Nothing in these tests takes so long, in seconds, unless it hangs.
LIMIT = 30.0


class Act(enum.Enum):
    """What a scripted backend can do besides sending and waiting."""

    CLOSE = "close the connection"
    RESET = "break the connection off, as a crashed process does"
    UNTIL_CLOSED = "wait until the peer closes the connection"


Step = bytes | threading.Event | float | Act


@frozen
class Received:
    """A request as the backend got it. `connection` counts connections from 0."""

    connection: int
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@define(eq=False)
class ScriptedBackend:
    """A server of Chat Completions. It runs one script of `responses` per request.

    The last script repeats. `tls`: the backend speaks HTTPS.
    """

    tls: ssl.SSLContext | None = None
    responses: list[Sequence[Step]] = field(factory=list, init=False)
    requests: list[Received] = field(factory=list)
    failures: list[BaseException] = field(factory=list)
    #: When each connection was closed by its peer.
    closed: dict[int, float] = field(factory=dict)
    _connections: list[socket.socket] = field(factory=list)
    _threads: list[threading.Thread] = field(factory=list)
    _news: threading.Condition = field(factory=threading.Condition)
    _listener: socket.socket = field(factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _acceptor: threading.Thread = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def url(self) -> str:
        """The base URL, without a path."""
        scheme = "https" if self.tls else "http"
        return f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def connections(self) -> int:
        """The number of connections so far."""
        return len(self._connections)

    def says(self, *steps: Step) -> None:
        """Add a script: `steps` are the response to the next request, and to later ones."""
        self.responses = [*self.responses, steps]

    def request(self, number: int = 0) -> Received:
        """A request, counted from 0; waits for it."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.requests) > number, LIMIT), "no request"
            return self.requests[number]

    def is_closed(self, connection: int = 0, within: float = LIMIT) -> bool:
        """Whether the peer closes a connection within a time, in seconds from now."""
        with self._news:
            return self._news.wait_for(lambda: connection in self.closed, within)

    def hang_up(self) -> None:
        """Close all connections, and raise what failed in them."""
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for step in itertools.chain.from_iterable(self.responses):
            if isinstance(step, threading.Event):  # of a test that failed before it
                step.set()
        for thread in self._threads:
            thread.join(LIMIT)
        failures, self.failures = self.failures, []
        for failure in failures:
            raise failure

    def forget(self) -> None:
        """Start from scratch, at the same address."""
        self.hang_up()
        for each in (self.responses, self.requests, self.closed, self._connections, self._threads):
            each.clear()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(LIMIT)
        self._listener.close()
        self.hang_up()
        assert not self._acceptor.is_alive(), "it still accepts connections"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.append(connection)
            number = len(self._connections) - 1
            thread = threading.Thread(target=self._serve, args=(number, connection), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, number: int, connection: socket.socket) -> None:
        try:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
                self._connections[number] = connection
            with connection, connection.makefile("rb") as source:
                while request := _received(number, source):
                    for step in self._next(request):
                        if not self._do(step, connection):
                            return
        except (ConnectionError, ValueError, ssl.SSLError):
            pass  # the peer broke off
        except AssertionError as error:
            self.failures.append(error)
        finally:
            with self._news:
                self.closed[number] = time.monotonic()
                self._news.notify_all()

    def _next(self, request: Received) -> Sequence[Step]:
        with self._news:
            self.requests.append(request)
            self._news.notify_all()
            return self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]

    def _do(self, step: Step, connection: socket.socket) -> bool:
        """Do one step; whether there may be another."""
        if isinstance(step, bytes):
            connection.sendall(step)
        elif isinstance(step, threading.Event):
            assert step.wait(LIMIT), "the test never let the backend go on"
        elif isinstance(step, float):
            threading.Event().wait(step)
        elif step is Act.UNTIL_CLOSED:
            connection.settimeout(LIMIT)
            while connection.recv(1024):
                pass
            return False
        else:
            if step is Act.RESET:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return False
        return True


async def closed(backend: ScriptedBackend, connection: int = 0) -> bool:
    """Whether the peer closes a connection in time, while the event loop goes on."""
    return await anyio.to_thread.run_sync(backend.is_closed, connection)


def _received(number: int, source: Any) -> Received | None:
    line = source.readline().decode()
    if not line.endswith("\r\n"):
        return None
    method, path, _ = line.split(" ")
    headers = http.client.parse_headers(source)
    body = source.read(int(headers["content-length"] or 0))
    names = {name.lower(): value for name, value in headers.items()}
    return Received(number, method, path, names, json.loads(body or b"null"))
