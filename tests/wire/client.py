"""A client on a real socket, and what it is answered."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

import pytest
from attrs import define, field, frozen

from tests import secrets
from tests.grammar import check_grammar, parse_sse
from tests.sdk_types import check_sent
from tests.wire.backend import LIMIT

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
#: The two ways to ask, for tests in which they make no difference.
MODES = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


def address(url: str) -> tuple[str, int]:
    """Where the proxy listens."""
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


def connect(url: str) -> socket.socket:
    """A connection to the proxy."""
    return socket.create_connection(address(url), timeout=LIMIT)


def raw(body: Any, path: str = "/v1/messages", **headers: str) -> bytes:
    """A POST as bytes; a body that is no bytes is JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"x-api-key": "client-key", "content-length": str(len(data)), "host": "x"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + data


@define
class Client:
    """One keep-alive connection to the proxy."""

    url: str
    socket: socket.socket = field(init=False)
    response: http.client.HTTPResponse = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.socket = connect(self.url)

    def send(self, data: bytes, method: str = "POST") -> http.client.HTTPResponse:
        """Send bytes. Read the head of the response, not its body."""
        self.socket.sendall(data)
        self.response = http.client.HTTPResponse(self.socket, method=method)
        self.response.begin()
        return self.response

    def post(self, body: Any, path: str = "/v1/messages", **headers: str) -> Response:
        """Send a request, and read the whole response."""
        return Response.of(self.send(raw(body, path, **headers)))

    def get(self, path: str, method: str = "GET", **headers: str) -> Response:
        """The same for methods without a body."""
        fields = {"x-api-key": "client-key", "host": "x", **headers}
        lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
        return Response.of(self.send("\r\n".join([*lines, "", ""]).encode(), method))

    def event(self) -> dict[str, Any]:
        """The next event of a stream, as soon as it is there."""
        name = self.response.readline()
        while name.startswith(b":"):  # a comment
            name = self.response.readline()
        data, empty = self.response.readline(), self.response.readline()
        secrets.told(data.decode())
        assert empty == b"\n"
        (event,) = parse_sse(name + data + empty)
        return event

    def close(self) -> None:
        """Close the connection as a client that is stopped."""
        if hasattr(self, "response"):
            self.response.close()
        self.socket.close()


@frozen
class Response:
    """A complete response of the proxy."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, response: http.client.HTTPResponse) -> Response:
        """Read a response to its end."""
        body = response.read()
        headers = {name.lower(): value for name, value in response.getheaders()}
        look = secrets.printed if headers.get("content-type") == _PROMETHEUS else secrets.told
        look(body.decode(errors="replace") + repr(headers))
        return cls(response.status, headers, body)

    @property
    def json(self) -> Any:
        """The JSON body of a response. Its type is one of the official SDK."""
        assert self.headers["content-type"] == "application/json"
        value = json.loads(self.body)
        check_sent(value)
        return value

    @property
    def error(self) -> tuple[int, str]:
        """Status and type of a well-formed error."""
        assert self.json["request_id"] == self.headers["request-id"]
        error_in(self.json)
        return self.status, str(self.json["error"]["type"])

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of a streamed response."""
        assert self.status == 200
        assert self.headers["content-type"] == "text/event-stream; charset=utf-8"
        found = parse_sse(self.body)
        check_grammar(found, whole=False)
        return found


def error_in(payload: dict[str, Any]) -> tuple[str, str]:
    """Type and message of the JSON of an error, which has to be well-formed."""
    assert payload.keys() == {"type", "error", "request_id"}
    assert payload["type"] == "error"
    assert payload["error"].keys() - {"details"} == {"type", "message"}
    assert payload["error"]["message"]
    assert payload["request_id"].startswith("req_")
    return str(payload["error"]["type"]), str(payload["error"]["message"])
