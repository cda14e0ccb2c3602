"""Whether one side of a request has left, or will not go on."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define

from stages.exchange import Outcome
from stages.messages_api.errors import ApiError


@define
class RequestSignals:
    """Whether one side has left: told by the server, in the state of the request's scope.

    The ASGI way is to wait for `http.disconnect`. That takes a task of its own for each request,
    a tenth of what a short one costs. `error`: why the rest of its body will not be read.
    `reason`: the outcome of a request whose client disconnected. `request_id` is known as soon as
    the endpoint has the request.
    """

    request_id: str = ""
    disconnected: bool = False
    reason: Outcome = "client_disconnected"
    error: ApiError | None = None
    shutting_down: bool = False
    on_signal: Callable[[], None] = lambda: None

    def disconnect(self) -> None:
        """The client has left. To be called once, by the server."""
        self.disconnected = True
        self.on_signal()

    def shut_down(self) -> None:
        """The proxy waits no longer for this request's end. To be called by the server."""
        self.shutting_down = True
        self.on_signal()


REQUEST_SIGNALS = "llm_proxy.departure"
SHUTDOWN_NOTICE = 2
"""Seconds between telling clients that the proxy stops, and the server's own end."""
