"""Signals to one request: its client has disconnected, or the server is shutting down.

HttpProtocol puts RequestSignals into `scope["state"]`. Under any other ASGI server `with_signals`
makes them from `http.disconnect`, which costs a task per request: a tenth of a short request.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import anyio
from anyio.abc import TaskGroup
from attrs import define, field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.task_groups import task_group
from stages.exchange import Outcome
from stages.messages_api.errors import ApiError


@define(eq=False)
class RequestSignals:
    """The server's signals to one request.

    The endpoint sets `request_id`. The server sets `disconnect_outcome`, the outcome of a request
    whose client disconnects, and `body_error`: why the remaining body will not arrive.
    """

    request_id: str = ""
    disconnected: bool = False
    disconnect_outcome: Outcome = "client_disconnected"
    body_error: ApiError | None = None
    shutting_down: bool = False
    _scopes: tuple[anyio.CancelScope, ...] = field(default=(), init=False)

    def cancel_on_signal(self, scope: anyio.CancelScope) -> None:
        """Cancel `scope` when the client disconnects or the server shuts down."""
        self._scopes = (*self._scopes, scope)

    def disconnect(self) -> None:
        """Signal that the client has disconnected."""
        self.disconnected = True
        self._cancel()

    def shut_down(self) -> None:
        """Signal that the server no longer waits for this request."""
        self.shutting_down = True
        self._cancel()

    def _cancel(self) -> None:
        for scope in self._scopes:
            scope.cancel()


REQUEST_SIGNALS = "llm_proxy.request_signals"
HEADER_LINES = "llm_proxy.header_lines"
"""The member of `http.response.start` with further lines of the head, each with its CRLF."""
SHUTDOWN_NOTICE = 2
"""Seconds between the notice to clients that the proxy shuts down, and the server's end."""
CLOSE_TIMEOUT = 10
"""Seconds after the server's end in which a worker can close its backends and files.

The usage record, the recorded exchanges and the spans may take 3 s each, one after another.
"""


class ServedApp(Protocol):
    """What HttpProtocol needs of the application that uvicorn has loaded."""

    admission: ASGIApp
    """Runs a request that has RequestSignals."""

    def drain(self) -> None:
        """Report that the server is shutting down. Called once per connection."""


async def with_signals(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run `app` under an ASGI server that does not set RequestSignals."""
    signals = RequestSignals()
    state = {**scope.get("state", {}), REQUEST_SIGNALS: signals}
    async with task_group() as group:
        watch = _DisconnectWatch(signals, receive, send, group)
        await app({**scope, "state": state}, watch.receive, watch.send)
        group.cancel_scope.cancel()


@define(eq=False)
class _DisconnectWatch:
    """Waits for `http.disconnect` once the app has read the body, or has begun its response.

    Reading earlier would accept a body that the app may refuse. A body message that arrives while
    the watch waits is kept for the app. If more of the body follows, it also ends the watch, so
    that the unread body stays with the server.
    """

    signals: RequestSignals
    receive_next: Receive
    forward: Send
    group: TaskGroup
    _buffered: deque[Message] = field(factory=deque, init=False)
    _lock: anyio.Lock = field(factory=anyio.Lock, init=False)
    _running: bool = field(default=False, init=False)
    _response_complete: bool = field(default=False, init=False)
    _disconnected: bool = field(default=False, init=False)

    async def receive(self) -> Message:
        """Return the next message for the app, and `http.disconnect` any number of times."""
        async with self._lock:
            message = self._buffered.popleft() if self._buffered else await self._receive()
        if not message.get("more_body", False):
            self._start()
        return message

    async def send(self, message: Message) -> None:
        """Forward a message of the response."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._response_complete = True
        self._start()
        if lines := message.pop(HEADER_LINES, b""):
            added = [tuple(line.split(b": ", 1)) for line in lines.splitlines()]
            message["headers"] = [*message["headers"], *added]
        await self.forward(message)

    def _start(self) -> None:
        if not self._running and self._waiting:
            self._running = True
            self.group.start_soon(self._run)

    @property
    def _waiting(self) -> bool:
        unread = self._buffered and self._buffered[-1].get("more_body", False)
        return not (unread or self._disconnected)

    async def _run(self) -> None:
        while self._waiting:
            async with self._lock:
                message = await self._receive()
                if message["type"] == "http.request":
                    self._buffered.append(message)
        self._running = False

    async def _receive(self) -> Message:
        """Return the server's next message. Servers may send `http.disconnect` only once.

        After a complete response it is no signal: servers send it then to clients that are there.
        """
        if self._disconnected:
            return {"type": "http.disconnect"}
        message = await self.receive_next()
        if message["type"] == "http.disconnect":
            self._disconnected = True
            if not self._response_complete:
                self.signals.disconnect()
        return message
