"""Responses of paths that need no pipeline: liveness, the root, and requests of Claude Code."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from proxy import __version__
from stages.wire.ids import new_request_id

#: Paths that Claude Code sends telemetry to. Its versions differ after the first part.
TELEMETRY = ("/api/event_logging/{rest:path}", "/api/claude_code/metrics")


async def health(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond to a liveness check."""
    await JSONResponse({"status": "ok"}, headers=headers())(scope, receive, send)


async def root(scope: Scope, receive: Receive, send: Send) -> None:
    """Say what this server is."""
    info = {"name": "llm-proxy", "version": __version__, "messages": "/v1/messages"}
    await JSONResponse(info, headers=headers())(scope, receive, send)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond to the request with which Claude Code opens its connection."""
    await JSONResponse({"message": "hello"}, headers=headers())(scope, receive, send)


async def telemetry(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept the telemetry of Claude Code, and store nothing."""
    await Response(status_code=204, headers=headers())(scope, receive, send)


def headers() -> dict[str, str]:
    """Return the headers of a response: its request id."""
    return {"request-id": new_request_id()}
