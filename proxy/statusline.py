"""`llm-proxy statusline`: one line about the session, for Claude Code's status line.

Claude Code may run it each second. So this module imports only light modules of the standard
library (`http.client` would take 40 ms), and `llm_proxy.py` calls it without the command line's
own imports.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit

#: The same as in proxy/session_status.py, which imports more.
PATH = "/api/session-status/"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_TIMEOUT = 0.5
_MAX_RESPONSE = 65536


def main() -> None:
    """Read Claude Code's JSON from stdin, and print the line. It never fails.

    Claude Code would show a failure in place of the line. So a lost stdin or stdout is ignored.
    """
    text = b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()
    with suppress(OSError):  # without `print`: the exit would flush it again, and fail
        os.write(1, f"{line(text, os.environ)}\n".encode(errors="replace"))


def line(text: str | bytes, environ: Mapping[str, str], timeout: float = _TIMEOUT) -> str:
    """Give the line for Claude Code's JSON `text`. `environ` has the proxy's address and key.

    `timeout` is in seconds, for each step of the request to the proxy.
    """
    session = _object(text)
    status = _status(str(session.get("session_id", "")), environ, timeout)
    if status is None:
        model = session.get("model")
        name = model.get("display_name") if isinstance(model, dict) else None
        return " · ".join(filter(None, (_printable(name), "no proxy")))
    return " · ".join(_parts(status)) or "llm-proxy: no request yet"


def _parts(status: Mapping[str, Any]) -> Iterator[str]:
    """Yield the parts of the line. Numbers that are not known are left out."""
    if model := _printable(status.get("model")):
        yield f"{model} ({_printable(status.get('backend'))})"
    if prompt := _number(status, "prompt_tokens"):
        cached = round(100 * _number(status, "cached_tokens") / prompt)
        yield f"prompt {_short(prompt)}, {cached}% cached"
    if speed := _number(status, "tokens_per_second"):
        yield f"{speed:.0f} tokens/s"
    if (waiting := _number(status, "waiting_seconds")) >= 1:
        yield f"waiting {waiting:.0f} s"
    if cost := _number(status, "cost"):
        cost_text = f"{cost:.{2 if cost >= 0.01 else 4}f}" if cost >= 0.0001 else "<0.0001"
        yield f"cost {cost_text}"  # in the currency of the prices


def _status(session: str, environ: Mapping[str, str], timeout: float) -> dict[str, Any] | None:
    """Ask the proxy for a session. None: there is no proxy on this machine that has the endpoint.

    Another address than loopback is not asked, so that the key is sent nowhere else.
    """
    try:
        url = urlsplit(environ.get("ANTHROPIC_BASE_URL", ""))
        host, port = url.hostname or "", url.port
    except ValueError:
        return None
    if url.scheme != "http" or host not in _LOOPBACK:
        return None
    key = environ.get("ANTHROPIC_AUTH_TOKEN") or environ.get("ANTHROPIC_API_KEY") or ""
    request = (
        f"GET {PATH}{quote(session, safe='')} HTTP/1.0\r\nHost: {url.netloc}\r\n"
        f"x-api-key: {key}\r\n\r\n"
    )
    try:
        with socket.create_connection((host, port or 80), timeout) as connection:
            connection.sendall(request.encode())
            response = _read(connection)
    except (OSError, ValueError):
        return None
    head, _, body = response.partition(b"\r\n\r\n")
    return _object(body) if head.split(b" ")[1:2] == [b"200"] else None


def _read(connection: socket.socket) -> bytes:
    """Read a response to its end."""
    response = b""
    while len(response) < _MAX_RESPONSE and (data := connection.recv(_MAX_RESPONSE)):
        response += data
    return response


def _object(text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _number(status: Mapping[str, Any], name: str) -> float:
    value = status.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0


def _printable(value: object) -> str:
    """Give a text without control characters, which would change the terminal."""
    text = value if isinstance(value, str) else ""
    return "".join(c for c in text[:100] if c.isprintable())


def _short(tokens: float) -> str:
    return f"{tokens:.0f}" if tokens < 1000 else f"{tokens / 1000:.1f}k"
